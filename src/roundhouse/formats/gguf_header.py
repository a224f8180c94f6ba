"""The bytes of a GGUF header (versions 2 and 3, little endian) as keys and tensors. Knows no key's meaning.

Tokenizer arrays hold hundreds of thousands of strings and are counted, not kept. Every count is held against the bytes
that are really there before anything is read or built from it. Source: ggml/docs/gguf.md of llama.cpp.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

from roundhouse.formats import ggml
from roundhouse.formats.errors import FormatError

MAGIC = b"GGUF"
LARGEST_HEADER = 512 * 1024**2
MOST_KEPT = 4096
"""Elements of the longest array that is kept; arrays per layer are shorter, token arrays longer."""

_CHUNK = 1024**2
_DEEPEST = 4
_LENGTH = struct.Struct("<Q")

Value = int | float | bool | str | list["Value"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """An array that was not kept: how many elements it has."""

    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor.

    Attributes:
        shape: as the file has it, the innermost dimension first.
        kind: ggml's number of its type.
        offset: bytes from the beginning of the file's data.
        length: bytes; None where the type is newer than our table.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header.

    Attributes:
        keys: metadata; long arrays and arrays of text as `Skipped`.
        tensors: in the file's order.
        weights: bytes of all tensors in this file.
        end: bytes that the file has when it is complete.
        digest: SHA-256 of the header's bytes.
    """

    keys: dict[str, Value | Skipped]
    tensors: tuple[Tensor, ...]
    weights: int
    end: int
    digest: str


def read(stream: BinaryIO, size: int) -> Header:
    """The header of a file of `size` bytes, from a stream at its beginning. Raises FormatError."""
    source = _Source(stream, size)
    tensors, pairs = _preamble(source)
    keys: dict[str, Value | Skipped] = {}
    for _ in range(pairs):
        name = source.text()
        keys[name] = _value(source, source.number("I"), 0)
    alignment = keys.get("general.alignment", 32)
    if not isinstance(alignment, int) or isinstance(alignment, bool) or not 0 < alignment <= 2**20:
        raise FormatError(f"the header's alignment is absurd ({alignment})")
    found = tuple(_tensor(source) for _ in range(tensors))
    start = -(-source.position // alignment) * alignment
    weights = _weights(found, size - start)
    end = max((start + tensor.offset + (tensor.length or 0) for tensor in found), default=source.position)
    return Header(keys, found, weights, end, source.digest.hexdigest())


def _preamble(source: _Source) -> tuple[int, int]:
    """Counts of tensors and of keys."""
    if source.size < 4 or source.take(4) != MAGIC:
        raise FormatError("not a GGUF file (it does not begin with 'GGUF')")
    version = source.number("I")
    if version not in {2, 3}:
        reason = "big-endian" if version and not version & 0xFFFF else f"version {version}"
        raise FormatError(f"a {reason} GGUF file; only little-endian versions 2 and 3 are supported")
    tensors, pairs = source.number("Q"), source.number("Q")
    source.expect(tensors * 24 + pairs * 13, f"{tensors} tensors and {pairs} keys")
    return tensors, pairs


def _value(source: _Source, kind: int, depth: int) -> Value | Skipped:
    if kind == ggml.STRING:
        return source.text()
    if kind == ggml.ARRAY:
        return _array(source, depth)
    if kind not in ggml.SCALARS:
        raise FormatError(f"the header has a value of unknown type {kind}")
    return source.scalar(ggml.SCALARS[kind])


def _array(source: _Source, depth: int) -> Value | Skipped:
    kind, count = source.number("I"), source.number("Q")
    if kind == ggml.STRING:
        source.skip_texts(count)
        return Skipped(count)
    if kind == ggml.ARRAY:
        if depth >= _DEEPEST:
            raise FormatError("the header nests arrays too deeply")
        source.expect(count * 12, f"{count} arrays")
        for _ in range(count):
            _array(source, depth + 1)
        return Skipped(count)
    if kind not in ggml.SCALARS:
        raise FormatError(f"the header has an array of unknown type {kind}")
    letter = ggml.SCALARS[kind]
    width = struct.calcsize("<" + letter)
    source.expect(count * width, f"an array of {count}")
    if count > MOST_KEPT:
        source.skip(count * width)
        return Skipped(count)
    return list(struct.unpack(f"<{count}{letter}", source.take(count * width)))


def _tensor(source: _Source) -> Tensor:
    name = source.text()
    dimensions = source.number("I")
    if dimensions > 8:
        raise FormatError(f"the header has a tensor of {dimensions} dimensions")
    shape = tuple(source.number("Q") for _ in range(dimensions))
    kind, offset = source.number("I"), source.number("Q")
    if kind not in ggml.TENSORS:
        return Tensor(name, shape, kind, offset, None)
    block, width = ggml.TENSORS[kind]
    return Tensor(name, shape, kind, offset, -(-math.prod(shape) // block) * width)


def _weights(tensors: tuple[Tensor, ...], data: int) -> int:
    """Bytes of all tensors; all of the file's data where a tensor type is not known."""
    lengths = [tensor.length for tensor in tensors if tensor.length is not None]
    return sum(lengths) if len(lengths) == len(tensors) else max(data, 0)


def _pass_over(buffer: bytes, at: int, most: int) -> tuple[int, int]:
    """How many whole strings, at most `most`, stand in `buffer` from `at` on, and where they end."""
    unpack = _LENGTH.unpack_from
    end = len(buffer)
    for passed in range(most):
        if at + 8 > end:
            return passed, at
        (length,) = unpack(buffer, at)
        if length > end - at - 8:
            return passed, at
        at += 8 + length
    return most, at


class _Source:
    """Buffered reading that never asks for more than the file has, and hashes what it read."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.size = size
        self.position = 0
        self.digest = hashlib.sha256()
        self._stream = stream
        self._buffer = b""
        self._at = 0

    def expect(self, count: int, what: str) -> None:
        """Raises FormatError unless `count` more bytes can be there."""
        if count > self.size - self.position:
            raise FormatError(f"cut short or damaged: the header speaks of {what}, but the file ends before")
        if self.position + count > LARGEST_HEADER:
            raise FormatError(f"the header is larger than {LARGEST_HEADER // 1024**2} MiB: {what}")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if len(self._buffer) - self._at < count:
            self._fill(count)
        piece = self._buffer[self._at : self._at + count]
        self._at += count
        self.position += count
        self.digest.update(piece)
        return piece

    def skip(self, count: int) -> None:
        """Passes over bytes in pieces, so that a long array takes no memory."""
        while count > 0:
            self.take(min(count, _CHUNK))
            count -= _CHUNK

    def scalar(self, letter: str) -> int | float | bool:
        """One value of a `struct` letter."""
        value: int | float | bool = struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter)))[0]
        return value

    def number(self, letter: str) -> int:
        """One whole number: a count, a length, a type."""
        return int(self.scalar(letter))

    def text(self) -> str:
        """One string: a length of 8 bytes, then UTF-8."""
        return self.take(self._length()).decode("utf-8", "replace")

    def skip_texts(self, count: int) -> None:
        """Passes over strings, a buffer at a time: there are hundreds of thousands of them."""
        self.expect(count * 8, f"{count} texts")
        left = count
        while left:
            passed, after = _pass_over(self._buffer, self._at, left)
            self.take(after - self._at)
            left -= passed
            if left:
                self.skip(self._length())
                left -= 1

    def _length(self) -> int:
        length = self.number("Q")
        self.expect(length, f"a text of {length} bytes")
        return length

    def _fill(self, count: int) -> None:
        self.expect(count, f"{count} more bytes")
        wanted = max(count, _CHUNK)
        pieces = [self._buffer[self._at :]]
        have = len(pieces[0])
        while have < wanted and (piece := self._stream.read(wanted - have)):
            pieces.append(piece)
            have += len(piece)
        self._buffer, self._at = b"".join(pieces), 0
        if have < count:
            raise FormatError(f"cut short: the header ends after {self.position + have} bytes")
