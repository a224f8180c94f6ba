"""A streamed answer on its way from the engine to the client: the hot path.

Owns what spec B3 to B7 change in it: the order at its end, usage, the performance line, the name of the model, foreign
`event` keys, errors. Every other byte passes as it came. Knows no sockets, and time only as it is told.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.dialects import body, failures, reasoning, sse, status
from roundhouse.dialects.status import Channel, Channels
from roundhouse.errors import RouterError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.dialects.meter import Meter

# What makes an event worth parsing. Inside a JSON string quotes are escaped, so no text of a model can look like a key.
_SPECIAL: Final = re.compile(
    rb'["\\\[](?:usage"\s*+:\s*+\{|finish_reason"\s*+:\s*+"|event"|error"|timings"\s*+:|u00|DONE\])'
)
_TOOL_CALLS: Final = re.compile(rb'"(?:tool_calls|function_call)"\s*+:\s*+[\[{]')
_SUSPECT: Final = re.compile(rb'"event"|\\u00')
_MODEL: Final = re.compile(rb'"model(?:_name)?"\s*+:\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+")')
_TEXT: Final = re.compile(rb'"(?:content|reasoning_content|reasoning|text)"\s*+:\s*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
_TEXT_KEYS: Final = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")
_LONGEST_SHAPE: Final = 4096
_NO_SHAPE: Final = (b"", b"\n\n\n")  # matches nothing: a known shape has its first line end second from its end


class ChatRelay:
    """Relays one streamed answer (chat or text completion).

    Attributes:
        meter: the figures of the answer.
        finished: `[DONE]` has been given out; whatever the engine still sends is dropped, so its stream may be closed.
        error: what the answer ended with, None when it ended well.
    """

    __slots__ = (
        "_channels",
        "_choices",
        "_ended",
        "_extra_usage",
        "_finish",
        "_frames",
        "_head",
        "_include_usage",
        "_knows_name",
        "_last_chunk",
        "_rename",
        "_seen_text",
        "_splitter",
        "_tail",
        "_tool_calls",
        "_usage_chunk",
        "error",
        "finished",
        "meter",
    )

    def __init__(
        self,
        frames: status.Frames,
        meter: Meter,
        channels: Channels,
        *,
        include_usage: bool = False,
        choices: int = 1,
        extra_usage: bool = True,
    ) -> None:
        """Makes a relay.

        Args:
            frames: makes our own chunks; its model is the name the client asked for, which every chunk shall have.
            meter: started when the request arrived.
            channels: where the performance line goes.
            include_usage: the client asked for usage, so it gets it as a last chunk without choices (spec B6).
            choices: how many choices the answer has; the end is held when that many have finished.
            extra_usage: add our keys to usage.
        """
        self.meter = meter
        self.finished = False
        self.error: RouterError | None = None
        self._frames = frames
        self._channels = channels
        self._include_usage = include_usage
        self._choices = choices
        self._extra_usage = extra_usage
        self._splitter = sse.Splitter()
        self._seen_text = False
        self._tool_calls = False
        self._ended: set[int] = set()
        self._finish: bytes | None = None
        self._usage_chunk: bytes | None = None
        self._last_chunk: Mapping[str, Any] = {}
        self._knows_name = False
        self._rename: tuple[bytes, bytes] | None = None
        self._head, self._tail = _NO_SHAPE

    def feed(self, data: bytes, now: float) -> bytes:
        """Takes what the engine sent and gives what the client gets now.

        Raises:
            DialectError: an event without end.
        """
        # The commonest read, one event that differs from an examined one only inside its text, passes at once. Text
        # without a quote in it can hold no JSON key, so nothing in it needs a look.
        head, tail = self._head, self._tail
        if (
            data.startswith(head)
            and data.endswith(tail)
            and data.find(b'"', len(head), -len(tail)) < 0
            and data.find(b"\n", len(head)) == len(data) - 2
            and not self._splitter.held
        ):
            self.meter.last = now
            return data if self._rename is None else data.replace(*self._rename)
        block = self._splitter.feed(data)
        if not block or self.finished:
            return b""
        return self._relay(block, now)

    def end(self, now: float) -> bytes:
        """The engine closed its stream: what is left, an error if the answer was cut, `[DONE]` if it did not come."""
        cut = UpstreamError("The engine ended its answer before it was finished.")
        return self.broken(cut, now)

    def broken(self, error: RouterError, now: float) -> bytes:
        """The engine is gone: what is left, then `error` unless the answer was finished already, then `[DONE]`."""
        if self.finished:
            return b""
        out = self._leftover(now)
        if self.finished:
            return out
        if self._finish is not None:
            return out + self._close(now)
        return out + self._fail(error, failures.error_event(error))

    # --- blocks of whole events ---

    def _relay(self, block: bytes, now: float) -> bytes:
        if self._seen_text and not self._is_special(block):
            if not block.startswith(b":"):
                self.meter.last = now
            self._learn_shape(block)
            return self._renamed(block)
        return b"".join([self._event(event, now) for event in sse.events(block)])

    def _is_special(self, block: bytes) -> bool:
        if _SPECIAL.search(block) is not None:
            return True
        if reasoning.SAID.search(block) is not None:
            return True
        if self._finish is not None:
            return True  # what comes now decides whether the held end may still be held
        return not self._tool_calls and _TOOL_CALLS.search(block) is not None

    def _learn_shape(self, event: bytes) -> None:
        """Remembers what stands around the text of this event, if it is one plain event with one text."""
        found = _TEXT.search(event) if len(event) < _LONGEST_SHAPE else None
        if found is None or not event.startswith(b"data:") or not event.endswith(b"\n\n") or event.count(b"\n") != 2:
            return
        self._head, self._tail = event[: found.start(1)], event[found.end(1) :]

    def _renamed(self, block: bytes) -> bytes:
        return block if self._rename is None else block.replace(*self._rename)

    # --- single events ---

    def _event(self, event: bytes, now: float) -> bytes:
        """What the client gets for one event of the engine's."""
        if self.finished:
            return b""
        data = sse.payload(event).replace(b"\n", b" ")  # between a JSON text's tokens the same
        if not data:
            return self._renamed(event)
        if data.strip() == b"[DONE]":
            return self._close(now)
        chunk = _parse(data)
        if chunk is None:
            return b"" if _SUSPECT.search(event) else self._renamed(event)
        return self._chunk(event, data, chunk, now)

    def _chunk(self, event: bytes, data: bytes, chunk: Mapping[str, Any], now: float) -> bytes:
        if failures.is_error(chunk):
            return self._release() + self._fail(*failures.chunk_error(chunk))
        self._learn_name(data, chunk)
        self.meter.note(chunk)
        self._note_text(chunk, now)
        if "event" in chunk or _is_hidden(event):
            data = body.edit(data, {"event": None})
            event = sse.encode(data)
        choices = chunk.get("choices")
        if reasoning.complete(choices):
            data = body.edit(data, {"choices": orjson.dumps(choices)})
            event = sse.with_payload(event, data)
        if isinstance(chunk.get("usage"), dict):
            if not choices:
                self._usage_chunk = self._renamed(data)
                return b""
            data = body.edit(data, {"usage": None})
            event = sse.with_payload(event, data)
        if not choices:
            return self._renamed(event)
        return self._choice(event, data, chunk)

    def _choice(self, event: bytes, data: bytes, chunk: Mapping[str, Any]) -> bytes:
        """A chunk with choices: passes, unless it is the last finish, which is held."""
        self._last_chunk = chunk
        before = self._release()
        ends = {choice.get("index", 0) for choice in _choices(chunk) if choice.get("finish_reason")}
        if not ends:
            return before + self._renamed(event)
        self._ended |= ends
        self._tool_calls |= any(choice.get("finish_reason") == "tool_calls" for choice in _choices(chunk))
        if len(self._ended) < self._choices:
            return before + self._renamed(event)
        self._finish = self._renamed(data)
        self._head, self._tail = _NO_SHAPE  # what follows must be looked at
        return before

    def _release(self) -> bytes:
        """Gives up holding a finish chunk that turned out not to be the last chunk with choices."""
        held, self._finish = self._finish, None
        return b"" if held is None else sse.encode(held)

    def _note_text(self, chunk: Mapping[str, Any], now: float) -> None:
        for choice in _choices(chunk):
            if _has_text(choice):
                delta = _delta(choice)
                self._seen_text = True
                self.meter.token(now)
                self._tool_calls |= bool(delta.get("tool_calls") or delta.get("function_call"))

    def _learn_name(self, data: bytes, chunk: Mapping[str, Any]) -> None:
        """Remembers how the engine spells its model's name, so that later chunks need no parsing (spec A5)."""
        told = chunk.get("model", chunk.get("model_name"))
        if self._knows_name or not isinstance(told, str):
            return
        self._knows_name = True
        missing = self._missing(chunk)
        if told == self._frames.model and not missing:
            return
        for found in _MODEL.finditer(data):
            if orjson.loads(found[1]) == told:
                key = found[0].removesuffix(found[1])
                self._rename = (found[0], key + orjson.dumps(self._frames.model) + missing)
                return

    def _missing(self, chunk: Mapping[str, Any]) -> bytes:
        """What older TabbyAPI leaves out of its chunks, to stand behind its `model_name`; others' chunks are theirs."""
        if "model" in chunk:
            return b""
        usual = {"model": self._frames.model, "object": "chat.completion.chunk", "created": self._frames.created}
        absent = {key: value for key, value in usual.items() if key not in chunk}
        return b"," + orjson.dumps(absent)[1:-1] if absent else b""

    # --- the end ---

    def _leftover(self, now: float) -> bytes:
        """The last event, when it came whole but for its blank line."""
        rest = self._splitter.rest()
        self._splitter = sse.Splitter()
        data = sse.payload(rest).strip()
        if data == b"[DONE]" or _parse(data) is not None:
            return self._event(sse.encode(data), now)
        return b""

    def _fail(self, error: RouterError, event: bytes) -> bytes:
        self.error = error
        self._stop()
        return event + sse.DONE

    def _stop(self) -> None:
        self.finished = True
        self._head, self._tail = _NO_SHAPE

    def _close(self, now: float) -> bytes:
        """The end in the order of spec B3: performance text, the finish chunk, the usage chunk, `[DONE]`."""
        self._stop()
        line = self.meter.line(now)
        usage = self._usage(now)
        out: list[bytes] = []
        if line and Channel.COMMENT in self._channels:
            out.append(sse.comment(line))
        if line and Channel.CONTENT in self._channels and not self._tool_calls:
            out.extend((self._text_of_finish(), self._frames.chunk({"content": f"\n\n{line}\n"})))
        ours: dict[str, bytes | None] = {}
        if line and Channel.EVENT in self._channels:
            ours["event"] = orjson.dumps(status.event(line, done=True))
        if usage and not self._include_usage:
            ours["usage"] = usage
            if self.meter.timings is not None:
                ours["timings"] = orjson.dumps(self.meter.timings)
        if self._finish is not None or ours:
            out.append(sse.encode(body.edit(self._finish or self._empty_chunk(), ours)))
        if usage and self._include_usage:
            out.append(sse.encode(body.edit(self._usage_frame(), {"usage": usage})))
        return b"".join([*out, sse.DONE])

    def _usage(self, now: float) -> bytes | None:
        usage = self.meter.extended_usage(now) if self._extra_usage else self.meter.usage
        return None if usage is None else orjson.dumps(usage)

    def _text_of_finish(self) -> bytes:
        """The text that the finish chunk itself carries (vLLM), as a chunk of its own before our line."""
        choices = _choices(_parse(self._finish or b"") or {})
        if self._finish is None or not any(_has_text(choice) for choice in choices):
            return b""
        first = [{**choice, "finish_reason": None} for choice in choices]
        last = [{**choice, "delta": {}} for choice in choices]
        text = body.edit(self._finish, {"choices": orjson.dumps(first), "timings": None})
        self._finish = body.edit(self._finish, {"choices": orjson.dumps(last)})
        return sse.encode(text)

    def _empty_chunk(self) -> bytes:
        """A chunk to carry what has no finish chunk to ride on: the engine said `[DONE]` without one."""
        choice: dict[str, object] = {"index": 0, "delta": {}, "finish_reason": None}
        if self._last_chunk.get("object") == "text_completion":
            choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": None}
        return orjson.dumps(self._envelope() | {"choices": [choice]})

    def _usage_frame(self) -> bytes:
        if self._usage_chunk is not None:
            return self._usage_chunk
        return orjson.dumps(self._envelope() | {"choices": []})

    def _envelope(self) -> dict[str, object]:
        """The fields that every chunk of this answer has."""
        last = self._last_chunk
        return {
            "id": last.get("id", self._frames.id),
            "object": last.get("object", "chat.completion.chunk"),
            "created": last.get("created", self._frames.created),
            "model": self._frames.model,
        }


def _parse(data: bytes) -> dict[str, Any] | None:
    """The event's JSON object, read as leniently as a client in Python would; None when it is none."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(data.decode(errors="replace"), strict=False)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _choices(chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = chunk.get("choices")
    return [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []


def _delta(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    found = choice.get("delta")
    return found if isinstance(found, dict) else {}


def _has_text(choice: Mapping[str, Any]) -> bool:
    delta = _delta(choice)
    return bool(choice.get("text")) or any(delta.get(key) for key in _TEXT_KEYS)


def _is_hidden(event: bytes) -> bool:
    """Whether one of several `data:` lines, read alone as Open WebUI does, is an object with an `event` key."""
    lines = sse.data_lines(event) if event.count(b"data:") > 1 else []
    return any("event" in (_parse(line) or {}) for line in lines)
