"""What a GGUF file says about its model: the facts that memory estimates and listings need.

Split files are read one by one and merged. Knows llama.cpp's key names; says nothing about memory itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from roundhouse.core.model import Kind
from roundhouse.formats import ggml, gguf_header
from roundhouse.formats.errors import FormatError
from roundhouse.formats.gguf_keys import Keys
from roundhouse.formats.gguf_layers import layers as kept_layers
from roundhouse.ports import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.formats.gguf_header import Header

MOST_LAYERS = 4096

EMBEDDERS = frozenset({
    "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "neo-bert", "eurobert",
    "gemma-embedding", "t5encoder",
})  # fmt: skip
"""Architectures that only embed."""

TABLES = frozenset({"token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"})
"""Tensors that are looked up in."""


def read(stream: BinaryIO, size: int) -> ModelFacts:
    """Facts of one file of `size` bytes, from a stream at its beginning.

    Raises FormatError if it is no GGUF file, is cut short (the last tensor ends beyond `size`), or is absurd.
    """
    header = gguf_header.read(stream, size)
    if header.end > size:
        raise FormatError(f"cut short: {size:,} of {header.end:,} bytes are there; the download may not be complete")
    return _facts(Keys(header.keys), header, size)


def merge(parts: Sequence[ModelFacts]) -> ModelFacts:
    """Facts of a split model from those of its parts, the first part first (it has the metadata)."""
    if not parts:
        raise FormatError("no parts")
    digest = hashlib.sha256("".join(part.fingerprint for part in parts).encode()).hexdigest()
    fingerprint = digest if len(parts) > 1 else parts[0].fingerprint
    return replace(
        parts[0],
        weights=sum(part.weights for part in parts),
        matrices=_summed([part.matrices for part in parts]),
        experts=_summed([part.experts for part in parts]),
        fingerprint=fingerprint,
    )


def _facts(keys: Keys, header: Header, size: int) -> ModelFacts:
    architecture = keys.text("general.architecture")
    of = keys.below(f"{architecture}.")
    layers = of.number("block_count")
    if layers > MOST_LAYERS:
        raise FormatError(f"the header speaks of {layers} layers")
    heads = of.numbers("attention.head_count")
    embedding = of.number("embedding_length")
    most_heads = max(heads, default=0)
    per_head = embedding // most_heads if most_heads else 0
    key_length = of.number("attention.key_length") or per_head
    kept = kept_layers(of, architecture, layers)
    latent = of.number("attention.key_length_mla") > 0 and of.number("attention.value_length_mla") > 0
    matrices, experts = _multiplied(header, writes=architecture not in EMBEDDERS)
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
        experts_used=of.number("expert_used_count"),
        expert_feed_forward=of.number("expert_feed_forward_length"),
        queries=most_heads * key_length,
        heads_kv=kept.heads_kv,
        key_length=key_length,
        value_length=0 if latent else of.number("attention.value_length") or per_head,
        window=kept.window,
        sliding=kept.sliding,
        sliding_key_length=of.number("attention.key_length_swa"),
        sliding_value_length=of.number("attention.value_length_swa"),
        state=kept.state,
        causal=of.truth("attention.causal", default=True),
        chat_template=bool(keys.text("tokenizer.chat_template")),
        vision=keys.truth("clip.has_vision_encoder", default=False),
        matrices=matrices,
        experts=experts,
        fingerprint=hashlib.sha256(f"{header.digest}:{size}".encode()).hexdigest(),
    )


def _multiplied(header: Header, *, writes: bool) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes by type of what is multiplied with: matrices, and stacks of them.

    The table of tokens is only looked up in, unless it is the output's matrix too, as it is in a model that writes and
    has no other (in a split one: whose part has no other).
    """
    matrices: dict[str, int] = {}
    experts: dict[str, int] = {}
    tied = writes and all(tensor.name != "output.weight" for tensor in header.tensors)
    for tensor in header.tensors:
        kind = ggml.NAMES.get(tensor.kind)
        if kind is None or tensor.length is None or not tensor.name.endswith(".weight"):
            continue
        if len(tensor.shape) == 3:
            experts[kind] = experts.get(kind, 0) + tensor.length
        elif len(tensor.shape) == 2 and (tensor.name not in TABLES or (tied and tensor.name == "token_embd.weight")):
            matrices[kind] = matrices.get(kind, 0) + tensor.length
    return matrices, experts


def _summed(many: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in many:
        for kind, size in one.items():
            total[kind] = total.get(kind, 0) + size
    return total


def _quantisation(keys: Keys) -> str | None:
    return ggml.FILES.get(keys.number("general.file_type", default=-1) & ~ggml.GUESSED)


def _kind(architecture: str, keys: Keys, of: Keys) -> Kind | None:
    """None for what is no model of its own: projectors, adapters, importance matrices, later parts."""
    if not architecture or architecture == "clip" or keys.text("general.type") not in {"", "model"}:
        return None
    pooling = of.number("pooling_type")
    if pooling == ggml.RANK:
        return Kind.RERANK
    embeds = pooling or architecture in EMBEDDERS or not of.truth("attention.causal", default=True)
    return Kind.EMBEDDING if embeds else Kind.CHAT
