import pytest

from roundhouse.engines.tabbyapi import memory
from tests.engines.tabbyapi.samples import facts, tabby_model

MIB = 2**20


def cache(read, **said) -> float:
    """Bytes of the cache alone."""
    small = memory.footprint(tabby_model(max_seq_len=2048, **said), read)
    return (memory.footprint(tabby_model(max_seq_len=2048 + 10240, **said), read) - small) / 1.05


def test_d1_the_cache_of_10240_more_tokens_as_users_measured_it():
    assert cache(facts(), cache_mode="Q6") == pytest.approx(2000 * MIB, rel=0.02)


@pytest.mark.parametrize(("mode", "share"), [("Q8", 8.5 / 16), ("Q4", 4.5 / 16), ("8,4", 6.5 / 16)])
def test_d1_a_quantised_cache_has_half_a_bit_more_per_number(mode, share):
    assert cache(facts(), cache_mode=mode) == pytest.approx(cache(facts()) * share)


def test_d1_layers_that_slide_keep_no_context():
    half = facts(window=1024, sliding=(True, False) * 31)
    assert cache(half) == pytest.approx(cache(facts()) / 2)


def test_d1_weights_and_the_program_count():
    assert (
        memory.footprint(tabby_model(max_seq_len=256), facts(heads_kv=()))
        == int(13_500_000_000 * 1.05) + memory.PROGRAM
    )
