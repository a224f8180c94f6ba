"""Structured logs (spec G6): one line per event, key=value for people or JSON for machines, secrets hidden (F4).

Sets up structlog and sends the standard library's logging (uvicorn, asyncio) the same way. Knows nothing of what is
logged. A request's id is bound by its handler with `structlog.contextvars.bound_contextvars(request_id=...)`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

import orjson
import structlog

from roundhouse.observe.redact import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import EventDict, FilteringBoundLogger

    from roundhouse.observe.redact import Plain

_FIRST = ("timestamp", "level", "event")
_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Style:
    """How lines look."""

    json: bool
    colour: bool = False


def configure(
    level: str = "info", stream: TextIO | None = None, *, secrets: Secrets | None = None, style: Style | None = None
) -> Output:
    """Sends all logs of this process, from structlog and from the standard library, to one stream.

    Args:
        level: debug, info, warning or error; lesser events cost next to nothing.
        stream: default: stderr.
        secrets: strings registered there later are hidden too.
        style: default: key=value on a terminal, else JSON; `ROUNDHOUSE_LOG=json|text` overrides.
    """
    output = Output(stream or sys.stderr)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Render(secrets or Secrets(), style or style_of(output.stream, os.environ)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=False,  # configuring again (a reload, a test) reaches loggers that exist
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(number, logging.INFO))  # asyncio's debug lines are for those who work on asyncio
    return output


def get(name: str) -> FilteringBoundLogger:
    """A logger whose lines say `source=name`. May be called, and kept, before `configure`."""
    return cast("FilteringBoundLogger", structlog.get_logger(source=name))


def style_of(stream: TextIO, environ: Mapping[str, str]) -> Style:
    """The style that fits the stream, unless `ROUNDHOUSE_LOG` (json, text) says otherwise; `NO_COLOR` is respected."""
    terminal = _is_terminal(stream)
    json = {"json": True, "text": False}.get(environ.get("ROUNDHOUSE_LOG", ""), not terminal)
    return Style(json, terminal and not json and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


class Output:
    """Writes lines to a stream and outlives it: a broken pipe or a full disk loses lines, never the program.

    Attributes:
        lost: lines that could not be written; told in a line of its own as soon as writing works again.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost = 0
        self._lock = threading.Lock()
        self._write = _writer(stream)

    def line(self, text: str) -> None:
        """Writes one line. Safe from any thread."""
        with self._lock:
            notice = f"[{self.lost} log lines were lost here]\n" if self.lost else ""
            try:
                self._write(f"{notice}{text}\n")
            except (OSError, ValueError):  # ValueError: the stream was closed
                self.lost += 1
            else:
                self.lost = 0

    # The names that structlog calls a logger by, once the line is rendered.
    debug = info = warning = error = critical = msg = line


def _writer(stream: TextIO) -> Callable[[str], object]:
    """Writes straight to the descriptor where there is one: what Python has buffered fails again, at exit at last."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return lambda text: (stream.write(text), stream.flush())

    def write(text: str) -> None:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write


class _Render:
    """The last structlog processor: fields to one line."""

    def __init__(self, secrets: Secrets, style: Style) -> None:
        self._secrets = secrets
        self._style = style

    def __call__(self, _logger: object, _method: str, event: EventDict) -> str:
        fields = self._secrets.fields(event)
        return _json(fields) if self._style.json else _key_values(fields, colour=self._style.colour)


def _json(fields: dict[str, Plain]) -> str:
    ordered = {name: fields.pop(name) for name in _FIRST if name in fields} | fields
    try:
        return orjson.dumps(ordered).decode()
    except TypeError:  # an integer beyond 64 bits
        return orjson.dumps({name: repr(value) for name, value in ordered.items()}).decode()


def _key_values(fields: dict[str, Plain], *, colour: bool) -> str:
    when, level, event = (str(fields.pop(name, "")) for name in _FIRST)
    words = [f"{level:<8}", _printable(event), *(f"{_word(name)}={_word(value)}" for name, value in fields.items())]
    if colour and level in _COLOURS:
        words[0] = f"{_COLOURS[level]}{words[0]}{_RESET}"
    return " ".join([when, *words])


def _word(value: Plain) -> str:
    """One word of a line, in quotes where it would not be one."""
    if isinstance(value, (list, dict)):
        return _json({"": value})[4:-1]
    text = "-" if value is None else str(value)
    if text and text.isprintable() and not any(mark in text for mark in ' "='):
        return text
    return '"' + _printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _printable(text: str) -> str:
    """The text on one line: no line breaks, no terminal control sequences."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


class _Bridge(logging.Handler):
    """Hands the standard library's log records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        more: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        level = min(
            max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL
        )  # structlog knows only the named ones
        structlog.get_logger(source=record.name).log(level, _message_of(record), **more)


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # arguments that do not fit: a fault of the caller, who still gets a line
        return f"{record.msg!s} {record.args!r}"
