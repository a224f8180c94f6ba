"""OpenAI's Responses API: its requests as chats, and answers as its items and events.

Every engine gets a chat; what a response remembers for `previous_response_id` is given and taken as chat messages.
Shapes: https://platform.openai.com/docs/api-reference/responses and responses-streaming, and what the `openai` package
and Codex send and read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.dialects import body, sse
from roundhouse.dialects.responses_request import add_item, chat_of, custom_tools, grouped_tools, messages_of
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from roundhouse.core.model import Want
    from roundhouse.dialects.responses_request import Messages

PATH: Final = "/v1/responses"
CHAT: Final = "/v1/chat/completions"


def previous(raw: bytes) -> str | None:
    """The response that a request goes on from; None for a new conversation, or where the request is no JSON."""
    try:
        found = orjson.loads(raw).get("previous_response_id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


class Response:
    """One request, and the way back of its answer.

    Attributes:
        id: `resp_…`.
        stored: whether later requests may go on from it.
        said: all messages of the conversation before the answer, instructions apart.
        answer: the answer as a message; complete when it has ended.
        told: the response object, None until it has ended well.
    """

    content_type = b"text/event-stream; charset=utf-8"
    before: Want | None = None
    after: Want | None = None

    def __init__(self, raw: bytes, number: str, created: float, earlier: Messages | None = None) -> None:
        """`earlier` is the conversation of the previous response. Raises BadRequest."""
        fields = body.RequestBody.parse(raw).fields
        model = fields.get("model")
        if not isinstance(model, str) or not model:
            raise BadRequest('The request names no model. Add "model"; GET /v1/models lists them.', param="model")
        if fields.get("background"):
            raise BadRequest("background responses are not supported; stream it instead", param="background")
        self.path: str | None = CHAT
        self.model = model
        self.id = f"resp_{number}"
        self.stored = fields.get("store") is not False
        self.said: Messages = [*(earlier or []), *messages_of(fields.get("input"))]
        self._customs = custom_tools(fields)
        self.body = body.written(chat_of(fields, model, self.said))
        self._grouped = grouped_tools(fields)
        body.written([[[fields]]])  # so deep stand those of its fields that every answer repeats
        self.answer: dict[str, Any] | None = None
        self.told: dict[str, Any] | None = None
        self._fields = fields
        self._created = int(created)
        self._splitter = sse.Splitter()
        self._sequence = -1
        self._ended = False
        self._items: list[dict[str, Any]] = []
        self._open: tuple[str, int] | None = None
        self._usage: Mapping[str, Any] | None = None
        self._reason: object = None

    def feed(self, data: bytes) -> bytes:
        """Events; words of status while the model loads are comments."""
        block = self._splitter.feed(data)
        return b"".join(out for event in sse.events(block) for out in self._event(event)) if block else b""

    def end(self) -> bytes:
        """What closes the response; nothing after an error."""
        return b"" if self._ended else b"".join((*self._begin(), *self._close()))

    def whole(self, body: bytes) -> bytes:
        """The response object."""
        found = orjson.loads(body)
        choice = (found.get("choices") or [{}])[0]
        message = choice.get("message") or {}
        self._usage, self._reason = found.get("usage"), choice.get("finish_reason")
        if thought := message.get("reasoning_content") or message.get("reasoning"):
            self._items.append(self._reasoning(thought))
        if message.get("content"):
            self._items.append(self._message(message["content"]))
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            self._items.append(
                self._call(call.get("id") or "", function.get("name") or "", function.get("arguments") or "")
            )
        return orjson.dumps(self._finished())

    # --- items ---

    def _numbered(self, kind: str) -> str:
        return f"{kind}_{self.id.removeprefix('resp_')}_{len(self._items)}"

    def _message(self, text: str, status: str = "completed") -> dict[str, Any]:
        content = [_text(text)] if status == "completed" else []
        return {
            "id": self._numbered("msg"),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _reasoning(self, text: str, status: str = "completed") -> dict[str, Any]:
        content = [{"type": "reasoning_text", "text": text}] if status == "completed" else []
        return {"id": self._numbered("rs"), "type": "reasoning", "summary": [], "content": content, "status": status}

    def _call(self, call_id: str, name: str, arguments: str, status: str = "completed") -> dict[str, Any]:
        base = {"id": self._numbered("fc"), "call_id": call_id, "name": name, "status": status}
        if name in self._grouped:
            base["namespace"], base["name"] = self._grouped[name]
        if name in self._customs:
            return {**base, "type": "custom_tool_call", "input": _custom_input(arguments)}
        return {**base, "type": "function_call", "arguments": arguments}

    # --- the stream ---

    def _event(self, event: bytes) -> Iterator[bytes]:
        data = sse.payload(event).strip()
        if self._ended or data == b"[DONE]":
            return
        if not data:
            yield event
            return
        chunk = orjson.loads(data)
        if "error" in chunk:
            self._ended = True
            yield from self._failed(chunk["error"])
            return
        yield from self._begin()
        if "event" in chunk and not chunk.get("usage"):
            yield sse.comment(chunk["event"].get("data", {}).get("description", ""))
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            self._reason = choice.get("finish_reason") or self._reason
            yield from self._delta(choice.get("delta") or {})

    def _begin(self) -> Iterator[bytes]:
        if self._sequence < 0:
            for kind in ("response.created", "response.in_progress"):
                yield self._named(kind, response=self._object("in_progress"))

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            yield from self._at(("reasoning", 0), lambda: self._reasoning("", "in_progress"))
            yield from self._part("reasoning_text", thought)
        if text := delta.get("content"):
            yield from self._at(("message", 0), lambda: self._message("", "in_progress"))
            yield from self._part("output_text", text)
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            name, number = function.get("name") or "", call.get("id") or ""
            yield from self._at(
                ("call", call.get("index", 0)),
                lambda number=number, name=name: self._call(number, name, "", "in_progress"),
            )
            if arguments := function.get("arguments"):
                yield from self._argument(arguments)

    def _at(self, place: tuple[str, int], make: Any) -> Iterator[bytes]:  # noqa: ANN401  # a function that makes the item
        """An item begins where another kind, or another call, goes on."""
        if self._open == place:
            return
        yield from self._stop()
        self._open = place
        self._items.append(make())
        yield self._named("response.output_item.added", **self._here(), item=dict(self._items[-1]))

    def _here(self) -> dict[str, Any]:
        return {"output_index": len(self._items) - 1}

    def _part(self, kind: str, text: str) -> Iterator[bytes]:
        item = self._items[-1]
        where = {"item_id": item["id"], **self._here(), "content_index": 0}
        if not item["content"]:
            item["content"] = [_text("") if kind == "output_text" else {"type": kind, "text": ""}]
            yield self._named("response.content_part.added", **where, part=dict(item["content"][0]))
        item["content"][0]["text"] += text
        more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        yield self._named(f"response.{kind}.delta", **where, delta=text, **more)

    def _argument(self, arguments: str) -> Iterator[bytes]:
        item = self._items[-1]
        where = {"item_id": item["id"], **self._here()}
        if item["type"] == "custom_tool_call":  # its text is inside the JSON that the engine writes: whole when it ends
            item["input"] += arguments
            return
        item["arguments"] += arguments
        yield self._named("response.function_call_arguments.delta", **where, delta=arguments)

    def _stop(self) -> Iterator[bytes]:
        if self._open is None:
            return
        self._open, item = None, self._items[-1]
        where = {"item_id": item["id"], **self._here()}
        item["status"] = "completed"
        if item["type"] == "function_call":
            yield self._named(
                "response.function_call_arguments.done", **where, arguments=item["arguments"], name=item["name"]
            )
        elif item["type"] == "custom_tool_call":
            item["input"] = _custom_input(item["input"])
            yield self._named("response.custom_tool_call_input.delta", **where, delta=item["input"])
            yield self._named("response.custom_tool_call_input.done", **where, input=item["input"])
        elif item["content"]:
            part = item["content"][0]
            more: dict[str, Any] = {"logprobs": []} if part["type"] == "output_text" else {}
            yield self._named(f"response.{part['type']}.done", **where, content_index=0, text=part["text"], **more)
            yield self._named("response.content_part.done", **where, content_index=0, part=dict(part))
        yield self._named("response.output_item.done", **self._here(), item=item)

    def _close(self) -> Iterator[bytes]:
        yield from self._stop()
        told = self._finished()
        yield self._named(f"response.{told['status']}", response=told)

    def _failed(self, error: Mapping[str, Any]) -> Iterator[bytes]:
        yield from self._begin()
        told = {"code": error.get("code") or "server_error", "message": error.get("message", "")}
        yield self._named("response.failed", response=self._object("failed") | {"error": told})

    def _named(self, kind: str, **fields: object) -> bytes:
        self._sequence += 1
        return b"event: %b\n" % kind.encode() + sse.encode({"type": kind, "sequence_number": self._sequence, **fields})

    # --- the object ---

    def _finished(self) -> dict[str, Any]:
        cut = self._reason == "length"
        self.answer = _as_message(self._items)
        self.told = self._object("incomplete" if cut else "completed") | {
            "output": self._items,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "usage": _usage(self._usage or {}),
        }
        return self.told

    def _object(self, status: str) -> dict[str, Any]:
        fields = self._fields
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": fields.get("instructions"),
            "max_output_tokens": fields.get("max_output_tokens"),
            "model": self.model,
            "output": [],
            "parallel_tool_calls": fields.get("parallel_tool_calls") is not False,
            "previous_response_id": fields.get("previous_response_id"),
            "reasoning": fields.get("reasoning") or {"effort": None, "summary": None},
            "store": self.stored,
            "temperature": fields.get("temperature"),
            "text": fields.get("text") or {"format": {"type": "text"}},
            "tool_choice": fields.get("tool_choice") or "auto",
            "tools": fields.get("tools") or [],
            "top_p": fields.get("top_p"),
            "truncation": "disabled",
            "usage": None,
            "user": fields.get("user"),
            "metadata": fields.get("metadata") or {},
        }


# --- answers ---


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _custom_input(arguments: str) -> str:
    """A custom tool's text, out of the JSON that it was asked to be in."""
    try:
        found = orjson.loads(arguments).get("input")
    except (ValueError, AttributeError):
        return arguments
    return found if isinstance(found, str) else arguments


def _as_message(items: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    said: Messages = []
    for item in items:
        add_item(said, item)
    return said[0] if said else None


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The same figures by other names; ours (spec B3) stand beside."""
    cached, thought = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    count_in, count_out = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    return {
        "input_tokens": count_in,
        "input_tokens_details": {"cached_tokens": (cached or {}).get("cached_tokens") or 0},
        "output_tokens": count_out,
        "output_tokens_details": {"reasoning_tokens": (thought or {}).get("reasoning_tokens") or 0},
        "total_tokens": count_in + count_out,
        **{key: value for key, value in usage.items() if key.endswith(("_s", "/s"))},
    }
