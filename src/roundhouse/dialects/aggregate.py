"""A streamed answer gathered into the one JSON body that a client without `stream` gets (spec A8).

Owns the way from chunks to `chat.completion` or `text_completion`. Knows no sockets, and time only as it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.dialects import failures, reasoning, sse
from roundhouse.errors import RouterError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from roundhouse.dialects.meter import Meter

_OBJECTS: Final[Mapping[str, str]] = {"chat.completion.chunk": "chat.completion"}
# Fields that mean something only while a stream runs, or that a foreign engine may not set (spec B5).
_NOT_KEPT: Final = frozenset({"choices", "usage", "event", "prompt_progress"})
_JOINED: Final = frozenset({"content", "reasoning_content", "reasoning", "refusal", "arguments", "text"})
_CALLS: Final = frozenset({"tool_calls", "function_call"})


class Aggregator:
    """Gathers one answer.

    Attributes:
        meter: the figures of the answer.
        finished: the engine said `[DONE]`; its stream may be closed.
    """

    __slots__ = ("_choices", "_extra_usage", "_fields", "_model", "_splitter", "finished", "meter")

    def __init__(self, model: str, meter: Meter, *, extra_usage: bool = True) -> None:
        """`model` is the name the client asked for; `extra_usage` adds our keys to usage."""
        self.meter = meter
        self.finished = False
        self._model = model
        self._extra_usage = extra_usage
        self._splitter = sse.Splitter()
        self._fields = _Record()
        self._choices: dict[int, _Choice] = {}

    def feed(self, data: bytes, now: float) -> None:
        """Takes what the engine sent.

        Raises:
            RouterError: the engine's stream says that the answer failed; with the engine's status where it told one.
            DialectError: an event without end, or one that is no JSON.
        """
        for event in sse.events(self._splitter.feed(data)):
            self._event(sse.payload(event), now)

    def result(self, now: float) -> bytes:
        """The whole answer as JSON, once the engine's stream has ended.

        Raises:
            UpstreamError: it ended before the answer did.
        """
        self._event(sse.payload(self._splitter.rest()).strip(), now)
        choices = [self._choices[index].as_json() for index in sorted(self._choices)]
        reasoning.complete(choices)
        ended = self.finished or (choices and all(choice["finish_reason"] for choice in choices))
        if not choices or not ended:
            raise UpstreamError("The engine ended its answer before it was finished.")
        usage = self.meter.extended_usage(now) if self._extra_usage else self.meter.usage
        fields = self._fields.as_json()
        name = fields.get("object", "chat.completion")
        ours = {"object": _OBJECTS.get(name, name), "model": self._model, "choices": choices, "usage": usage}
        return orjson.dumps(fields | ours)

    def _event(self, data: bytes, now: float) -> None:
        if not data or self.finished:
            return
        if data.strip() == b"[DONE]":
            self.finished = True
            return
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise sse.DialectError(f"The engine sent an event that is not JSON: {error.msg}.") from None
        if isinstance(chunk, dict):
            self._chunk(chunk, now)

    def _chunk(self, chunk: Mapping[str, Any], now: float) -> None:
        if failures.is_error(chunk):
            error: RouterError = failures.chunk_error(chunk)[0]
            raise error
        self.meter.note(chunk)
        self._fields.add((key, value) for key, value in chunk.items() if key not in _NOT_KEPT)
        for part in _objects(chunk.get("choices")):
            index = _index(part, 0)
            choice = self._choices.setdefault(index, _Choice(index))
            if choice.add(part):
                self.meter.token(now)


def _objects(parts: object) -> list[Mapping[str, Any]]:
    """Those of a list that can be read."""
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _index(part: Mapping[str, Any], otherwise: int) -> int:
    found = part.get("index")
    return found if isinstance(found, int) else otherwise


class _Choice:
    """One choice, as far as it has come."""

    __slots__ = ("_calls", "_fields", "_function", "_index", "_is_chat", "_logprobs", "_message")

    def __init__(self, index: int) -> None:
        self._index = index
        self._fields = _Record()
        self._message = _Record()
        self._function = _Record()
        self._calls: dict[int, _Call] = {}
        self._logprobs: dict[str, Any] | None = None
        self._is_chat = False

    def add(self, part: Mapping[str, Any]) -> bool:
        """Takes this choice's part of a chunk; whether it brought text."""
        logprobs, delta = part.get("logprobs"), part.get("delta")
        if isinstance(logprobs, dict):
            self._logprobs = _extended(self._logprobs or {}, logprobs)
        text = self._fields.add((key, value) for key, value in part.items() if key not in {"index", "delta"})
        if isinstance(delta, dict):
            self._is_chat = True
            text |= self._delta(delta)
        return text

    def as_json(self) -> dict[str, Any]:
        """The choice of a whole answer."""
        whole: dict[str, Any] = {"index": self._index}
        if self._is_chat:
            whole["message"] = self._whole_message()
        whole |= {"finish_reason": None} | self._fields.as_json()
        if self._logprobs is not None:
            whole["logprobs"] = self._logprobs
        return whole

    def _whole_message(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": None} | self._message.as_json()
        if self._calls:
            message["tool_calls"] = [self._calls[index].as_json() for index in sorted(self._calls)]
        function = self._function.as_json()
        return message | {"function_call": function} if function else message

    def _delta(self, delta: Mapping[str, Any]) -> bool:
        calls, function = delta.get("tool_calls"), delta.get("function_call")
        text = self._message.add((key, value) for key, value in delta.items() if key not in _CALLS)
        for position, part in enumerate(_objects(calls)):
            self._calls.setdefault(_index(part, position), _Call()).add(part)
            text = True
        if isinstance(function, dict):
            text |= self._function.add(function.items())
        return text


class _Call:
    """One tool call: id, type and name come once, the arguments in pieces."""

    __slots__ = ("_fields", "_function")

    def __init__(self) -> None:
        self._fields = _Record()
        self._function = _Record()

    def add(self, part: Mapping[str, Any]) -> None:
        function = part.get("function")
        self._fields.add((key, value) for key, value in part.items() if key not in {"index", "function"})
        self._function.add(function.items() if isinstance(function, dict) else ())

    def as_json(self) -> dict[str, Any]:
        return self._fields.as_json() | {"function": {"name": None, "arguments": ""} | self._function.as_json()}


class _Pieces(list[str]):
    """Text that is still coming."""


class _Record:
    """A JSON object that comes in parts: text is joined; of anything else the last value that says something stays."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def add(self, news: Iterable[tuple[str, Any]]) -> bool:
        """Takes fields; whether there was text among them."""
        text = False
        for key, value in news:
            if key in _JOINED and isinstance(value, str):
                text |= bool(value)
                known = self._fields.get(key)
                if isinstance(known, _Pieces):
                    known.append(value)
                else:
                    self._fields[key] = _Pieces([value])
            elif value is not None:
                self._fields[key] = value
            else:
                self._fields.setdefault(key, None)
        return text

    def as_json(self) -> dict[str, Any]:
        return {key: "".join(value) if isinstance(value, _Pieces) else value for key, value in self._fields.items()}


def _extended(known: dict[str, Any], news: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of token records grow (`content`, `refusal`; `tokens`, `token_logprobs`, … of text completions)."""
    for key, value in news.items():
        if isinstance(value, list) and isinstance(known.get(key), list):
            known[key].extend(value)
        elif value is not None or key not in known:
            known[key] = value
    return known
