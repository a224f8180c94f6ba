"""How many conversations of what length a llama-server holds, and what that takes of memory.

One answer for the command line and for the estimate, so that they can't differ. The formula is of llama.cpp b10434 and
b11434 with flash attention on; its constants are explained at `footprint`.
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
PROGRAM: Final = 32 * MIB
"""Code, libraries and heap of a server without a model: 20 MiB for a llama-server, 45 for one in Python."""

CACHE_BYTES: Final = {
    "f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}  # fmt: skip
"""Bytes of one number in the KV cache, by ggml type: bytes of a block over its 32 numbers."""

PATTERN: Final = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2}
"""Every nth layer attends to everything, where the file does not say which layers slide."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a server is told to hold.

    Attributes:
        slots: concurrent requests.
        cells: tokens of `-c`, which llama.cpp divides among the slots (`-c 4096 -np 2` gives 2048 each).
        ubatch: tokens computed at once.
        keys, values: bytes of one number in the KV cache.
        swa_full: sliding-window layers keep everything.
    """

    slots: int
    cells: int
    ubatch: int = UBATCH
    keys: float = 2.0
    values: float = 2.0
    swa_full: bool = False

    @property
    def context(self) -> int:
        """Tokens that one request may fill."""
        return self.cells // self.slots


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
    Without `slots`: as many, up to four, as add no more to the cache than a quarter of the weights or 256 MiB. A user's
    `-c` without `slots` is for one request.
    """
    cells = flags.number(model.args, flags.CONTEXT)
    slots = model.slots
    if flags.given(model.args, flags.SLOTS):
        said = flags.number(model.args, flags.SLOTS)
        slots = said if said and said > 0 else MOST_SLOTS
    context = model.context or _default_context(model, facts)
    if cells == 0:  # llama-server's word for "as trained"
        cells = (facts.context if facts else None) or context
    plan = Layout(
        slots=slots or 1,
        cells=cells or context * (slots or 1),
        ubatch=flags.number(model.args, flags.UBATCH) or UBATCH,
        keys=CACHE_BYTES.get(flags.value(model.args, flags.KEY_TYPE) or "f16", 2.0),
        values=CACHE_BYTES.get(flags.value(model.args, flags.VALUE_TYPE) or "f16", 2.0),
        swa_full=flags.given(model.args, flags.SWA_FULL),
    )
    if slots is None and cells is None:
        plan = _with_cheap_slots(plan, facts)
    if kind_of(model, facts) is not Kind.CHAT and not flags.given(model.args, flags.UBATCH):
        plan = replace(
            plan, ubatch=plan.context
        )  # an input to embed is computed in one piece; a longer one is an error
    return plan


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


def footprint(plan: Layout, facts: ModelFacts) -> int:
    """Weights, KV cache, logits, compute buffers and the program itself, in bytes.

    The KV cache equals what b10434 logs in all configurations tried. The constants of the compute buffers were fitted
    to one CPU build on Gemma; on two models not used for that they came out 5 to 9 MiB too high. Against the resident
    memory of real servers with SmolLM2-135M (187 MiB estimated, context 2048): 13 MiB less for b11434, 13 MiB more for
    xllamacpp.
    Not counted: a GPU's context (300 to 500 MiB for CUDA), the vision projector, weights that a CPU build repacks and
    so holds twice, and llama-server's prompt cache in RAM (`--cache-ram`, it grows to 8 GiB at most). Measured figures
    replace this one.
    """
    return facts.weights + cache(plan, facts) + plan.slots * facts.vocabulary * 4 + compute(plan, facts) + PROGRAM


def cache(plan: Layout, facts: ModelFacts) -> int:
    """KV cache in bytes: cells x heads x (key length x bytes + value length x bytes), over all layers and slots."""
    if not facts.causal:
        return 0
    full, window = _full(plan), _window(plan, facts)
    cells = sum(
        (window if slides else full) * heads for heads, slides in zip(facts.heads_kv, sliding(facts), strict=True)
    )
    return int(cells * (facts.key_length * plan.keys + facts.value_length * plan.values) * plan.slots)


def compute(plan: Layout, facts: ModelFacts) -> int:
    """Activations of one ubatch and masks in f16, in bytes, and 6 MiB."""
    masked = _full(plan) + (_window(plan, facts) if facts.window else 0)
    return plan.ubatch * ((3 * facts.embedding + 2 * facts.feed_forward) * 4 + masked * 2) + 6 * MIB


def sliding(facts: ModelFacts) -> tuple[bool, ...]:
    """Which layers slide: as the file says, else by the architecture's pattern."""
    layers = len(facts.heads_kv)
    if not facts.window:
        return (False,) * layers
    if len(facts.sliding) == layers:
        return facts.sliding
    every = PATTERN.get(facts.architecture, 0)
    return tuple(every > 0 and layer % every < every - 1 for layer in range(layers))


def _full(plan: Layout) -> int:
    return _padded(plan.context)


def _window(plan: Layout, facts: ModelFacts) -> int:
    """Cells of a sliding layer: the window and one ubatch."""
    return _full(plan) if plan.swa_full else min(_full(plan), _padded(facts.window + plan.ubatch))


def _padded(cells: int) -> int:
    """llama.cpp allots cells in steps of 256."""
    return -(-cells // 256) * 256
