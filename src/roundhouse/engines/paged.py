"""How many tokens an engine's paged KV cache is told to hold, and what that takes of memory.

One answer for the command line and for the estimate, so that they can't differ. For engines whose conversations share
one pool of pages, taken as they grow: when it is full, requests wait or are computed again, none fails. Knows models by
their facts, and no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Kind

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import ModelFacts

MIB: Final = 2**20
DEFAULT_CONTEXT: Final = 16384
DEFAULT_SLOTS: Final = 16
MOST_CONTEXTS: Final = 4
CHEAP_CACHE: Final = 256 * MIB
UNKNOWN_CACHE: Final = 4096 * MIB
"""Bytes of a pool for a model whose files don't tell: a context of 16384 of all but the largest models."""
PAGE: Final = 128
"""Tokens: the largest page in use (vLLM on CPUs; 16 on GPUs; SGLang's have 1 to 64)."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the user's own arguments say, None where nothing.

    Attributes:
        context: tokens of one request.
        slots: concurrent requests.
        tokens: of the whole pool.
        wide: bytes of one number in the cache.
        tensor: GPUs that every layer is cut across.
        pipeline: GPUs that the layers are dealt out to.
    """

    context: int | None = None
    slots: int | None = None
    tokens: int | None = None
    wide: int = 2
    tensor: int = 1
    pipeline: int = 1


@dataclass(frozen=True, slots=True)
class Pool:
    """What a server is told to hold.

    Attributes:
        slots: concurrent requests.
        context: tokens that one request may fill.
        tokens: of the whole pool.
        size: bytes of the pool on each GPU.
    """

    slots: int
    context: int
    tokens: int
    size: int


def kind_of(model: ModelConfig, facts: ModelFacts | None) -> Kind:
    """What the model is for: as configured, else as its files say, else chat."""
    if model.kind != "auto":
        return Kind(model.kind)
    return (facts.kind if facts else None) or Kind.CHAT


def pool(model: ModelConfig, facts: ModelFacts | None, said: Said) -> Pool:
    """What `context`, `slots` and the user's own arguments come to.

    Without `context`: as trained, at most 16384. The engines' default, all that the model was trained for, can be
    several times the weights.
    Linear layers keep a state for each request in the same pool.
    The pool holds as many full contexts as there are `slots`, at most four: conversations are rarely full, and share.
    Without `slots` it holds as many, up to four, as add no more than a quarter of the weights or 256 MiB, and 16
    requests share it.
    """
    context = (
        said.context or model.context or min((facts.context if facts else None) or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    )
    cell = cell_size(facts, said)
    slots = said.slots or model.slots
    contexts = min(slots, MOST_CONTEXTS) if slots else _cheap(context * cell, weights(facts, said))
    tokens = said.tokens or context * contexts
    states = (facts.state if facts else 0) * (slots or DEFAULT_SLOTS) // (said.tensor * said.pipeline)
    size = (-(-tokens // PAGE) + 1) * PAGE * cell + states  # vLLM keeps one page for itself
    return Pool(slots or DEFAULT_SLOTS, context, tokens, size or UNKNOWN_CACHE)


def weights(facts: ModelFacts | None, said: Said) -> int:
    """Bytes of the weights on each GPU; 0 where the facts don't tell."""
    return facts.weights // (said.tensor * said.pipeline) if facts else 0


def cell_size(facts: ModelFacts | None, said: Said) -> int:
    """Bytes of one token in the KV cache of one GPU, over its layers; 0 where the facts don't tell.

    A layer's heads x (key length + value length) x bytes of a number. Sliding windows are not made use of, as the
    engines save by them only for some models; a head is never cut, so that GPUs beyond the heads hold copies (as all do
    of latent attention's one).
    """
    if facts is None:
        return 0
    heads = sum(-(-heads // said.tensor) for heads in facts.heads_kv)
    return -(-heads // said.pipeline) * (facts.key_length + facts.value_length) * said.wide


def _cheap(one: int, weights: int) -> int:
    spare = max(weights // 4, CHEAP_CACHE)
    return min(MOST_CONTEXTS, 1 + spare // one) if one else 1
