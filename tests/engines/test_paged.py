from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Kind
from roundhouse.engines.paged import (
    CHEAP_CACHE,
    MOST_CONTEXTS,
    PAGE,
    UNKNOWN_CACHE,
    Said,
    cell_size,
    kind_of,
    pool,
    weights,
)
from tests.engines.models import embedder, llama_8b, model

NOTHING = Said()
GIB = 2**30


def test_a_token_of_llama_3_1_8b_takes_128_kib():
    assert cell_size(llama_8b(), NOTHING) == 32 * 8 * (128 + 128) * 2 == 131072


@pytest.mark.parametrize(
    ("said", "part"),
    [
        (Said(wide=1), 65536),
        (Said(wide=4), 262144),
        (Said(tensor=2), 65536),
        (Said(tensor=8), 16384),
        (Said(tensor=16), 16384),  # more GPUs than heads: they hold copies
        (Said(pipeline=2), 65536),
        (Said(tensor=2, pipeline=4), 16384),
    ],
)
def test_types_and_several_gpus_divide_it(said, part):
    assert cell_size(llama_8b(), said) == part


def test_latent_attention_keeps_one_vector_for_all_heads():
    facts = llama_8b(heads_kv=(1,) * 61, key_length=576, value_length=0)
    assert cell_size(facts, NOTHING) == 61 * 576 * 2
    assert cell_size(facts, Said(tensor=8)) == 61 * 576 * 2


def test_linear_layers_keep_a_state_for_each_request():
    facts = llama_8b(heads_kv=(0, 0, 0, 8), state=3_000_000)
    plain = llama_8b(heads_kv=(8,))
    assert cell_size(facts, NOTHING) == cell_size(plain, NOTHING)
    wanted = model(context=4096, slots=2)
    assert pool(wanted, facts, NOTHING).size == pool(wanted, plain, NOTHING).size + 2 * 3_000_000
    assert pool(wanted, facts, Said(tensor=2)).size == pool(wanted, plain, Said(tensor=2)).size + 3_000_000


def test_a_model_that_tells_nothing_gets_a_fixed_pool():
    assert pool(model(), None, NOTHING).size == UNKNOWN_CACHE
    assert pool(model(), llama_8b(heads_kv=()), NOTHING).size == UNKNOWN_CACHE


def test_d1_the_context_is_bounded_where_nobody_sets_it():
    assert pool(model(), llama_8b(), NOTHING).context == 16384
    assert pool(model(), llama_8b(context=4096), NOTHING).context == 4096
    assert pool(model(), None, NOTHING).context == 16384
    assert pool(model(context=65536), llama_8b(), NOTHING).context == 65536
    assert pool(model(context=65536), llama_8b(), Said(context=512)).context == 512


def test_the_users_slots_get_full_contexts_up_to_four_and_share_beyond():
    of = lambda slots: pool(model(context=1000, slots=slots), llama_8b(), NOTHING)  # noqa: E731 - read in a row
    assert [of(n).tokens for n in (1, 3, 4, 64)] == [1000, 3000, 4000, 4000]
    assert [of(n).slots for n in (1, 3, 4, 64)] == [1, 3, 4, 64]
    assert pool(model(slots=2), llama_8b(), Said(slots=3, tokens=777)).tokens == 777


def test_without_slots_the_pool_is_what_is_cheap_beside_the_weights():
    one = 16384 * 131072  # 2 GiB
    assert pool(model(), llama_8b(weights=4 * one), NOTHING).tokens == 2 * 16384
    assert pool(model(), llama_8b(weights=4 * one - 1), NOTHING).tokens == 16384
    assert pool(model(), llama_8b(weights=400 * one), NOTHING).tokens == 4 * 16384


@given(st.integers(1, 2**40), st.integers(1, 2**18), st.integers(1, 200), st.integers(1, 64), st.integers(1, 8))
def test_d1_the_pool_without_slots_holds_one_context_and_never_much_more_than_is_cheap(
    total, length, layers, heads, cut
):
    facts = llama_8b(weights=total, context=length, layers=layers, heads_kv=(heads,) * layers)
    said = Said(tensor=cut)
    made, cell = pool(model(), facts, said), cell_size(facts, said)
    contexts = made.tokens // made.context
    assert made.tokens == contexts * made.context
    assert 1 <= contexts <= MOST_CONTEXTS
    assert (contexts - 1) * made.context * cell <= max(weights(facts, said) // 4, CHEAP_CACHE)
    assert made.tokens * cell <= made.size <= (made.tokens + 2 * PAGE) * cell
    assert made.size % (PAGE * cell) == 0


def test_weights_are_divided_among_gpus():
    assert weights(llama_8b(weights=80 * GIB), Said(tensor=2, pipeline=2)) == 20 * GIB
    assert weights(None, NOTHING) == 0


def test_what_it_is_for_is_configured_or_in_its_files():
    assert kind_of(model(), None) is Kind.CHAT
    assert kind_of(model(), embedder()) is Kind.EMBEDDING
    assert kind_of(model(kind="rerank"), embedder()) is Kind.RERANK
    assert kind_of(model(), replace(embedder(), kind=None)) is Kind.CHAT
