"""A BERT sentence embedder as GGUF, from its safetensors file and vocabulary, with nothing but the standard library.

Written for all-MiniLM-L6-v2, which is on the package index as safetensors only. Pure: bytes in, bytes out, and the same
bytes every time, so that the result can be checked by its SHA-256. Matrices become float16, vectors stay float32.

Sources: the GGUF specification (ggml, docs/gguf.md) and llama.cpp's names for BERT's tensors (gguf-py, constants.py).
"""

from __future__ import annotations

import json
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ALIGNMENT: Final = 32  # bytes; GGUF's default for tensor data
_F32: Final = 0  # ggml_type
_F16: Final = 1
_MOSTLY_F16: Final = 1  # general.file_type
_MEAN_POOLING: Final = 1
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5  # tokenizer.ggml.token_type
_CHUNK: Final = 1 << 16  # floats converted at a time

# GGUF value types
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

_SPECIAL: Final = {
    "bos": "[CLS]",
    "eos": "[SEP]",
    "seperator": "[SEP]",  # GGUF's own spelling
    "unknown": "[UNK]",
    "padding": "[PAD]",
    "mask": "[MASK]",
}
_EMBEDDINGS: Final = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_LAYER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
# llama.cpp adds these up as float32 and has no float16 path for them.
_KEPT_F32: Final = frozenset({"position_embd.weight", "token_types.weight"})


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor: its GGUF name, its shape as PyTorch says it (rows first), and its float32 data."""

    name: str
    shape: tuple[int, ...]
    data: memoryview

    @property
    def half(self) -> bool:
        return len(self.shape) == 2 and self.name not in _KEPT_F32

    @property
    def size(self) -> int:
        """Bytes in the GGUF file, without padding."""
        return len(self.data) // 2 if self.half else len(self.data)


def convert(config: bytes, vocabulary: bytes, weights: bytes) -> Iterator[bytes]:
    """The GGUF file, piece by piece.

    Args:
        config: BERT's `config.json`.
        vocabulary: `vocab.txt`, a WordPiece a line.
        weights: `model.safetensors`, with float32 tensors.

    Raises:
        ValueError: a tensor is missing or not float32, or the vocabulary has another size than the configuration says.
    """
    settings = json.loads(config)
    tokens = [line for line in vocabulary.decode().split("\n") if line]
    if len(tokens) != settings["vocab_size"]:
        raise ValueError(f"the vocabulary has {len(tokens)} tokens, the configuration says {settings['vocab_size']}")
    tensors = _tensors(weights, settings["num_hidden_layers"])
    metadata = [*_settings(settings), *_tokenizer(tokens)]
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)) + b"".join(metadata) + _directory(tensors)
    yield header + _padding(len(header))
    for tensor in tensors:
        yield from _halves(tensor.data) if tensor.half else [bytes(tensor.data)]
        yield _padding(tensor.size)


def _settings(settings: Mapping[str, int | float]) -> Iterator[bytes]:
    yield _text("general.architecture", "bert")
    yield _text("general.name", "all-MiniLM-L6-v2")
    yield _text("general.license", "apache-2.0")
    yield _entry("general.file_type", _UINT32, "I", _MOSTLY_F16)
    yield _entry("bert.context_length", _UINT32, "I", settings["max_position_embeddings"])
    yield _entry("bert.embedding_length", _UINT32, "I", settings["hidden_size"])
    yield _entry("bert.block_count", _UINT32, "I", settings["num_hidden_layers"])
    yield _entry("bert.feed_forward_length", _UINT32, "I", settings["intermediate_size"])
    yield _entry("bert.attention.head_count", _UINT32, "I", settings["num_attention_heads"])
    yield _entry("bert.attention.layer_norm_epsilon", _FLOAT32, "f", settings["layer_norm_eps"])
    yield _entry("bert.attention.causal", _BOOL, "?", 0)
    yield _entry("bert.pooling_type", _UINT32, "I", _MEAN_POOLING)


def _tokenizer(tokens: Sequence[str]) -> Iterator[bytes]:
    """WordPiece as llama.cpp wants it: a word's start is marked, and not its continuations, as in BERT."""
    kinds = [_kind(token) for token in tokens]
    words = [_phantom(token) if kind == _NORMAL else token for token, kind in zip(tokens, kinds, strict=True)]
    yield _text("tokenizer.ggml.model", "bert")
    yield _text("tokenizer.ggml.pre", "jina-v2-en")
    yield _entry("tokenizer.ggml.token_type_count", _UINT32, "I", 2)
    yield _list("tokenizer.ggml.tokens", _STRING, [_string(word) for word in words])
    yield _list("tokenizer.ggml.token_type", _INT32, [struct.pack("<i", kind) for kind in kinds])
    for role, token in _SPECIAL.items():
        yield _entry(f"tokenizer.ggml.{role}_token_id", _UINT32, "I", tokens.index(token))


def _kind(token: str) -> int:
    if token in _SPECIAL.values():
        return _CONTROL
    return _UNUSED if token.startswith("[unused") else _NORMAL


def _phantom(token: str) -> str:
    return token[2:] if token.startswith("##") else "\u2581" + token


def _tensors(weights: bytes, layers: int) -> list[_Tensor]:
    """The tensors to write, in their order. safetensors: a length, a JSON directory, then the data."""
    length = int.from_bytes(weights[:8], "little")
    directory = json.loads(weights[8 : 8 + length])
    data = memoryview(weights)[8 + length :]
    names = dict(_EMBEDDINGS)
    for layer in range(layers):
        for theirs, ours in _LAYER.items():
            for part in ("weight", "bias"):
                names[f"encoder.layer.{layer}.{theirs}.{part}"] = f"blk.{layer}.{ours}.{part}"
    missing = names.keys() - directory.keys()
    if missing:
        raise ValueError(f"the weights have no tensor {min(missing)}")
    return [_tensor(ours, directory[theirs], data) for theirs, ours in names.items()]


def _tensor(name: str, entry: Mapping[str, list[int] | str], data: memoryview) -> _Tensor:
    shape, span = entry["shape"], entry["data_offsets"]
    if entry["dtype"] != "F32" or isinstance(shape, str) or isinstance(span, str):
        raise ValueError(f"{name} is {entry['dtype']}; only F32 can be converted")
    return _Tensor(name, tuple(shape), data[span[0] : span[1]])


def _directory(tensors: Sequence[_Tensor]) -> bytes:
    entries, offset = [], 0
    for tensor in tensors:
        dimensions = tensor.shape[::-1]  # GGUF names the fastest dimension first
        kind = _F16 if tensor.half else _F32
        shape = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        entries.append(_string(tensor.name) + shape + struct.pack("<IQ", kind, offset))
        offset += tensor.size + len(_padding(tensor.size))
    return b"".join(entries)


def _halves(data: memoryview) -> Iterator[bytes]:
    """float32 to float16, rounded to nearest even."""
    for start in range(0, len(data), 4 * _CHUNK):
        floats = array("f", data[start : start + 4 * _CHUNK].tobytes())
        yield struct.pack(f"<{len(floats)}e", *floats)


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _entry(key: str, kind: int, code: str, value: float) -> bytes:
    return _string(key) + struct.pack(f"<I{code}", kind, value)


def _text(key: str, value: str) -> bytes:
    return _string(key) + struct.pack("<I", _STRING) + _string(value)


def _list(key: str, kind: int, items: Sequence[bytes]) -> bytes:
    return _string(key) + struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)
