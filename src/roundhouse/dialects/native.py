"""llama-server's own completions (`/completion`, `/infill`): their streams relayed, or gathered into one answer.

Their events have `content`, and the last of each prompt `"stop": true` with the timings; no `[DONE]` follows. Facts
from b10434. Knows no sockets, and time only as it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.dialects import body, failures, sse
from roundhouse.errors import RouterError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.dialects.meter import Meter

_LISTS: Final = ("tokens", "completion_probabilities")
"""What the events of one answer have parts of, beside its text."""
_CUT: Final = "The engine ended its answer before it was finished."


class NativeRelay:
    """Relays one streamed answer; only the model's name in its last event is ours.

    Attributes:
        meter: the figures of the answer.
        finished: every prompt's last event has been given out.
        error: what the answer ended with, None when it ended well.
    """

    def __init__(self, model: str, meter: Meter, prompts: int = 1) -> None:
        """`model` is the name the client asked for."""
        self.meter = meter
        self.finished = False
        self.error: RouterError | None = None
        self._model = orjson.dumps(model)
        self._open = prompts
        self._splitter = sse.Splitter()

    def feed(self, data: bytes, now: float) -> bytes:
        """Takes what the engine sent and gives what the client gets now.

        Raises:
            DialectError: an event without end.
        """
        return self._relay(self._splitter.feed(data), now)

    def end(self, now: float) -> bytes:
        """The engine closed its stream: what is left, and an error if the answer was cut."""
        return self.broken(UpstreamError(_CUT), now)

    def broken(self, error: RouterError, now: float) -> bytes:
        """The engine is gone: what is left, then `error` unless the answer was finished already."""
        if self.finished or self.error is not None:
            return b""
        rest = self._splitter.rest()
        out = self._relay(rest + b"\n\n", now) if _parsed(sse.payload(rest).strip()) else b""
        if self.finished:
            return out
        self.error = error
        return out + failures.error_event(error)

    def _relay(self, block: bytes, now: float) -> bytes:
        if not block or self.finished:
            return b""
        self.meter.token(now)
        # Quotes inside a text are escaped, so no answer can look like these keys.
        if b'"stop":true' not in block and b'"error"' not in block:
            return block
        return b"".join(self._looked_at(event) for event in sse.events(block))

    def _looked_at(self, event: bytes) -> bytes:
        chunk = _parsed(sse.payload(event))
        if failures.is_error(chunk):
            self.error = failures.chunk_error(chunk)[0]
            self.finished = True
        elif chunk.get("stop") is True:
            self.meter.note(_with_usage(chunk))
            self._open -= 1
            self.finished = self._open == 0
            if "model" in chunk:
                return sse.with_payload(event, body.edit(sse.payload(event), {"model": self._model}))
        return event


class NativeAnswer:
    """Gathers one streamed answer into what the engine would have answered in one piece."""

    def __init__(self, model: str, meter: Meter) -> None:
        """`model` is the name the client asked for."""
        self._meter = meter
        self._model = model
        self._splitter = sse.Splitter()
        self._fields: dict[str, Any] = {}
        self._text: list[str] = []
        self._lists: dict[str, list[Any]] = {}

    def feed(self, data: bytes, now: float) -> None:
        """Takes what the engine sent.

        Raises:
            RouterError: the engine's stream says that the answer failed.
            DialectError: an event without end.
        """
        for event in sse.events(self._splitter.feed(data)):
            self._event(_parsed(sse.payload(event)), now)

    def result(self, now: float) -> bytes:
        """The whole answer as JSON, once the engine's stream has ended.

        Raises:
            UpstreamError: it ended before the answer did.
        """
        self._event(_parsed(sse.payload(self._splitter.rest())), now)
        if self._fields.get("stop") is not True:
            raise UpstreamError(_CUT)
        self._meter.note(_with_usage(self._fields))
        ours = {"model": self._model} if "model" in self._fields else {}
        return orjson.dumps({**self._fields, "content": "".join(self._text), **self._lists, **ours})

    def _event(self, chunk: Mapping[str, Any], now: float) -> None:
        if failures.is_error(chunk):
            error: RouterError = failures.chunk_error(chunk)[0]
            raise error
        for key in _LISTS:
            if isinstance(part := chunk.get(key), list):
                self._lists.setdefault(key, []).extend(part)
        self._fields.update(chunk)
        if isinstance(text := chunk.get("content"), str) and text:
            self._text.append(text)
            self._meter.token(now)


def _parsed(data: bytes) -> dict[str, Any]:
    """An event's object; empty for anything else, such as comments."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _with_usage(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """With the counts of tokens as OpenAI's `usage` has them."""
    prompt, answer = chunk.get("tokens_evaluated"), chunk.get("tokens_predicted")
    if not (isinstance(prompt, int) and isinstance(answer, int)):
        return dict(chunk)
    return {**chunk, "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}}
