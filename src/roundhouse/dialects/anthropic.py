"""Anthropic's Messages API: its requests as OpenAI chats, and answers as its messages and events.

Every engine gets a chat, also those that have `/v1/messages` themselves: they translate too, each in its own way, and
their answers would know neither status nor our figures. Shapes: https://docs.anthropic.com/en/api/messages and
messages-streaming, and what the `anthropic` Python package sends and reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.dialects import body, sse
from roundhouse.dialects.anthropic_request import chat_of
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from roundhouse.core.model import Want

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
PATHS: Final = (MESSAGES, COUNT)
CHAT: Final = "/v1/chat/completions"
BYTES_PER_TOKEN: Final = 3.5
"""Of English text, by which tokens are estimated where nobody is loaded to count them."""
IMAGE_TOKENS: Final = 1600
"""Of one image, at most, by Anthropic's own rule."""

_TYPES: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
    504: "timeout_error",
}  # fmt: skip
"""Error types by HTTP status; any other is an `api_error`."""
_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class Anthropic:
    """The dialect.

    Args:
        counts: whether a model is loaded on an engine that counts tokens of such a request itself.
    """

    name = "anthropic"

    def __init__(self, counts: Callable[[str], bool]) -> None:
        self._counts = counts

    def translate(self, path: str, headers: Mapping[bytes, bytes], raw: bytes) -> Message | Count:
        """A request to one of `PATHS`; versions in its headers make no difference here. Raises BadRequest."""
        fields = body.RequestBody.parse(raw).fields
        model = fields.get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest("model: Field required", param="model")
        if path == COUNT:
            return Count(model, raw, fields, ask=self._counts(model))
        return Message(fields, model)

    def error(self, status: int, fields: Mapping[str, Any]) -> bytes:
        """`{"type": "error", "error": {"type", "message"}}`."""
        return orjson.dumps(_error(status, fields))


def _error(status: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    told = {"type": _TYPES.get(status, "api_error"), "message": fields.get("message", "")}
    return {"type": "error", "error": told}


class Count:
    """How many tokens a request would have: the engine's own count, or an estimate where nobody is loaded to count."""

    content_type = b"application/json"
    before: Want | None = None
    after: Want | None = None

    def __init__(self, model: str, raw: bytes, fields: Mapping[str, Any], *, ask: bool) -> None:
        self.model, self.body = model, raw
        self.path: str | None = COUNT if ask else None
        self._estimate = 0 if ask else _estimate(fields)

    def feed(self, data: bytes) -> bytes:
        """There is no stream."""
        return data

    def end(self) -> bytes:
        """There is no stream."""
        return b""

    def whole(self, body: bytes) -> bytes:
        """`{"input_tokens": N}`."""
        return body if self.path is not None else orjson.dumps({"input_tokens": self._estimate})


def _estimate(fields: Mapping[str, Any]) -> int:
    texts, images = 0, 0
    open_parts: list[object] = [fields.get(key) for key in ("system", "messages", "tools")]
    while open_parts:
        match open_parts.pop():
            case str(text):
                texts += len(text.encode("utf-8", "replace"))
            case {"type": "image"}:
                images += 1
            case dict(parts):
                open_parts += parts.values()
            case list(parts):
                open_parts += parts
            case _:
                pass
    return int(texts / BYTES_PER_TOKEN) + images * IMAGE_TOKENS


# --- answers ---


class Message:
    """One request for a message, and the way back of its answer."""

    content_type = b"text/event-stream; charset=utf-8"
    before: Want | None = None
    after: Want | None = None

    def __init__(self, fields: Mapping[str, Any], model: str) -> None:
        self.path: str | None = CHAT
        self.model = model
        self.body = body.written(chat_of(fields, model))
        self._splitter = sse.Splitter()
        self._started = False
        self._ended = False
        self._open: tuple[str, int] | None = None
        self._index = -1
        self._usage: Mapping[str, Any] = {}
        self._reason = "stop"

    def feed(self, data: bytes) -> bytes:
        """Events; while the model loads, a `ping` for each word of status."""
        block = self._splitter.feed(data)
        return b"".join(out for event in sse.events(block) for out in self._event(event)) if block else b""

    def end(self) -> bytes:
        """What closes the message; nothing after an error."""
        return b"" if self._ended else b"".join(self._close())

    def whole(self, body: bytes) -> bytes:
        """The message."""
        found = orjson.loads(body)
        choice = (found.get("choices") or [{}])[0]
        message = choice.get("message") or {}
        content: list[dict[str, Any]] = []
        if thought := message.get("reasoning_content") or message.get("reasoning"):
            content.append({"type": "thinking", "thinking": thought, "signature": ""})
        if message.get("content"):
            content.append({"type": "text", "text": message["content"]})
        content += [_use(call) for call in message.get("tool_calls") or ()]
        told = self._message(found.get("id"), found.get("usage") or {})
        return orjson.dumps(told | {"content": content, "stop_reason": _reason(choice.get("finish_reason"))})

    def _message(self, number: object, usage: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": f"msg_{str(number or '').removeprefix('chatcmpl-')}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _counted(usage),
        }

    def _event(self, event: bytes) -> Iterator[bytes]:
        data = sse.payload(event).strip()
        if self._ended or data == b"[DONE]":
            return
        if not data:  # a comment
            if self._started:
                yield _named("ping")
            return
        chunk = orjson.loads(data)
        if "error" in chunk:
            self._ended = True
            yield _named(**_error(500, chunk["error"]))
            return
        if not self._started:
            self._started = True
            yield _named("message_start", message=self._message(chunk.get("id"), {}))
        if "event" in chunk and not chunk.get("usage"):
            yield _named("ping")
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            self._reason = choice.get("finish_reason") or self._reason
            yield from self._delta(choice.get("delta") or {})

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            yield from self._begin(("thinking", 0), {"type": "thinking", "thinking": "", "signature": ""})
            yield self._piece({"type": "thinking_delta", "thinking": thought})
        if text := delta.get("content"):
            yield from self._begin(("text", 0), {"type": "text", "text": ""})
            yield self._piece({"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            use: dict[str, Any] = {
                "type": "tool_use",
                "id": call.get("id") or "",
                "name": function.get("name") or "",
                "input": {},
            }
            yield from self._begin(("tool", call.get("index", 0)), use)
            if arguments := function.get("arguments"):
                yield self._piece({"type": "input_json_delta", "partial_json": arguments})

    def _begin(self, block: tuple[str, int], content: dict[str, Any]) -> Iterator[bytes]:
        """A content block begins where another kind, or another call, goes on."""
        if self._open == block:
            return
        yield from self._stop()
        self._open = block
        self._index += 1
        yield _named("content_block_start", index=self._index, content_block=content)

    def _piece(self, delta: dict[str, Any]) -> bytes:
        return _named("content_block_delta", index=self._index, delta=delta)

    def _stop(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            yield _named("content_block_stop", index=self._index)

    def _close(self) -> Iterator[bytes]:
        if not self._started:
            yield _named("message_start", message=self._message(None, {}))
        yield from self._stop()
        delta = {"stop_reason": _reason(self._reason), "stop_sequence": None}
        yield _named("message_delta", delta=delta, usage=_counted(self._usage))
        yield _named("message_stop")


def _named(type: str, **fields: object) -> bytes:  # noqa: A002  # the field's name
    return b"event: %b\n" % type.encode() + sse.encode({"type": type, **fields})


def _reason(finish: object) -> str:
    return _REASONS.get(str(finish), "end_turn")


def _use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = {"arguments": function.get("arguments")}  # the model wrote no JSON; nothing of it is lost
    return {"type": "tool_use", "id": call.get("id") or "", "name": function.get("name") or "", "input": arguments}


def _counted(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic counts what came from a cache apart; figures of ours (spec B3) stand beside."""
    details = usage.get("prompt_tokens_details")
    cached = (details.get("cached_tokens") if isinstance(details, dict) else None) or 0
    ours = {key: value for key, value in usage.items() if key.endswith(("_s", "/s"))}
    return {
        "input_tokens": max(0, (usage.get("prompt_tokens") or 0) - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.get("completion_tokens") or 0,
        **ours,
    }
