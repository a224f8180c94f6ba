"""Ollama's API: its requests as OpenAI's, and answers as its lines of JSON.

Shapes: https://docs.ollama.com/api (version 0.13), and what the `ollama` Python package sends and reads. Times are
nanoseconds there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.core.model import Want
from roundhouse.dialects import body, sse
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CHAT, GENERATE, EMBED, EMBEDDINGS = "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"
PATHS: Final = (CHAT, GENERATE, EMBED, EMBEDDINGS)
NANO: Final = 1_000_000_000
_OPTIONS: Final = {
    **dict.fromkeys(("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop")),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "repeat_penalty", "repeat_last_n")),
    "num_predict": "max_tokens",
}
"""Options by what OpenAI's API, or llama.cpp's, calls them (None: the same). `num_ctx` is ours to say."""
_IMAGES: Final = (("/9j/", "jpeg"), ("iVBOR", "png"), ("R0lG", "gif"), ("UklGR", "webp"))
"""How base64 text of an image begins, by type."""


class Ollama:
    """The dialect.

    Args:
        known: whether a model of that name exists; clients of Ollama's write `name:latest`.
        now: seconds since the epoch.
    """

    name = "ollama"

    def __init__(self, known: Callable[[str], bool], now: Callable[[], float]) -> None:
        self._known = known
        self._now = now

    def translate(self, path: str, headers: Mapping[bytes, bytes], raw: bytes) -> Answer:
        """A request to one of `PATHS`, whose headers say nothing in this API. Raises BadRequest."""
        fields = body.RequestBody.parse(raw).fields
        model = fields.get("model", fields.get("name"))
        if not isinstance(model, str) or not model:
            raise BadRequest("model is required", param="model")
        return _MAKERS[path](fields, self._named(model), self._now)

    def _named(self, model: str) -> str:
        short = model.removesuffix(":latest")
        return model if self._known(model) or not self._known(short) else short

    def error(self, status: int, fields: Mapping[str, Any]) -> bytes:  # the status stands in the head
        """`{"error": "..."}`."""
        return orjson.dumps({"error": fields.get("message", "")})


class Answer:
    """One request and the way back of its answer: text and chat.

    Attributes:
        before: what is done instead of asking: the model is loaded or unloaded.
        after: what is done when the answer has ended.
    """

    content_type = b"application/x-ndjson"

    def __init__(self, path: str, request: dict[str, Any], now: Callable[[], float], fields: Mapping[str, Any]) -> None:
        self.path: str | None = path
        self.model = str(request["model"])
        self.body = body.written(request)
        self.before: Want | None = None
        self.after = Want.UNLOAD if _is_zero(fields.get("keep_alive")) else None
        self._now = now
        self._splitter = sse.Splitter()
        self._calls: dict[int, dict[str, str]] = {}
        self._usage: Mapping[str, Any] = {}
        self._reason = ""
        self._ended = False

    # What differs between chat and generate.

    def piece(self, text: str, thinking: str, calls: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """The part of a line that holds text."""
        raise NotImplementedError

    def feed(self, data: bytes) -> bytes:
        """A line of JSON for each event with text."""
        block = self._splitter.feed(data)
        return b"".join(line for event in sse.events(block) for line in self._event(event)) if block else b""

    def end(self) -> bytes:
        """The last line, which has the figures; nothing after an error."""
        return b"" if self._ended else self._last()

    def whole(self, body: bytes) -> bytes:
        """The whole answer as one line; for a load or unload, that it is done."""
        if self.before is not None:
            return orjson.dumps(self._line(self.piece("", "")) | {"done": True, "done_reason": self.before.value})
        found = orjson.loads(body)
        choice = (found.get("choices") or [{}])[0]
        message = choice.get("message") or {"content": choice.get("text")}
        calls = [_call(call["function"]) for call in message.get("tool_calls") or ()]
        self._usage, self._reason = found.get("usage") or {}, choice.get("finish_reason") or "stop"
        line = self._line(self.piece(message.get("content") or "", _thinking(message), calls))
        return orjson.dumps(line | self._figures())

    def _event(self, event: bytes) -> Iterator[bytes]:
        data = sse.payload(event).strip()
        if not data or data == b"[DONE]" or self._ended:
            return
        chunk = orjson.loads(data)
        if "error" in chunk:
            self._ended = True
            yield orjson.dumps({"error": chunk["error"].get("message", "")}) + b"\n"
            return
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            self._reason = choice.get("finish_reason") or self._reason
            delta = choice.get("delta") or {"content": choice.get("text")}
            self._gather(delta.get("tool_calls") or ())
            text, thinking = delta.get("content") or "", _thinking(delta)
            if text or thinking:
                yield orjson.dumps(self._line(self.piece(text, thinking)) | {"done": False}) + b"\n"

    def _gather(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Tool calls come in pieces and leave whole."""
        for call in calls:
            gathered = self._calls.setdefault(call.get("index", 0), {"name": "", "arguments": ""})
            for key in gathered:
                gathered[key] += (call.get("function") or {}).get(key) or ""

    def _last(self) -> bytes:
        lines = []
        if self._calls:
            calls = [_call(self._calls[index]) for index in sorted(self._calls)]
            lines.append(self._line(self.piece("", "", calls)) | {"done": False})
        lines.append(self._line(self.piece("", "")) | self._figures())
        return b"".join(orjson.dumps(line) + b"\n" for line in lines)

    def _line(self, piece: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.model, "created_at": _time(self._now()), **piece}

    def _figures(self) -> dict[str, Any]:
        usage = self._usage
        rate, answer = usage.get("response_token/s"), usage.get("completion_tokens") or 0
        # Ollama's clients know `stop`, `length`, `load` and `unload`: an answer that calls a tool stopped.
        return {
            "done": True,
            "done_reason": "length" if self._reason == "length" else "stop",
            "total_duration": _nano(usage.get("total_s")),
            "load_duration": _nano((usage.get("load_s") or 0) + (usage.get("queue_s") or 0)),
            "prompt_eval_count": usage.get("prompt_tokens") or 0,
            "prompt_eval_duration": _nano(usage.get("ttft_s")),
            "eval_count": answer,
            "eval_duration": _nano(answer / rate if rate else 0),
        }


class _Chat(Answer):
    def piece(self, text: str, thinking: str, calls: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        return {"message": message | _only(thinking=thinking, tool_calls=list(calls))}


class _Generate(Answer):
    def piece(self, text: str, thinking: str, calls: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        return {"response": text, **_only(thinking=thinking, tool_calls=list(calls))}


class _Embed(Answer):
    def whole(self, body: bytes) -> bytes:
        """Vectors as lists of numbers, in the order of the inputs."""
        found = orjson.loads(body)
        vectors = [one["embedding"] for one in sorted(found["data"], key=lambda one: one.get("index", 0))]
        return self._told(vectors, found.get("usage") or {})

    def _told(self, vectors: list[Any], usage: Mapping[str, Any]) -> bytes:
        counts = {"total_duration": 0, "load_duration": 0, "prompt_eval_count": usage.get("prompt_tokens") or 0}
        return orjson.dumps({"model": self.model, "embeddings": vectors, **counts})


class _OneEmbedding(_Embed):
    def _told(self, vectors: list[Any], usage: Mapping[str, Any]) -> bytes:  # the older route tells no figures
        return orjson.dumps({"embedding": vectors[0] if vectors else []})


# --- requests ---


def _chat(fields: Mapping[str, Any], model: str, now: Callable[[], float]) -> Answer:
    messages = fields.get("messages")
    if messages is not None and not isinstance(messages, list):
        raise BadRequest("messages must be a list", param="messages")
    request = _common(fields, model)
    request["messages"] = list(_messages(messages or []))
    if fields.get("tools"):
        request["tools"] = fields["tools"]
    return _or_load(_Chat("/v1/chat/completions", request, now, fields), empty=not messages)


def _generate(fields: Mapping[str, Any], model: str, now: Callable[[], float]) -> Answer:
    prompt, request = fields.get("prompt") or "", _common(fields, model)
    if not isinstance(prompt, str):
        raise BadRequest("prompt must be a string", param="prompt")
    if fields.get("suffix"):
        raise BadRequest("suffix is not supported; use the engine's own API under /upstream", param="suffix")
    if fields.get("raw"):
        request["prompt"] = prompt
        return _or_load(_Generate("/v1/completions", request, now, fields), empty=not prompt)
    system = fields.get("system")
    said = [{"role": "system", "content": system}] if system else []
    user = {"role": "user", "content": prompt, "images": fields.get("images") or []}
    request["messages"] = list(_messages([*said, user]))
    return _or_load(_Generate("/v1/chat/completions", request, now, fields), empty=not prompt)


def _or_load(answer: Answer, *, empty: bool) -> Answer:
    """A request that says nothing loads its model, or with `keep_alive` 0 unloads it."""
    if empty:
        answer.before, answer.after = answer.after or Want.LOAD, None
    return answer


def _embed(fields: Mapping[str, Any], model: str, now: Callable[[], float]) -> Answer:
    asked = {"model": model, "input": fields.get("input", ""), "encoding_format": "float"}
    asked |= {key: fields[key] for key in ("dimensions",) if key in fields}
    return _Embed("/v1/embeddings", asked, now, fields)


def _embeddings(fields: Mapping[str, Any], model: str, now: Callable[[], float]) -> Answer:
    asked = {"model": model, "input": fields.get("prompt", ""), "encoding_format": "float"}
    return _OneEmbedding("/v1/embeddings", asked, now, fields)


_MAKERS: Final = {CHAT: _chat, GENERATE: _generate, EMBED: _embed, EMBEDDINGS: _embeddings}


def _common(fields: Mapping[str, Any], model: str) -> dict[str, Any]:
    stream = fields.get("stream", True)  # unlike OpenAI's
    if not isinstance(stream, bool):
        raise BadRequest("stream must be true or false", param="stream")
    options = fields.get("options") or {}
    if not isinstance(options, dict):
        raise BadRequest("options must be an object", param="options")
    request = {"model": model, "stream": stream} | {
        _OPTIONS[key] or key: value for key, value in options.items() if key in _OPTIONS
    }
    if not isinstance(limit := request.get("max_tokens", 1), int) or limit < 0:  # -1: until it ends
        request.pop("max_tokens")
    return request | _format(fields.get("format")) | _think(fields.get("think"))


def _format(wanted: object) -> dict[str, Any]:
    if wanted == "json":
        return {"response_format": {"type": "json_object"}}
    if isinstance(wanted, dict):
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "format", "schema": wanted}}}
    return {}


def _think(wanted: object) -> dict[str, Any]:
    if isinstance(wanted, bool):
        return {"chat_template_kwargs": {"enable_thinking": wanted}}
    return {"reasoning_effort": wanted} if isinstance(wanted, str) and wanted else {}


def _messages(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """OpenAI's messages. Calls have no ids in Ollama's API: they are numbered, and results go to the next open one."""
    open_calls: list[tuple[str, str]] = []
    number = 0
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest("each message must be an object with a role", param="messages")
        told: dict[str, Any] = {"role": message["role"], "content": _content(message)}
        calls = []
        for function in _functions(message.get("tool_calls")):
            number += 1
            open_calls.append((f"call_{number}", str(function.get("name", ""))))
            arguments = function.get("arguments")
            arguments = arguments if isinstance(arguments, str) else body.written(arguments or {}, "messages").decode()
            calls.append({"id": f"call_{number}", "type": "function", "function": {**function, "arguments": arguments}})
        if calls:
            told["tool_calls"] = calls
        if message["role"] == "tool":
            told["tool_call_id"] = _answered(open_calls, message.get("tool_name", message.get("name")))
        if message.get("thinking"):
            told["reasoning_content"] = message["thinking"]
        yield told


def _functions(calls: object) -> Iterator[Mapping[str, Any]]:
    """The functions of a message's calls."""
    if not isinstance(calls, list | None):
        raise BadRequest("tool_calls must be a list", param="messages")
    for call in calls or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise BadRequest("each of tool_calls must be an object with a function", param="messages")
        yield function


def _answered(open_calls: list[tuple[str, str]], name: object) -> str:
    """The id of the call that a result belongs to: the first open one of that name, else the first."""
    found = next((call for call in open_calls if call[1] == name), open_calls[0] if open_calls else None)
    if found is None:
        return "call_0"
    open_calls.remove(found)
    return found[0]


def _content(message: Mapping[str, Any]) -> Any:  # noqa: ANN401  # whatever the client sent as text: the engine says what is wrong with it
    text, images = message.get("content") or "", message.get("images") or ()
    if not images:
        return text
    pictures = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]
    return [*([{"type": "text", "text": text}] if text else ()), *pictures]


def _data_url(image: object) -> str:
    if not isinstance(image, str):
        raise BadRequest("images must be base64 texts", param="images")
    if image.startswith(("data:", "http:", "https:")):
        return image
    kind = next((kind for start, kind in _IMAGES if image.startswith(start)), "png")
    return f"data:image/{kind};base64,{image}"


# --- answers ---


def _thinking(message: Mapping[str, Any]) -> str:
    return message.get("reasoning_content") or message.get("reasoning") or ""


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call as Ollama has it: arguments as an object."""
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:
        arguments = {"arguments": function.get("arguments")}  # the model wrote no JSON; nothing of it is lost
    return {"function": {"name": function.get("name", ""), "arguments": arguments}}


def _only(**fields: object) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def _nano(seconds: object) -> int:
    return int(seconds * NANO) if isinstance(seconds, int | float) else 0


def _is_zero(keep_alive: object) -> bool:
    if isinstance(keep_alive, str):
        return keep_alive.strip().rstrip("smh") in {"0", "0.0"}
    return not isinstance(keep_alive, bool) and keep_alive == 0


def _time(now: float) -> str:
    """RFC 3339, as Go writes it."""
    return datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
