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


def test_d1_layers_that_slide_keep_windows_for_the_requests_at_once_and_no_context():
    half = facts(window=1024, sliding=(True, False) * 31)
    assert cache(half) == pytest.approx(cache(facts()) / 2)
    short, more = tabby_model(max_seq_len=256), tabby_model(max_seq_len=256, options={"max_batch_size": 7})
    one = 31 * 1536 * 16 * 256 * 2
    assert memory.cache(short, half) - memory.cache(short, facts()) / 2 == 4 * one
    assert memory.cache(more, half) - memory.cache(short, half) == 3 * one
    assert cache(facts(window=1024, sliding=(True, False) * 31, format="exl2")) == pytest.approx(cache(facts()))


def test_d1_latent_keys_keep_their_positions_at_full_width():
    latent = facts(heads_kv=(1,) * 61, key_length=576, value_length=0)
    assert cache(latent) == pytest.approx(10240 * 61 * 1152)  # figures of exllamav3's cache/mla.py
    assert cache(latent, cache_mode="Q8") == pytest.approx(10240 * 61 * 672)
    assert cache(latent, cache_mode="Q4") == pytest.approx(10240 * 61 * 416)


def test_d1_weights_and_the_program_count():
    assert (
        memory.footprint(tabby_model(max_seq_len=256), facts(heads_kv=()))
        == int(13_500_000_000 * 1.05) + memory.PROGRAM
    )
