"""What llama.cpp keeps per token, and per request, for each layer of a GGUF model: heads, windows, recurrent state.

Files name figures; which layers they hold for is partly built into llama.cpp, by architecture. Source: `src/models`,
`llama-hparams.cpp` and `llama_model::create_memory` of b10605, held against the log of b10434 by tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.formats.gguf_keys import Keys

PERIOD = MappingProxyType({
    "gemma2": 2, "gemma3": 6, "gemma3n": 5, "gemma-embedding": 6, "cohere2": 4, "gpt-oss": 2, "llama4": 4,
    "exaone4": 4, "exaone-moe": 4, "olmo2": 4, "plamo3": 8, "afmoe": 4, "smallthinker": 4,
})  # fmt: skip
"""Every Nth layer has full attention in these, unless the file names another N; a list of layers is not looked at."""

FULL_FIRST = frozenset({"smallthinker", "cohere2moe", "laguna"})
"""In these, the first layer of a period has full attention, else it is the last."""

WINDOW = MappingProxyType({"gemma2": 4096, "llama4": 8192, "exaone-moe": 128})
"""Windows of architectures that have one even where the file names none."""

SHARED_FROM = MappingProxyType({"gemma3n": 20})
"""Layers from here on use the keys and values of earlier ones. Gemma 4 files say how many they are."""

TRUNK_ONLY = frozenset({
    "step35", "hy_v3", "glm-dsa", "mimo2", "deepseek32", "qwen3next", "qwen35", "qwen35moe", "bailingmoe3",
    "nemotron_h", "nemotron_h_moe",
})  # fmt: skip
"""In these, layers that only draft tokens (`nextn_predict_layers`) have no cache; in others they have."""

NOTHING_KEPT = frozenset({
    "bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert", "modern-bert",
    "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1",
})  # fmt: skip
"""Embedders and diffusion models: every input is computed as a whole."""

INTERVAL = MappingProxyType({"qwen3next": 4, "qwen35": 4, "qwen35moe": 4})
"""Every Nth layer has attention, the others are recurrent, unless the file says otherwise."""

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
"""No attention at all."""

BOTH = frozenset({"falcon-h1"})
"""Each layer has attention and a recurrent state."""

HYBRID = frozenset({
    "jamba", "plamo2", "granitehybrid", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "kimi-linear", "kimi-k3",
    "bailingmoe3",
})  # fmt: skip
"""Layers without key heads are recurrent (in Nemotron-H only if they have no feed-forward part either)."""

STATE_BYTES = 4
"""Recurrent state is kept as f32."""


@dataclass(frozen=True, slots=True)
class Layers:
    """What is kept.

    Attributes:
        heads_kv: per layer that has a cache of its own, 0 where it has none.
        window: tokens that sliding layers keep; 0 if none slides.
        sliding: which layers slide, empty if none does.
        state: bytes of recurrent state per request, over all layers.
    """

    heads_kv: tuple[int, ...] = ()
    window: int = 0
    sliding: tuple[bool, ...] = ()
    state: int = 0


def layers(of: Keys, architecture: str, count: int) -> Layers:
    """By the keys of an architecture, for `count` layers."""
    if architecture in NOTHING_KEPT:
        return Layers((0,) * count)
    heads = per_layer(of.numbers("attention.head_count_kv") or of.numbers("attention.head_count"), count)
    drafting = min(of.number("nextn_predict_layers"), count)
    recurrent = _recurrent(of, architecture, heads, count - drafting, count)
    keeps = _keeping(of, architecture, recurrent, count - drafting if architecture in TRUNK_ONLY else count)
    window, sliding = _window(of, architecture, count), _sliding(of, architecture, count - drafting, count)
    if not window or not any(sliding):
        window, sliding = 0, ()
    heads = tuple(number if keep else 0 for number, keep in zip(heads, keeps, strict=bool(heads)))
    return Layers(heads, window, sliding, sum(recurrent) * _state(of) * STATE_BYTES)


def per_layer(figures: Sequence[int], count: int) -> tuple[int, ...]:
    """One figure for each layer: a single one holds for all, and a short list goes on with its last."""
    if not figures:
        return ()
    return tuple(figures[min(layer, len(figures) - 1)] for layer in range(count))


def _recurrent(of: Keys, architecture: str, heads: Sequence[int], trunk: int, count: int) -> tuple[bool, ...]:
    if architecture in RECURRENT | BOTH:
        return (True,) * count
    if architecture in INTERVAL:
        if written := of.numbers("attention.recurrent_layers"):
            return tuple(map(bool, per_layer(written, count)))
        every = of.number("full_attention_interval") or INTERVAL[architecture]
        return tuple(layer < trunk and (layer + 1) % every != 0 for layer in range(count))
    if architecture in HYBRID and heads:
        forward = per_layer(of.numbers("feed_forward_length") or [0], count)
        whole = architecture.startswith("nemotron")
        return tuple(layer < trunk and heads[layer] == 0 and not (whole and forward[layer]) for layer in range(count))
    return (False,) * count


def _keeping(of: Keys, architecture: str, recurrent: Sequence[bool], until: int) -> tuple[bool, ...]:
    """Which layers have a cache of their own."""
    if architecture in RECURRENT:
        return (False,) * len(recurrent)
    if architecture == "gemma4":
        until = len(recurrent) - min(of.number("attention.shared_kv_layers"), len(recurrent))
    until = min(until, SHARED_FROM.get(architecture, until))
    return tuple(
        layer < until and (architecture in BOTH or not holds_state) for layer, holds_state in enumerate(recurrent)
    )


def _window(of: Keys, architecture: str, count: int) -> int:
    written = of.number("attention.sliding_window")
    if architecture == "llama4":
        return 0 if of.has("attention.sliding_window") and not written else WINDOW["llama4"]
    if architecture == "smallthinker":
        return 4096 if written else 0
    if architecture == "exaone4":
        return (written or 4096) if count - of.number("nextn_predict_layers") == 64 else 0
    return written or WINDOW.get(architecture, 0)


def _sliding(of: Keys, architecture: str, trunk: int, count: int) -> tuple[bool, ...]:
    """Which layers see only the window: by period, or by the file's list."""
    key = "attention.sliding_window_pattern"
    if of.is_array(key) and architecture not in PERIOD:
        return tuple(map(bool, per_layer(of.numbers(key), count)))
    period = PERIOD.get(architecture, 0) if of.is_array(key) else of.number(key, PERIOD.get(architecture, 0))
    full = 0 if architecture in FULL_FIRST else period - 1
    return tuple(bool(period) and layer < trunk and layer % period != full for layer in range(count))


def _state(of: Keys) -> int:
    """Numbers that one recurrent layer keeps per request (`n_embd_r` and `n_embd_s` in llama.cpp)."""
    embedding, kernel = of.number("embedding_length"), of.number("ssm.conv_kernel")
    if width := of.number("wkv.head_size"):
        return of.number("token_shift_count", 2) * embedding + embedding * width
    if cached := of.number("shortconv.l_cache"):
        return embedding * (cached - 1)
    if width := of.number("kda.head_dim"):
        inner = of.number("attention.head_count") * width
        return 3 * (kernel - 1 if kernel else 3) * inner + width * inner
    inner, state = of.number("ssm.inner_size"), of.number("ssm.state_size")
    return max(kernel - 1, 0) * (inner + 2 * of.number("ssm.group_count") * state) + state * inner
