"""What a folder of safetensors says about its model: config.json and the headers of its weight files.

Pure: the caller reads the files. A header is 8 bytes of length (little endian), then JSON of tensors with offsets.
Source: the safetensors format description; key names are those of Hugging Face transformers.
"""

from __future__ import annotations

import hashlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from roundhouse.core.model import Kind
from roundhouse.formats.errors import FormatError
from roundhouse.ports import ModelFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

MOST_LAYERS = 4096
LINEAR = "linear_attention"

PERIOD = MappingProxyType({"gemma2": 2, "gemma3_text": 6, "cohere2": 4})
"""Every Nth layer sees everything, the others a window, where a config.json from before `layer_types` does not say."""

INTERVAL = MappingProxyType({"qwen3_next": 4})
"""Every Nth layer has attention, the others are linear, where nothing is said."""

EXPANDED = frozenset({"minicpm3"})
"""Models with latent attention whose cache holds full keys and values (in vLLM; other engines may do with less)."""

UNSAID: Mapping[str, Mapping[str, int]] = MappingProxyType({
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256, "sliding_window": 4096},
    "gemma3_text": {
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_size": 2304,
        "intermediate_size": 9216, "num_hidden_layers": 26, "sliding_window": 4096, "vocab_size": 262208,
        "max_position_embeddings": 131072,
    },
})  # fmt: skip
"""Figures that published files leave out, as transformers has them by default: Gemma 3 4B says no heads at all."""


def header_length(first: bytes, size: int) -> int:
    """Bytes of the JSON header after the first 8, for a file of `size` bytes. Raises FormatError."""
    if len(first) < 8:
        raise FormatError("cut short: a safetensors file has at least 8 bytes")
    length = int.from_bytes(first[:8], "little")
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise FormatError("not a safetensors file, or cut short: its header does not fit")
    return length


def weights(header: bytes, size: int | None = None) -> int:
    """Bytes of all tensors of one file, from its JSON header. Raises FormatError if `size` bytes can't hold them."""
    tensors = document(header, "the header")
    ends = [_span(entry) for name, entry in tensors.items() if name != "__metadata__"]
    last = max((end for _, end in ends), default=0)
    if size is not None and 8 + len(header) + last > size:
        raise FormatError(f"cut short: {size:,} of {8 + len(header) + last:,} bytes are there")
    return sum(end - begin for begin, end in ends)


def facts(config: bytes, headers: Iterable[tuple[bytes, int]], *, chat_template: bool = False) -> ModelFacts:
    """Facts from config.json and (header, file size) of each weight file. Raises FormatError."""
    whole = document(config, "config.json")
    text = whole["text_config"] if isinstance(whole.get("text_config"), dict) else whole
    digest = hashlib.sha256(config)
    total = 0
    for header, size in headers:
        total += weights(header, size)
        digest.update(header + b":%d" % size)
    text = {**UNSAID.get(str(text.get("model_type")), {}), **text}
    embedding = number(text, "hidden_size")
    layers = min(number(text, "num_hidden_layers"), MOST_LAYERS)
    heads, key, value = _attention(text)
    kinds = _kinds(text, layers)
    window = number(text, "sliding_window") if "sliding_attention" in kinds else 0
    architecture = _architecture(whole)
    return ModelFacts(
        format="safetensors",
        architecture=str(whole.get("model_type") or ""),
        weights=total,
        context=number(text, "max_position_embeddings") or None,
        quantisation=_quantisation(whole, text),
        kind=_kind(architecture),
        layers=layers,
        embedding=embedding,
        feed_forward=number(text, "intermediate_size"),
        vocabulary=number(text, "vocab_size"),
        queries=number(text, "num_attention_heads") * key,
        heads_kv=tuple(0 if kind == LINEAR else heads for kind in kinds),
        key_length=key,
        value_length=value,
        window=window,
        sliding=tuple(kind == "sliding_attention" for kind in kinds) if window else (),
        state=_state(text) * kinds.count(LINEAR),
        causal=_kind(architecture) is not Kind.EMBEDDING,
        chat_template=chat_template,
        vision="vision_config" in whole,
        fingerprint=digest.hexdigest(),
    )


def document(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises FormatError."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise FormatError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object")
    return value


def number(config: Mapping[str, Any], key: str) -> int:
    """A whole number that can be meant, else 0."""
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0


def _span(entry: object) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    match offsets:
        case [int(begin), int(end)] if 0 <= begin <= end:
            return begin, end
        case _:
            raise FormatError("the header has a tensor without a place in the file")


def _architecture(config: Mapping[str, Any]) -> str:
    match config.get("architectures"):
        case [str(name), *_]:
            return name
        case _:
            return ""


def _kind(architecture: str) -> Kind | None:
    """By the class's name: ...ForCausalLM writes, ...ForSequenceClassification ranks, a bare ...Model embeds."""
    if architecture.endswith("ForSequenceClassification"):
        return Kind.RERANK
    if architecture.endswith(("Model", "ForMaskedLM")) and not architecture.endswith("LMHeadModel"):
        return Kind.EMBEDDING
    return Kind.CHAT if architecture else None


def _quantisation(whole: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    """`awq 4 bit`, else the type of the weights."""
    quantised = whole.get("quantization_config")
    if isinstance(quantised, dict) and isinstance(method := quantised.get("quant_method"), str):
        bits = number(quantised, "bits") or number(quantised, "w_bit")
        return f"{method} {bits} bit" if bits else method
    kind = whole.get("dtype") or whole.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    return kind if isinstance(kind, str) else None


def _attention(text: Mapping[str, Any]) -> tuple[int, int, int]:
    """Heads of a layer's cache, and numbers of a key and of a value.

    Multi-head latent attention keeps one vector of `kv_lora_rank` and `qk_rope_head_dim` for all heads and both.
    """
    heads, embedding = number(text, "num_attention_heads"), number(text, "hidden_size")
    rank, turned = number(text, "kv_lora_rank"), number(text, "qk_rope_head_dim")
    if rank and text.get("model_type") not in EXPANDED:
        return 1, rank + turned, 0
    if rank:
        key = number(text, "qk_nope_head_dim") + turned
        return heads, key, key  # values are padded to the length of keys
    length = number(text, "head_dim") or (embedding // heads if heads else 0)
    return number(text, "num_key_value_heads") or heads, length, length


def _kinds(text: Mapping[str, Any], layers: int) -> list[str]:
    """What each layer attends to: as listed, else by the period that the architecture has built in."""
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and len(kinds) >= layers:
        return [str(kind) for kind in kinds[:layers]]
    name = str(text.get("model_type"))
    if every := number(text, "full_attention_interval") or INTERVAL.get(name, 0):
        return [LINEAR if (layer + 1) % every else "full_attention" for layer in range(layers)]
    period = PERIOD.get(name, 0) and (number(text, "sliding_window_pattern") or PERIOD[name])
    return ["sliding_attention" if period and (layer + 1) % period else "full_attention" for layer in range(layers)]


def _state(text: Mapping[str, Any]) -> int:
    """Bytes that a layer of linear attention (gated delta net) keeps per request, in f32."""
    values, keys = number(text, "linear_num_value_heads"), number(text, "linear_num_key_heads")
    value, key = number(text, "linear_value_head_dim"), number(text, "linear_key_head_dim")
    turned = max(number(text, "linear_conv_kernel_dim") - 1, 0) * (2 * keys * key + values * value)
    return 4 * (turned + values * value * key)
