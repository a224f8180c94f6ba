"""Server-sent events as bytes: cut a stream into whole events without changing a byte, and make new ones.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. Knows nothing of what the events mean.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT: Final = 32 * 1024 * 1024
"""Bytes that one unfinished event may take before the stream is given up (spec E6)."""

DONE: Final = b"data: [DONE]\n\n"
"""The last event of an OpenAI stream."""

# Each of these is known to end an event by its own last byte, so cutting never depends on how reads fall.
_BLANK_LINE: Final = re.compile(rb"\n\n|\n\r\n|\r\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_LONGEST_OPEN_RUN: Final = 3  # '\r\n\r': the most line-end bytes in a row that hold no blank line yet
_LINE_ENDS: Final = b"\r\n"


class DialectError(ValueError):
    """The other side's bytes are not what its protocol allows. The message is fit for a user."""


class Splitter:
    """Cuts a byte stream into whole events, however the reads fall; time is linear in the bytes fed.

    Attributes:
        held: bytes kept of the event that is not complete yet.
    """

    __slots__ = ("_limit", "_parts", "_seam", "held")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self.held = 0
        self._seam = b""

    def feed(self, data: bytes) -> bytes:
        """All events that are complete now, as one piece of the original bytes; the rest is kept.

        Raises:
            DialectError: an event is longer than the limit.
        """
        if not self.held and _ends_an_event(data):
            return data
        window = self._seam + data
        if not _has_blank_line(window):
            self._keep(data, window)
            return b""
        whole = b"".join((*self._parts, data)) if self._parts else data
        end = len(whole) if _ends_an_event(whole) else _last_blank_line_end(whole)
        self._parts.clear()
        self.held = 0
        rest = whole[end:]
        self._keep(rest, rest)
        return whole[:end]

    def rest(self) -> bytes:
        """The bytes of the event that is not complete yet."""
        return b"".join(self._parts)

    def _keep(self, data: bytes, window: bytes) -> None:
        self._seam = window[-_LONGEST_OPEN_RUN:]
        if not data:
            return
        self.held += len(data)
        if self.held > self._limit:
            raise DialectError(f"The engine sent an event of more than {self._limit} bytes.")
        self._parts.append(data)


def _ends_an_event(data: bytes) -> bool:
    """Whether the last byte surely ends an event; false may also mean that it takes a closer look."""
    return data[-2:] == b"\n\n" and data[-3:-2] not in _LINE_ENDS


def _has_blank_line(data: bytes) -> bool:
    return b"\n\n" in data or b"\n\r\n" in data or b"\r\r" in data


def _last_blank_line_end(data: bytes) -> int:
    """Where the last blank line ends, as a scan from the left would find it.

    Only the last run of line ends matters: three newlines end an event after the second, wherever reads fall.
    """
    last = max(data.rfind(b"\n\n"), data.rfind(b"\n\r\n"), data.rfind(b"\r\r"))
    start = len(data[: last + 1].rstrip(_LINE_ENDS))
    end = len(data) - len(data[start:].lstrip(_LINE_ENDS))
    return max(match.end() for match in _BLANK_LINE.finditer(data, start, end))


def events(data: bytes) -> Iterator[bytes]:
    """The single events of complete bytes (each with its blank line); a last one without its blank line too."""
    start = 0
    for match in _BLANK_LINE.finditer(data):
        yield data[start : match.end()]
        start = match.end()
    if start < len(data):
        yield data[start:]


def data_lines(event: bytes) -> list[bytes]:
    """The values of an event's `data:` lines, less one leading space each."""
    lines = _LINE_END.split(event)
    return [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]


def payload(event: bytes) -> bytes:
    """The event's data: its `data:` lines joined by newlines; empty for comments and blank events."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n"):
        line = event[6:-2]
        if b"\n" not in line and b"\r" not in line:
            return line
    return b"\n".join(data_lines(event))


def encode(value: object) -> bytes:
    """One event with `value` as its data: bytes as they are (they must be one line), anything else as JSON."""
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return b"data: " + data + b"\n\n"


def with_payload(event: bytes, data: bytes) -> bytes:
    """The event with other data (one line); its comments and other fields stay."""
    kept = [line for line in _LINE_END.split(event) if line and not line.startswith(b"data:")]
    return b"\n".join([*kept, b"data: " + data]) + b"\n\n"


def comment(text: str) -> bytes:
    """A comment, which every SSE client ignores; keeps idle timers alive."""
    return b": " + " ".join(text.split()).encode() + b"\n\n"
