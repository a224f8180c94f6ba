"""How many conversations of what length a llama-server holds, and what that takes of memory.

One answer for the command line and for the estimate, so that they can't differ. The formulas are those of llama.cpp
b10434 with flash attention on (without it, layers of different widths are padded to the widest).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Kind
from roundhouse.engines.llamacpp import flags

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import ModelFacts

MIB: Final = 2**20
DEFAULT_CONTEXT: Final = 16384
DEFAULT_EMBEDDING_CONTEXT: Final = 2048
MOST_SLOTS: Final = 4
CHEAP_CACHE: Final = 256 * MIB
UBATCH: Final = 512
PROGRAM: Final = 27 * MIB
"""Code, libraries and heap of a server without a model (18 to 25 MiB of them libraries, in b10434's package)."""
TOKEN: Final = 104
"""Bytes of an entry of the vocabulary: about 80 in the heap and 24 in the file, which is mapped as a whole."""

REPACKED: Final = {
    "avx2": ("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"),
    "avx512f": ("Q2_K",),
    "asimddp": ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"),
}
"""Types of weights that are repacked, by the processor's flag (`ggml-cpu/repack.cpp` of b10605)."""
AMX: Final = {
    "Q4_0": 1.0, "Q4_1": 1.0, "Q8_0": 38 / 34, "Q4_K": 148 / 144, "Q5_K": 180 / 176, "Q6_K": 1.0, "IQ4_XS": 138 / 136,
    "F16": 1.0,
}  # fmt: skip
"""The same with `amx_int8`, for all but stacks of experts, and how much larger they become (`ggml-cpu/amx`)."""

CACHE_BYTES: Final = {
    "f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}  # fmt: skip
"""Bytes of one number in the KV cache, by ggml type: bytes of a block over its 32 numbers."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a server is told to hold.

    Attributes:
        slots: concurrent requests.
        cells: tokens of `-c`, which llama.cpp divides among the slots (`-c 4096 -np 2` gives 2048 each).
        ubatch: tokens computed at once.
        keys, values: bytes of one number in the KV cache.
        swa_full: sliding-window layers keep everything.
        unified: the slots share all cells, and each may fill them.
    """

    slots: int
    cells: int
    ubatch: int = UBATCH
    keys: float = 2.0
    values: float = 2.0
    swa_full: bool = False
    unified: bool = False

    @property
    def context(self) -> int:
        """Tokens that one request may fill."""
        return self.cells if self.unified else self.cells // self.slots


def kind_of(model: ModelConfig, facts: ModelFacts | None) -> Kind:
    """What the model is for: as configured, else as its file says, else chat."""
    if model.kind != "auto":
        return Kind(model.kind)
    return (facts.kind if facts else None) or Kind.CHAT


def layout(model: ModelConfig, facts: ModelFacts | None) -> Layout:
    """What `context`, `slots` and the user's own flags come to.

    `context` is what one request may fill, so `-c` is that times the slots. llama-server's own default, four slots that
    share one cache, is not used: when its requests together outgrow the cache, all of them end with a 500.

    Without `context`: as trained, at most 16384 (2 GiB of KV cache for an 8B model of today), or 2048 for embeddings.
    The engine's default, all that the model was trained for, can be several times the weights.
    With `sessions`, layers of a sliding window keep everything where that is cheap, for what they leave out can't be
    brought back (`slots`).

    Without `slots`: as many, up to four, as add no more to the cache than a quarter of the weights or 256 MiB. A user's
    `-c` without `slots` is for one request.
    """
    cells = flags.number(model.args, flags.CONTEXT)
    slots, unified = model.slots, flags.last(model.args, flags.UNIFIED, flags.NOT_UNIFIED)
    if flags.given(model.args, flags.SLOTS):
        said = flags.number(model.args, flags.SLOTS)
        slots = said if said and said > 0 else MOST_SLOTS
        unified = unified or not (said and said > 0)  # llama-server's own number of slots share one cache
    context = model.context or _default_context(model, facts)
    if cells == 0:  # llama-server's word for "as trained"
        cells = (facts.context if facts else None) or context
    plan = Layout(
        slots=slots or 1,
        cells=cells or context * (slots or 1),
        ubatch=_ubatch(model),
        keys=CACHE_BYTES.get(flags.value(model.args, flags.KEY_TYPE) or "f16", 2.0),
        values=CACHE_BYTES.get(flags.value(model.args, flags.VALUE_TYPE) or "f16", 2.0),
        swa_full=flags.given(model.args, flags.SWA_FULL),
        unified=unified,
    )
    if _window_is_cheap(model, plan, facts):
        plan = replace(plan, swa_full=True)
    if slots is None and cells is None:
        plan = _with_cheap_slots(plan, facts)
    if kind_of(model, facts) is not Kind.CHAT and not flags.given(model.args, flags.UBATCH):
        plan = replace(
            plan, ubatch=plan.context
        )  # an input to embed is computed in one piece; a longer one is an error
    return plan


def _window_is_cheap(model: ModelConfig, plan: Layout, facts: ModelFacts | None) -> bool:
    if not model.sessions or facts is None or not facts.window or model.script is not None:
        return False
    return window_cost(plan, facts) <= max(facts.weights // 4, CHEAP_CACHE)


def window_cost(plan: Layout, facts: ModelFacts) -> int:
    """Bytes that the cache grows by when layers of a sliding window keep everything (`--swa-full`)."""
    return cache(replace(plan, swa_full=True), facts) - cache(plan, facts)


def _ubatch(model: ModelConfig) -> int:
    """It is no larger than the batch, nor (but that makes no difference here) than the context."""
    said, batch = flags.number(model.args, flags.UBATCH) or UBATCH, flags.number(model.args, flags.BATCH)
    return min(said, batch) if batch else said


def _with_cheap_slots(plan: Layout, facts: ModelFacts | None) -> Layout:
    if facts is None:
        return plan
    one = cache(plan, facts)
    spare = max(facts.weights // 4, CHEAP_CACHE)
    slots = min(MOST_SLOTS, 1 + spare // one) if one else MOST_SLOTS
    return replace(plan, slots=slots, cells=plan.context * slots)


def _default_context(model: ModelConfig, facts: ModelFacts | None) -> int:
    most = DEFAULT_CONTEXT if kind_of(model, facts) is Kind.CHAT else DEFAULT_EMBEDDING_CONTEXT
    return min((facts.context if facts else None) or most, most)


def footprint(plan: Layout, facts: ModelFacts, repacked: int = 0) -> int:
    """Bytes of all parts."""
    return sum(parts(plan, facts, repacked).values())


def parts(plan: Layout, facts: ModelFacts, repacked: int = 0) -> dict[str, int]:
    """Weights, what of them is held once more, KV cache, logits and compute buffers, and the program itself, in bytes.

    On three real models the sum is within 10 % of what the processes occupied (docs/engines/llamacpp.md). Not counted:
    a GPU's context (300 to 500 MiB for CUDA), the vision projector, and llama-server's prompt cache in RAM
    (`--cache-ram`, it grows to 8 GiB at most). Measured figures replace this one.
    """
    logits = plan.slots * facts.vocabulary * 4
    return {
        "weights": facts.weights,
        "repacked": repacked,
        "cache": cache(plan, facts),
        "compute": logits + compute(plan, facts),
        "program": program(facts.vocabulary),
    }


def program(vocabulary: int) -> int:
    """Bytes of a server beside its model's buffers."""
    return PROGRAM + vocabulary * TOKEN


def repacked(model: ModelConfig, facts: ModelFacts, processor: frozenset[str]) -> int:
    """Bytes of weights that a CPU holds twice: mapped, and once more in an order of its own (`CPU_REPACK`, `AMX`).

    Which types depends on the processor and on what the build was compiled for; taken is that it was compiled for this
    one. Nothing is held twice on a GPU, with `--no-repack`, or where the file is not mapped.
    """
    if flags.last(model.args, flags.NO_REPACK, flags.REPACK) or not _mapped(model):
        return 0
    plain = {kind: 1.0 for flag, kinds in REPACKED.items() if flag in processor for kind in kinds}
    matrices = plain | (AMX if "amx_int8" in processor else {})
    twice = sum(size * matrices.get(kind, 0.0) for kind, size in facts.matrices.items())
    return int(twice + sum(size * plain.get(kind, 0.0) for kind, size in facts.experts.items()))


def _mapped(model: ModelConfig) -> bool:
    mode = flags.value(model.args, flags.LOAD_MODE)
    mapped = mode in {None, "auto", "mmap", "mlock", "mmap+mlock"}
    return mapped and not flags.last(model.args, flags.NO_MMAP, flags.MMAP)


def cache(plan: Layout, facts: ModelFacts) -> int:
    """KV cache and recurrent state in bytes: equal to what b10434 logs, for the shapes in tests/engines/llamacpp.

    Per layer: cells x heads x (key length x bytes + value length x bytes), for each slot, or once where slots share.
    Recurrent layers keep a state per slot instead (llama.cpp, `llama_kv_cache` and `llama_memory_recurrent`).
    """
    full, window = _full(plan), _window(plan, facts)
    wide = facts.key_length * plan.keys + facts.value_length * plan.values
    narrow = (facts.sliding_key_length or facts.key_length) * plan.keys
    narrow += (facts.sliding_value_length or facts.value_length) * plan.values
    layers = zip(facts.heads_kv, facts.sliding or (False,) * len(facts.heads_kv), strict=True)
    kept = sum(heads * (window * narrow if slides else full * wide) for heads, slides in layers)
    return int(kept * (1 if plan.unified else plan.slots)) + facts.state * plan.slots


def compute(plan: Layout, facts: ModelFacts) -> int:
    """Activations of one ubatch in f32 and masks in f16, in bytes.

    The largest of what a layer has at once in its feed-forward part, its experts and its attention. Fitted to what
    b10434 logs for layers with the widths of published models, on a CPU: dense ones within 0.3 MiB; mixtures of experts
    and latent attention up to 17 % less than this; hybrids up to a third more, as recurrent parts are not counted.
    """
    wide, forward = facts.embedding, facts.feed_forward
    if not any(facts.heads_kv) and not facts.state:  # an encoder: it has no gate, and looks at its ubatch alone
        return plan.ubatch * ((forward + 3 * wide) * 4 + plan.ubatch * 2)
    most = max(
        3 * forward + 3 * wide + facts.queries,
        facts.experts_used * 2 * (wide + facts.expert_feed_forward) + wide,
        2 * wide + 3 * facts.queries,
    )
    masked = _full(plan) + (_window(plan, facts) if facts.window else 0)
    return plan.ubatch * (most * 4 + masked * 2)


def _full(plan: Layout) -> int:
    """Cells of one slot, or of all where they share (`n_ctx_seq`)."""
    cells = _padded(plan.cells)
    return cells if plan.unified else _padded(cells // plan.slots)


def _window(plan: Layout, facts: ModelFacts) -> int:
    """Cells of a sliding layer: the window, one for each slot that shares them, and one ubatch."""
    windows = facts.window * (plan.slots if plan.unified else 1)
    return _full(plan) if plan.swa_full else _padded(min(_full(plan), windows + plan.ubatch))


def _padded(cells: int) -> int:
    """llama.cpp allots cells in steps of 256."""
    return -(-cells // 256) * 256
