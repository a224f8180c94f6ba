import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Kind
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.engines.llamacpp.layout import Layout, cache, compute, footprint, kind_of, layout, repacked
from tests.engines.models import MIB, embedder, gemma_270m, llama_8b, model


def test_context_is_what_one_request_may_fill_so_cells_are_that_times_the_slots():
    plan = layout(model(context=8192, slots=3), llama_8b())
    assert (plan.slots, plan.cells, plan.context) == (3, 24576, 8192)


@given(context=st.integers(256, 200_000), slots=st.integers(1, 32))
def test_each_slot_gets_the_context_that_was_asked_for(context: int, slots: int):
    assert layout(model(context=context, slots=slots), llama_8b()).context == context


@pytest.mark.parametrize(
    ("facts", "context"),
    [(llama_8b(), 16384), (llama_8b(context=4096), 4096), (llama_8b(context=None), 16384), (None, 16384)],
)
def test_without_context_as_trained_but_at_most_16384(facts, context):
    assert layout(model(), facts).context == context


def test_without_slots_one_where_the_cache_is_dear_and_four_where_it_is_cheap():
    assert layout(model(), llama_8b()).slots == 1
    assert layout(model(context=2048), llama_8b(weights=40_000_000_000)).slots == 4
    assert layout(model(context=2048), gemma_270m()).slots == 4
    assert layout(model(), None).slots == 1


def test_slots_chosen_here_add_no_more_than_a_quarter_of_the_weights():
    facts = llama_8b(weights=40 * 2**30)
    plan = layout(model(), facts)
    one = cache(Layout(1, plan.context), facts)
    assert plan.slots == 4
    assert cache(plan, facts) - one <= facts.weights / 4


def test_the_users_flags_are_what_is_counted():
    plan = layout(model(args=("-c", "4096", "-np", "2", "-ctk", "q8_0", "-ub", "1024")), llama_8b())
    assert plan == Layout(slots=2, cells=4096, ubatch=1024, keys=34 / 32)
    assert plan.context == 2048


def test_a_context_in_args_alone_is_for_one_request():
    assert layout(model(args=("-c", "4096")), llama_8b()) == Layout(1, 4096)


def test_context_zero_in_args_is_as_trained():
    assert layout(model(args=("-c", "0")), llama_8b()).cells == 131072


def test_automatic_slots_in_args_are_four():
    assert layout(model(args=("-np", "-1")), llama_8b()).slots == 4


def test_an_input_to_embed_fits_one_ubatch():
    plan = layout(model(), embedder())
    assert plan.ubatch == plan.context == 512
    assert layout(model(args=("-ub", "256")), embedder()).ubatch == 256
    assert layout(model(), embedder(context=32768)).context == 2048


def test_kind_is_as_configured_else_as_the_file_says():
    assert kind_of(model(kind="rerank"), embedder()) is Kind.RERANK
    assert kind_of(model(), embedder()) is Kind.EMBEDDING
    assert kind_of(model(), None) is Kind.CHAT


# What b10434 logs for its KV buffers (full and sliding layers), from the reference measurements.
@pytest.mark.parametrize(
    ("plan", "facts", "logged"),
    [
        (Layout(1, 4096), gemma_270m(), 12 + 15),
        (Layout(1, 32768), gemma_270m(), 96 + 15),
        (Layout(4, 8192), gemma_270m(), 24 + 60),
        (Layout(1, 8192, swa_full=True), gemma_270m(), 24 + 120),
        (Layout(1, 8192, keys=34 / 32, values=34 / 32), gemma_270m(), 12.75 + 7.97),
        (Layout(1, 8192), gemma_270m(), 24 + 15),
    ],
)
def test_the_kv_cache_equals_what_the_engine_logs(plan, facts, logged):
    assert cache(plan, facts) / MIB == pytest.approx(logged, abs=0.01)


# What b10434 logs on a CPU for a few layers of each model's widths, with `-c 4096 -np 1`; MiB. By how much ours may be off.
@pytest.mark.parametrize(
    ("facts", "ubatch", "logged", "off"),
    [
        (gemma_270m(), 512, 22.77, 0.05),
        (llama_8b(), 512, 120.01, 0.05),
        (llama_8b(), 256, 60.01, 0.05),
        (llama_8b(embedding=4096, feed_forward=12288), 512, 108.01, 0.05),  # Qwen3 8B
        (llama_8b(embedding=2048, feed_forward=8192, queries=2048), 512, 68.01, 0.05),  # Llama 3.2 1B
        (llama_8b(embedding=576, feed_forward=1536, queries=576), 512, 17.51, 0.05),  # SmolLM2 135M
        (llama_8b(embedding=3072, feed_forward=8192, queries=3072), 512, 76.01, 0.05),  # Phi 3 mini
        (llama_8b(embedding=1024, feed_forward=3072, queries=2048), 512, 26.01, 6.1),  # Qwen3 0.6B
        (llama_8b(embedding=4096, feed_forward=13696), 512, 116.26, 0.3),  # GLM 4 9B
        (
            llama_8b(embedding=2048, feed_forward=768, queries=4096, experts_used=8, expert_feed_forward=768),
            512, 92.01, 4.1,
        ),  # Qwen3 30B A3B
        (llama_8b(embedding=512, feed_forward=1408, queries=9216), 512, 52.01, 8.1),  # DeepSeek V2 Lite, a fourth wide
        (embedder(), 512, 5.76, 0.05),  # all-MiniLM-L6
    ],
)  # fmt: skip
def test_compute_buffers_are_near_what_the_engine_logs(facts, ubatch, logged, off):
    assert 0 <= compute(Layout(1, 4096, ubatch), facts) / MIB - logged + 0.05 <= off + 0.05


def test_masks_grow_with_the_context():
    assert compute(Layout(1, 32768), gemma_270m()) / MIB == pytest.approx(50.77, abs=0.05)
    assert compute(Layout(2, 4096), gemma_270m()) / MIB == pytest.approx(20.77, abs=0.05)


def test_slots_that_share_their_cells_need_them_once_and_a_window_each():
    alone, shared = Layout(4, 8192), Layout(4, 8192, unified=True)
    assert shared.context == 8192
    assert alone.context == 2048
    assert cache(shared, llama_8b()) == cache(alone, llama_8b())
    assert cache(shared, gemma_270m()) == (24 + 15 * 10 // 4) * MIB + MIB // 2  # 2560 cells that slide, not 1024


@pytest.mark.parametrize(
    ("args", "unified"),
    [
        ((), False),
        (("-kvu",), True),
        (("--kv-unified", "-no-kvu"), False),
        (("-np", "4"), False),
        (("-np", "-1"), True),
        (("-np", "2", "-kvu"), True),
    ],
)
def test_slots_share_where_the_user_says_so_or_leaves_their_number_to_the_engine(args, unified):
    assert layout(model(args=args), gemma_270m()).unified is unified


def test_a_ubatch_is_no_larger_than_the_batch():
    assert layout(model(args=("-b", "128")), llama_8b()).ubatch == 128


def test_recurrent_layers_keep_a_state_for_each_slot():
    facts = llama_8b(heads_kv=(0, 0, 8, 0), state=3 * MIB)
    assert cache(Layout(2, 4096), facts) == cache(Layout(2, 4096), llama_8b(heads_kv=(8,))) + 6 * MIB


def test_a_model_without_a_cache_has_none():
    assert cache(Layout(4, 2048), embedder()) == 0


def test_d1_the_footprint_is_weights_cache_logits_and_compute():
    facts, plan = llama_8b(), Layout(2, 8192)
    parts = facts.weights + 2**30 + 2 * 128256 * 4 + compute(plan, facts) + 27 * MIB + 128256 * 104
    assert footprint(plan, facts) == parts
    assert LlamaCpp().footprint(model(context=4096, slots=2), facts) == parts


def test_d1_no_footprint_without_facts():
    assert LlamaCpp().footprint(model(), None) is None
    assert LlamaCpp().footprint(model(), llama_8b(weights=0)) is None


@given(st.integers(1, 8), st.integers(256, 100_000))
def test_more_room_never_takes_less_memory(slots: int, context: int):
    facts = gemma_270m()
    smaller = footprint(Layout(slots, context * slots), facts)
    assert smaller <= footprint(Layout(slots + 1, context * (slots + 1)), facts)
    assert smaller <= footprint(Layout(slots, (context + 256) * slots), facts)


MIXED = {"Q4_K": 100 * MIB, "Q6_K": 10 * MIB, "Q4_1": 1 * MIB, "F32": 1000 * MIB}


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        ((), 0),
        (("sse4_2",), 0),
        (("avx2",), 100 + 7),
        (("avx2", "avx512f"), 100 + 7),
        (("avx2", "amx_int8"), 100 * 148 / 144 + 11 + 7),
        (("asimddp",), 110 + 7),
    ],
)
def test_weights_that_this_processor_repacks_are_held_twice(flags, size):
    facts = llama_8b(matrices=MIXED, experts={"Q4_K": 7 * MIB, "Q4_1": 70 * MIB})
    wanted = model(context=4096, slots=1)
    assert repacked(wanted, facts, frozenset(flags)) == int(size * MIB)
    more = (LlamaCpp().footprint(wanted, facts, frozenset(flags)) or 0) - (LlamaCpp().footprint(wanted, facts) or 0)
    assert more == int(size * MIB)


def test_what_amx_holds_is_what_the_engine_logs():
    smollm2 = llama_8b(matrices={"Q8_0": 28.69 * MIB, "Q4_1": 63.28 * MIB})
    gemma = gemma_270m(matrices={"Q8_0": 171.49 * MIB, "Q5_0": 41.57 * MIB, "Q4_K": 12.66 * MIB, "Q6_K": 9.23 * MIB})
    for facts, logged in ((smollm2, 95.34), (gemma, 213.91)):
        assert repacked(model(), facts, frozenset({"avx2", "amx_int8"})) / MIB == pytest.approx(logged, abs=0.02)


@pytest.mark.parametrize(
    ("args", "twice"),
    [
        (("--no-repack",), False),
        (("-nr",), False),
        (("-nr", "--repack"), True),
        (("--no-mmap",), False),
        (("-lm", "none"), False),
        (("--load-mode", "mlock"), True),
        (("-lm", "mmap+mlock"), True),
    ],
)
def test_nothing_is_held_twice_where_the_user_says_so(args, twice):
    facts = llama_8b(matrices=MIXED)
    assert bool(repacked(model(args=args), facts, frozenset({"avx2"}))) is twice
