"""What a GGUF file says about its model: the facts that memory estimates and listings need.

Split files are read one by one and merged. Knows llama.cpp's key names; says nothing about memory itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

from roundhouse.core.model import Kind
from roundhouse.formats import ggml, gguf_header
from roundhouse.formats.errors import FormatError
from roundhouse.ports import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.formats.gguf_header import Header, Skipped, Value

MOST_LAYERS = 4096

PATTERN = MappingProxyType({"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2})
"""Every Nth layer has full attention where the file has a window but no pattern (llama.cpp, src/models)."""

EMBEDDERS = frozenset({
    "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "eurobert",
    "gemma-embedding", "t5encoder",
})  # fmt: skip
"""Architectures that only embed."""


def read(stream: BinaryIO, size: int) -> ModelFacts:
    """Facts of one file of `size` bytes, from a stream at its beginning.

    Raises FormatError if it is no GGUF file, is cut short (the last tensor ends beyond `size`), or is absurd.
    """
    header = gguf_header.read(stream, size)
    if header.end > size:
        raise FormatError(f"cut short: {size:,} of {header.end:,} bytes are there; the download may not be complete")
    return _facts(_Keys(header.keys), header, size)


def merge(parts: Sequence[ModelFacts]) -> ModelFacts:
    """Facts of a split model from those of its parts, the first part first (it has the metadata)."""
    if not parts:
        raise FormatError("no parts")
    digest = hashlib.sha256("".join(part.fingerprint for part in parts).encode()).hexdigest()
    fingerprint = digest if len(parts) > 1 else parts[0].fingerprint
    return replace(parts[0], weights=sum(part.weights for part in parts), fingerprint=fingerprint)


def _facts(keys: _Keys, header: Header, size: int) -> ModelFacts:
    architecture = keys.text("general.architecture")
    of = keys.below(f"{architecture}.")
    layers = of.number("block_count")
    if layers > MOST_LAYERS:
        raise FormatError(f"the header speaks of {layers} layers")
    heads = of.numbers("attention.head_count")
    embedding = of.number("embedding_length")
    most_heads = max(heads, default=0)
    per_head = embedding // most_heads if most_heads else 0
    window = of.number("attention.sliding_window")
    return ModelFacts(
        format="gguf",
        architecture=architecture,
        name=keys.text("general.name"),
        weights=header.weights,
        context=of.number("context_length") or None,
        quantisation=_quantisation(keys),
        kind=_kind(architecture, keys, of),
        layers=layers,
        embedding=embedding,
        feed_forward=max(of.numbers("feed_forward_length"), default=0),
        vocabulary=keys.length("tokenizer.ggml.tokens") or of.number("vocab_size"),
        heads_kv=_per_layer(of.numbers("attention.head_count_kv") or heads, layers),
        key_length=of.number("attention.key_length") or per_head,
        value_length=of.number("attention.value_length") or per_head,
        window=window,
        sliding=_sliding(of, architecture, layers) if window else (),
        causal=of.truth("attention.causal", default=True),
        chat_template=bool(keys.text("tokenizer.chat_template")),
        vision=keys.truth("clip.has_vision_encoder", default=False),
        fingerprint=hashlib.sha256(f"{header.digest}:{size}".encode()).hexdigest(),
    )


def _quantisation(keys: _Keys) -> str | None:
    return ggml.FILES.get(keys.number("general.file_type", default=-1) & ~ggml.GUESSED)


def _kind(architecture: str, keys: _Keys, of: _Keys) -> Kind | None:
    """None for what is no model of its own: projectors, adapters, importance matrices, later parts."""
    if not architecture or architecture == "clip" or keys.text("general.type") not in {"", "model"}:
        return None
    pooling = of.number("pooling_type")
    if pooling == ggml.RANK:
        return Kind.RERANK
    embeds = pooling or architecture in EMBEDDERS or not of.truth("attention.causal", default=True)
    return Kind.EMBEDDING if embeds else Kind.CHAT


def _per_layer(figures: Sequence[int], layers: int) -> tuple[int, ...]:
    """One figure for each layer: a single one holds for all, and a short list goes on with its last."""
    if not figures:
        return ()
    return tuple(figures[min(layer, len(figures) - 1)] for layer in range(layers))


def _sliding(of: _Keys, architecture: str, layers: int) -> tuple[bool, ...]:
    """Which layers see only the window: the file's own list or period, else what llama.cpp has built in."""
    written = of.numbers("attention.sliding_window_pattern")
    if len(written) > 1:
        return tuple(bool(flag) for flag in _per_layer(written, layers))
    period = written[0] if written else PATTERN.get(architecture, 0)
    return tuple(bool(period) and layer % period < period - 1 for layer in range(layers))


class _Keys:
    """Metadata by type: a key of another type than asked for counts as absent."""

    def __init__(self, values: Mapping[str, Value | Skipped], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def below(self, prefix: str) -> _Keys:
        return _Keys(self._values, prefix)

    def text(self, key: str) -> str:
        value = self._values.get(self._prefix + key)
        return value if isinstance(value, str) else ""

    def truth(self, key: str, *, default: bool) -> bool:
        value = self._values.get(self._prefix + key)
        return value if isinstance(value, bool) else default

    def number(self, key: str, default: int = 0) -> int:
        """A whole number that can be meant: not negative, below 2 to the 40th."""
        many = self.numbers(key)
        return many[0] if many else default

    def numbers(self, key: str) -> list[int]:
        """The elements of an array, or the one number, as far as they can be meant."""
        value = self._values.get(self._prefix + key)
        many = value if isinstance(value, list) else [value]
        return [int(item) for item in many if isinstance(item, int) and 0 <= item < 2**40]

    def length(self, key: str) -> int:
        value = self._values.get(self._prefix + key)
        if isinstance(value, gguf_header.Skipped):
            return value.count
        return len(value) if isinstance(value, list) else 0
