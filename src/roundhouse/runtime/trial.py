"""A model of 80 KB that proves whether an engine program runs on this processor.

Prebuilt programs may hold instructions that a processor lacks; `--version` never comes to those, computing one token
does. The weights are zeros, in F32 and Q8_0 so that quantised code is run too. Format: GGUF version 3.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

WIDTH: Final = 64
TOKENS: Final = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)))
UNKNOWN, CONTROL, BYTE = 2, 3, 6

UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5
F32, Q8_0 = 0, 8
ALIGNMENT: Final = 32

TENSORS: Final = (
    ("token_embd.weight", (WIDTH, len(TOKENS)), Q8_0),
    ("output_norm.weight", (WIDTH,), F32),
    ("blk.0.attn_norm.weight", (WIDTH,), F32),
    ("blk.0.attn_q.weight", (WIDTH, WIDTH), Q8_0),
    ("blk.0.attn_k.weight", (WIDTH, WIDTH), Q8_0),
    ("blk.0.attn_v.weight", (WIDTH, WIDTH), Q8_0),
    ("blk.0.attn_output.weight", (WIDTH, WIDTH), F32),
    ("blk.0.ffn_norm.weight", (WIDTH,), F32),
    ("blk.0.ffn_gate.weight", (WIDTH, WIDTH), Q8_0),
    ("blk.0.ffn_up.weight", (WIDTH, WIDTH), Q8_0),
    ("blk.0.ffn_down.weight", (WIDTH, WIDTH), F32),
)


def write_trial_model(path: Path) -> Path:
    """Writes the file and returns its path."""
    metadata = _metadata()
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(TENSORS), len(metadata)) + b"".join(metadata)
    offset, infos = 0, []
    for name, shape, kind in TENSORS:
        infos.append(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += _padded(_size(shape, kind))
    head += b"".join(infos)
    path.write_bytes(head + bytes(_padded(len(head)) - len(head) + offset))
    return path


def _metadata() -> list[bytes]:
    tokens = b"".join(map(_text, TOKENS))
    types = (UNKNOWN, CONTROL, CONTROL, *(BYTE for _ in range(256)))
    return [
        _text("general.architecture") + struct.pack("<I", STRING) + _text("llama"),
        _text("tokenizer.ggml.model") + struct.pack("<I", STRING) + _text("llama"),
        _text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", FLOAT32, 1e-5),
        *(
            _text(f"llama.{name}") + struct.pack("<II", UINT32, number)
            for name, number in (
                ("context_length", 256),
                ("embedding_length", WIDTH),
                ("block_count", 1),
                ("feed_forward_length", WIDTH),
                ("attention.head_count", 2),
            )
        ),
        _text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, len(TOKENS)) + tokens,
        _array("tokenizer.ggml.scores", FLOAT32, "f", [0.0] * len(TOKENS)),
        _array("tokenizer.ggml.token_type", INT32, "i", types),
    ]


def _array(name: str, kind: int, letter: str, numbers: tuple[int, ...] | list[float]) -> bytes:
    return _text(name) + struct.pack(f"<IIQ{len(numbers)}{letter}", ARRAY, kind, len(numbers), *numbers)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _size(shape: tuple[int, ...], kind: int) -> int:
    count = 1
    for length in shape:
        count *= length
    return count * 4 if kind == F32 else count // 32 * 34


def _padded(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
