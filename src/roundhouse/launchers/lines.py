"""Output of an engine as lines: from bytes to text, the last of it kept, followed by any number of readers.

Owns what a line is and how much is remembered; doesn't know where the bytes come from.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LONGEST = 16 << 10  # bytes; longer lines are cut into pieces of this
KEPT = 2 << 20  # characters remembered

_BREAK = re.compile(rb"[\r\n]+")


class LineSplitter:
    """Bytes to lines, incrementally. LF and CR (progress bars) end a line; blank ones are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Lines that are complete now."""
        *whole, self._rest = _BREAK.split(self._rest + data)
        lines = [piece for line in whole for piece in _pieces(line)]
        if len(self._rest) > LONGEST:
            *pieces, self._rest = _cut(self._rest)
            lines += map(_text, pieces)
        return lines

    def close(self) -> list[str]:
        """What is left when nothing more comes."""
        rest, self._rest = self._rest, b""
        return _pieces(rest)


def _pieces(line: bytes) -> list[str]:
    return [_text(piece) for piece in _cut(line) if piece]


def _cut(line: bytes) -> list[bytes]:
    """Pieces of at most LONGEST bytes, not cut inside a character."""
    pieces = []
    while len(line) > LONGEST:
        at = LONGEST
        while at > LONGEST - 4 and line[at] & 0xC0 == 0x80:  # a continuation byte of UTF-8
            at -= 1
        pieces.append(line[:at])
        line = line[at:]
    return [*pieces, line]


def _text(line: bytes) -> str:
    """Engines print what they like: bytes that are not UTF-8 become the replacement character."""
    return line.decode("utf-8", "replace")


class Lines:
    """The last lines of one engine, and a way to follow them. Slow readers lose lines, never hold up others."""

    def __init__(self) -> None:
        self._splitter = LineSplitter()
        self._kept: deque[str] = deque()
        self._first = 0  # number of the oldest line kept
        self._size = 0
        self._closed = False
        self._changed = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Adds output."""
        self._add(self._splitter.feed(data))

    def close(self) -> None:
        """No more output: readers end when they have read all."""
        self._closed = True
        self._add(self._splitter.close())
        self._changed.set()

    def tail(self, count: int) -> list[str]:
        """The last `count` lines kept, oldest first."""
        return list(self._kept)[-count:] if count > 0 else []

    async def follow(self) -> AsyncIterator[str]:
        """All lines kept, then those that come, until closed."""
        number = self._first
        while True:
            number = max(number, self._first)
            if number < self._first + len(self._kept):
                yield self._kept[number - self._first]
                number += 1
            elif self._closed:
                return
            else:
                await self._changed.wait()

    def _add(self, lines: list[str]) -> None:
        if not lines:
            return
        self._kept.extend(lines)
        self._size += sum(map(len, lines))
        while self._size > KEPT:
            self._size -= len(self._kept.popleft())
            self._first += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
