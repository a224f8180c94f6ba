"""What is asked of every engine through Roundhouse: one function a feature, as the table names it.

Each returns how the engine comes to it: `YES` (it is asked as the client asks, and answers), `TRANSLATED` (Roundhouse
asks it in other words), `PASSED_ON` (the engine was seen to get it; what it makes of it is not known here), or `No`, with the reason
that the client is told. Whatever else happens fails.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.wire import Events, link

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.wire import Api, Reply

YES, TRANSLATED, ESTIMATED, PASSED_ON = "yes", "translated", "estimated", "passed on"
HI = [{"role": "user", "content": "hi"}]
PICTURE = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
SEES_NOTHING = "this model sees nothing, and the engine says so"
NO_EMBEDDINGS = "not with a chat model; one for embeddings was not tried"
LIMIT = 30.0
"""Seconds for what must happen soon."""


@dataclass(frozen=True)
class No:
    reason: str

    def __str__(self) -> str:
        return f"no: {self.reason}"


@dataclass(frozen=True)
class Subject:
    """An engine as it is asked. Models that it has not here are ''.

    Attributes:
        chat: its chat model. thinks: one that thinks before it answers. calls: one that calls two tools whatever is asked.
        embed, rank, media: for embeddings, for reranking, for sounds and pictures.
        gate: a file without which its chat model does not get loaded.
        record: notes of a double: what it was sent, and who left it. None for a real engine.
    """

    api: Api
    chat: str
    gate: Path
    record: Path | None
    thinks: str = ""
    calls: str = ""
    embed: str = ""
    rank: str = ""
    media: str = ""

    def notes(self, what: str) -> list[dict[str, Any]]:
        """What a double wrote down of one kind."""
        assert self.record is not None
        found = [json.loads(line) for line in self.record.read_text().splitlines()]
        return [note for note in found if note["what"] == what]

    def heard(self) -> dict[str, Any]:
        """The body of the newest request that the double got."""
        body: dict[str, Any] = json.loads(self.notes("request")[-1]["body"])
        return body


FEATURES: dict[str, dict[str, Callable[[Subject], Awaitable[str | No]]]] = {}


def feature(group: str, name: str) -> Callable[[Any], Any]:
    def keep(function: Any) -> Any:
        FEATURES.setdefault(group, {})[name] = function
        return function

    return keep


def refused(reply: Reply, reason: str) -> No:
    """An engine, or Roundhouse for it, says that it has no such thing: an error in our shape, no 500."""
    assert reply.status in {400, 404, 405, 501}, (reply.status, reply.body[:300])
    assert reply.error()["message"]
    return No(reason)


async def unload(subject: Subject) -> None:
    assert (await subject.api.post(f"/api/v1/models/{subject.chat}/unload")).status == 200


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Polls for what nobody tells."""
    async with asyncio.timeout(LIMIT):
        while not await happened():
            await asyncio.sleep(0.01)


async def streamed(subject: Subject, path: str, body: dict[str, Any]) -> str:
    async with subject.api.open("POST", path, body | {"stream": True}) as answer:
        text = (await answer.rest()).decode()
        assert answer.status == 200, text
        return text


async def kinds(subject: Subject, body: dict[str, Any]) -> list[str]:
    """Names of the events of an Anthropic stream, pings and pieces of content left out."""
    lines = (await streamed(subject, "/v1/messages", body)).splitlines()
    found = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    return [kind for kind in found if kind not in {"ping", "content_block_delta"}]


async def cold(subject: Subject, path: str, body: dict[str, Any], word: bytes, **headers: str) -> str:
    """A stream while the model is loaded for it; it goes on being loaded when `word` has come."""
    await unload(subject)
    subject.gate.unlink()
    try:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        async with subject.api.open("POST", path, body | {"stream": True}, told) as answer:
            async with asyncio.timeout(LIMIT):
                await answer.until(word)
            subject.gate.touch()
            return (await answer.rest()).decode()
    finally:
        subject.gate.touch()


# --- OpenAI ---


@feature("OpenAI", "chat")
async def chat(subject: Subject) -> str | No:
    answer = (await subject.api.chat(subject.chat, max_tokens=8)).json()
    assert answer["model"] == subject.chat
    assert answer["choices"][0]["message"]["content"]
    return YES


@feature("OpenAI", "chat, streamed")
async def stream(subject: Subject) -> str | No:
    events = await subject.api.events(subject.chat, max_tokens=8, stream_options={"include_usage": True})
    assert events.text_of_answer
    assert (events.done, events.errors) == (True, [])
    assert events.usages[-1]["completion_tokens"]
    return YES


@feature("OpenAI", "text completion")
async def completion(subject: Subject) -> str | No:
    asked = {"model": subject.chat, "prompt": "hi", "max_tokens": 4}
    assert (await subject.api.post("/v1/completions", asked)).json()["choices"][0]["text"] is not None
    return YES


@feature("OpenAI", "tools called, two at once, streamed")
async def calls(subject: Subject) -> str | No:
    if not subject.calls:
        return No("this model calls none")
    events = await subject.api.events(subject.calls, tools=[TOOL])
    told: dict[int, list[str]] = {}
    for calls in events.pieces("tool_calls"):
        for call in calls:
            function = call["function"]
            told.setdefault(call["index"], ["", ""])
            told[call["index"]][0] += function.get("name") or ""
            told[call["index"]][1] += function.get("arguments") or ""
    assert {index: name for index, (name, _) in told.items()} == {0: "get_weather", 1: "get_weather"}
    assert all(arguments for _, arguments in told.values())
    assert events.done
    return YES


@feature("OpenAI", "a parameter that nobody knows")
async def unknown_parameter(subject: Subject) -> str | No:
    assert (await subject.api.chat(subject.chat, max_tokens=4, some_new_parameter={"a": 1})).status == 200
    if subject.record is not None:
        assert subject.heard()["some_new_parameter"] == {"a": 1}
    return YES


@feature("OpenAI", "a client that leaves stops the engine")
async def leaves(subject: Subject) -> str | No:
    """By the engine's own word."""

    async def busy() -> bool:
        slots = (await subject.api.get(f"/upstream/{subject.chat}/slots")).json()
        return any(slot["is_processing"] for slot in slots)

    async def idle() -> bool:
        return not await busy()

    async def told() -> bool:
        return len(subject.notes("left")) > before

    before = 0 if subject.record is None else len(subject.notes("left"))
    asked = {"max_tokens": 60_000, "ignore_eos": True} if subject.record is None else {}
    async with subject.api.stream(subject.chat, **asked, fake={"tokens": 5000, "delay": 0.01}) as answer:
        await answer.until(b'"content"')
        if subject.record is None:
            await until(busy)
        answer._link.leave()
    await until(idle if subject.record is None else told)
    return YES


@feature("OpenAI", "embeddings, also as base64")
async def embeddings(subject: Subject) -> str | No:
    if not subject.embed:
        return refused(await subject.api.post("/v1/embeddings", {"model": subject.chat, "input": "hi"}), NO_EMBEDDINGS)
    floats, packed = [
        (await subject.api.post("/v1/embeddings", {"model": subject.embed, "input": ["hi", "you"], **more})).json()
        for more in ({}, {"encoding_format": "base64"})
    ]
    found = [one["embedding"] for one in floats["data"]]
    assert found
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert [round(x, 4) for x in struct.unpack(f"<{len(raw) // 4}f", raw)] == [round(x, 4) for x in found[0]]
    return YES


@feature("OpenAI", "rerank")
async def rerank(subject: Subject) -> str | No:
    asked = {"model": subject.rank or subject.chat, "query": "a", "documents": ["b", "c d"]}
    reply = await subject.api.post("/v1/rerank", asked)
    if not subject.rank:
        return refused(reply, "not with a chat model; one for reranking was not tried")
    assert reply.status == 200, reply.body
    if subject.record is not None:
        assert (subject.notes("request")[-1]["path"], subject.heard()) == ("/v1/rerank", asked)
        return PASSED_ON
    assert sorted(one["index"] for one in reply.json()["results"]) == [0, 1]
    return YES


@feature("OpenAI", "responses")
async def responses(subject: Subject) -> str | No:
    told = (await subject.api.post("/v1/responses", {"model": subject.chat, "input": "hi"})).json()
    assert text_of(told)
    return TRANSLATED


def text_of(response: dict[str, Any]) -> str:
    items = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in items for part in item["content"])


@feature("OpenAI", "responses that go on (`previous_response_id`)")
async def previous(subject: Subject) -> str | No:
    first = (await subject.api.post("/v1/responses", {"model": subject.chat, "input": "hi"})).json()
    asked = {"model": subject.chat, "input": "and you?", "previous_response_id": first["id"]}
    assert (await subject.api.post("/v1/responses", asked)).json()["status"] == "completed"
    if subject.record is not None:
        said = [(message["role"], message["content"]) for message in subject.heard()["messages"]]
        assert said == [("user", "hi"), ("assistant", text_of(first)), ("user", "and you?")]
    return TRANSLATED


@feature("OpenAI", "responses, streamed")
async def responses_stream(subject: Subject) -> str | No:
    text = await streamed(subject, "/v1/responses", {"model": subject.chat, "input": "hi"})
    assert text.count("event: response.completed\n") == 1
    return TRANSLATED


@feature("OpenAI", "responses, tools called, streamed")
async def responses_calls(subject: Subject) -> str | No:
    if not subject.calls:
        return No("this model calls none")
    tool = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}
    text = await streamed(subject, "/v1/responses", {"model": subject.calls, "input": "hi", "tools": [tool]})
    last = json.loads(text.split("event: response.completed\ndata: ")[1].partition("\n")[0])
    found = [item["name"] for item in last["response"]["output"] if item["type"] == "function_call"]
    assert found == ["get_weather", "get_weather"]
    return TRANSLATED


# --- while it is loaded ---


WHERE: dict[str, Callable[[Events], Sequence[str]]] = {
    "event": lambda events: events.statuses,
    "content": lambda events: events.pieces("content"),
    "reasoning": lambda events: events.pieces("reasoning_content"),
    "comment": lambda events: events.comments,
}
"""Where each channel's status is found in a stream."""


def _status(channel: str) -> Any:
    async def ask(subject: Subject) -> str | No:
        asked = {"model": subject.chat, "messages": HI, "max_tokens": 8}
        text = await cold(subject, "/v1/chat/completions", asked, "⏳".encode(), x_roundhouse_status=channel)
        events = Events(text)
        found = {name: "".join(look(events)) for name, look in WHERE.items()}
        assert {name for name, said in found.items() if "⏳" in said} == {channel}
        assert {name for name, said in found.items() if "[Performance: " in said} == {channel} - {"reasoning"}
        assert (events.done, events.errors) == (True, [])
        return YES

    return ask


for _channel in WHERE:
    _what = "status" if _channel == "reasoning" else "status and performance"  # thoughts are over by then
    feature("While the model is loaded", f"chat: {_what}, by `{_channel}`")(_status(_channel))


@feature("While the model is loaded", "messages (Anthropic): pings")
async def pings(subject: Subject) -> str | No:
    asked = {"model": subject.chat, "max_tokens": 8, "messages": HI}
    text = await cold(subject, "/v1/messages", asked, b"event: ping")
    assert text.index("event: message_start") < text.index("event: ping") < text.index("event: content_block_start")
    return TRANSLATED


# --- Anthropic ---


@feature("Anthropic", "messages")
async def messages(subject: Subject) -> str | No:
    told = (await subject.api.post("/v1/messages", {"model": subject.chat, "max_tokens": 8, "messages": HI})).json()
    assert (told["type"], told["role"]) == ("message", "assistant")
    assert "".join(part["text"] for part in told["content"] if part["type"] == "text")
    return TRANSLATED


@feature("Anthropic", "messages, streamed")
async def messages_stream(subject: Subject) -> str | No:
    found = await kinds(subject, {"model": subject.chat, "max_tokens": 8, "messages": HI})
    assert found == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    return TRANSLATED


@feature("Anthropic", "tools are told, and what they found")
async def messages_tools(subject: Subject) -> str | No:
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}
    said = [*HI, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    asked = {"model": subject.chat, "max_tokens": 8, "messages": said}
    tool = {"name": "weather", "input_schema": PARAMETERS}
    used = []
    for more in ({}, {"tools": [tool], "tool_choice": {"type": "auto"}}):
        reply = await subject.api.post("/v1/messages", asked | more)
        assert reply.status == 200, reply.body
        usage = reply.json()["usage"]
        used.append(usage["input_tokens"] + usage["cache_read_input_tokens"])
    if subject.record is None:
        assert used[1] > used[0]  # the template tells of tools
        return TRANSLATED
    heard = subject.heard()
    assert (heard["tools"], heard["tool_choice"]) == ([TOOL], "auto")
    assert [message["role"] for message in heard["messages"]] == ["user", "assistant", "tool"]
    return TRANSLATED


@feature("Anthropic", "tools called, two at once, streamed")
async def messages_calls(subject: Subject) -> str | No:
    if not subject.calls:
        return No("this model calls none")
    asked = {"model": subject.calls, "max_tokens": 8, "messages": HI}
    text = await streamed(subject, "/v1/messages", asked)
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    begun = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["name"] for block in begun if block["type"] == "tool_use"] == ["get_weather", "get_weather"]
    assert [event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta"] == ["tool_use"]
    return TRANSLATED


@feature("Anthropic", "thinking")
async def thinking(subject: Subject) -> str | No:
    wanted = {"type": "enabled", "budget_tokens": 100}
    asked = {"model": subject.thinks or subject.chat, "max_tokens": 200, "messages": HI, "thinking": wanted}
    told = (await subject.api.post("/v1/messages", asked)).json()
    if subject.record is not None:
        assert subject.heard()["chat_template_kwargs"] == {"enable_thinking": True}
    if not subject.thinks:
        return PASSED_ON
    assert [part["type"] for part in told["content"]] == ["thinking", "text"]
    return TRANSLATED


@feature("Anthropic", "images")
async def messages_images(subject: Subject) -> str | No:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE.partition(",")[2]}
    said = [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "hi"}]}]
    reply = await subject.api.post("/v1/messages", {"model": subject.chat, "max_tokens": 8, "messages": said})
    if subject.record is None:
        assert "image input is not supported" in reply.json()["error"]["message"]
        return No(SEES_NOTHING)
    assert subject.heard()["messages"][0]["content"][0] == {"type": "image_url", "image_url": {"url": PICTURE}}
    return TRANSLATED


@feature("Anthropic", "count_tokens")
async def count(subject: Subject) -> str | No:
    """One that is loaded on an engine that can count is asked; see `tests/e2e/test_anthropic.py` for its figure."""
    assert (await subject.api.chat(subject.chat, max_tokens=1)).status == 200
    reply = await subject.api.post("/v1/messages/count_tokens", {"model": subject.chat, "messages": HI})
    counted = reply.json()["input_tokens"]
    assert counted > 0
    if subject.record is not None:
        return ESTIMATED
    usage = (await subject.api.post("/v1/messages", {"model": subject.chat, "max_tokens": 1, "messages": HI})).json()[
        "usage"
    ]
    assert counted == usage["input_tokens"] + usage["cache_read_input_tokens"]
    return YES


# --- Ollama ---


@feature("Ollama", "chat")
async def ollama_chat(subject: Subject) -> str | No:
    told = (await subject.api.post("/api/chat", {"model": subject.chat, "messages": HI, "stream": False})).json()
    assert told["done"]
    assert told["message"]["content"]
    return TRANSLATED


async def lines(subject: Subject, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await streamed(subject, path, body)).splitlines()]


@feature("Ollama", "chat, streamed")
async def ollama_stream(subject: Subject) -> str | No:
    told = await lines(subject, "/api/chat", {"model": subject.chat, "messages": HI})
    assert [line["done"] for line in told] == [False] * (len(told) - 1) + [True]
    assert "".join(line["message"]["content"] for line in told)
    assert told[-1]["eval_count"] > 0
    return TRANSLATED


@feature("Ollama", "tools called, two at once, streamed")
async def ollama_calls(subject: Subject) -> str | No:
    if not subject.calls:
        return No("this model calls none")
    told = await lines(subject, "/api/chat", {"model": subject.calls, "messages": HI, "tools": [TOOL]})
    found = [call["function"]["name"] for line in told for call in line["message"].get("tool_calls", ())]
    assert found == ["get_weather", "get_weather"]
    return TRANSLATED


@feature("Ollama", "thinking (`think`)")
async def ollama_thinking(subject: Subject) -> str | No:
    asked = {"model": subject.thinks or subject.chat, "messages": HI, "stream": False, "think": True}
    told = (await subject.api.post("/api/chat", asked)).json()
    if subject.record is not None:
        assert subject.heard()["chat_template_kwargs"] == {"enable_thinking": True}
    if not subject.thinks:
        return PASSED_ON
    assert told["message"]["thinking"]
    assert told["message"]["content"]
    return TRANSLATED


@feature("Ollama", "structure (`format`)")
async def ollama_format(subject: Subject) -> str | No:
    asked = {
        "model": subject.chat,
        "messages": HI,
        "stream": False,
        "format": SCHEMA,
        "options": {"num_predict": 400, "temperature": 0},
    }
    told = (await subject.api.post("/api/chat", asked)).json()
    if subject.record is None:
        assert json.loads(told["message"]["content"]) == {"a": 1}
    else:
        assert subject.heard()["response_format"]["json_schema"]["schema"] == SCHEMA
    return TRANSLATED


@feature("Ollama", "generate")
async def generate(subject: Subject) -> str | No:
    told = (await subject.api.post("/api/generate", {"model": subject.chat, "prompt": "hi", "stream": False})).json()
    assert told["response"]
    return TRANSLATED


@feature("Ollama", "embed")
async def embed(subject: Subject) -> str | No:
    reply = await subject.api.post("/api/embed", {"model": subject.embed or subject.chat, "input": ["hi"]})
    if not subject.embed:
        assert reply.status in {400, 404, 501}
        assert isinstance(reply.json()["error"], str)
        return No(NO_EMBEDDINGS)
    assert len(reply.json()["embeddings"]) == 1
    return TRANSLATED


@feature("Ollama", "show and ps")
async def show(subject: Subject) -> str | No:
    assert (await subject.api.post("/api/show", {"model": subject.chat})).json()["details"]
    assert (await subject.api.chat(subject.chat, max_tokens=1)).status == 200
    told = (await subject.api.get("/api/ps")).json()["models"]
    assert [model["name"] for model in told if model["name"].partition(":")[0] == subject.chat]
    return YES


# --- what llama-server has beside these ---


def _native(path: str, body: dict[str, Any], key: str, lacking: str = "it has no such path") -> Any:
    async def ask(subject: Subject) -> str | No:
        reply = await subject.api.post(path, {"model": subject.chat, **body})
        if reply.status != 200:
            return refused(reply, lacking if subject.record is None else "it has no such path")
        if subject.record is None:
            assert key in reply.json()
            return YES
        assert subject.notes("request")[-1]["path"] == path
        assert subject.heard().items() >= body.items()
        return PASSED_ON

    return ask


_NO_INFILL = "this model has no tokens for it, and the engine says so"
feature("llama.cpp's own", "tokenize")(_native("/tokenize", {"content": "hi"}, "tokens"))
feature("llama.cpp's own", "detokenize")(_native("/detokenize", {"tokens": [1, 2]}, "content"))
feature("llama.cpp's own", "apply-template")(_native("/apply-template", {"messages": HI}, "prompt"))
feature("llama.cpp's own", "completion")(_native("/completion", {"prompt": "hi", "n_predict": 4}, "content"))
feature("llama.cpp's own", "infill")(
    _native("/infill", {"input_prefix": "a", "input_suffix": "b", "n_predict": 4}, "content", _NO_INFILL)
)


@feature("llama.cpp's own", "any other path, by `/upstream`")
async def upstream(subject: Subject) -> str | No:
    reply = await subject.api.get(f"/upstream/{subject.chat}/v1/models")
    assert reply.status == 200
    return YES


# --- sounds and pictures ---


def _media(path: str, body: dict[str, Any], reason: str = "it has no such thing") -> Any:
    async def ask(subject: Subject) -> str | No:
        reply = await subject.api.post(path, {"model": subject.media or subject.chat, **body})
        if not subject.media:
            return refused(reply, reason)
        assert reply.status == 200, reply.body
        assert reply.body
        return YES

    return ask


feature("Sounds and pictures", "speech")(_media("/v1/audio/speech", {"input": "hi", "voice": "x"}))
feature("Sounds and pictures", "images")(_media("/v1/images/generations", {"prompt": "hi"}))


@feature("Sounds and pictures", "transcription of a file")
async def transcription(subject: Subject) -> str | No:
    parts = {"model": (subject.media or subject.chat).encode(), 'file"; filename="a.wav': bytes(2000)}
    form = b"".join(
        b'--x\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in parts.items()
    )
    async with link(subject.api.port) as one:
        kind = {"content-type": "multipart/form-data; boundary=x", "content-length": str(len(form) + 7)}
        one.send("POST", "/v1/audio/transcriptions", None, kind)
        one.writer.write(form + b"--x--\r\n")
        reply = await (await one.head()).reply()
    if not subject.media:
        assert reply.status in {400, 404, 500, 501}, reply.body  # an engine's own words, which pass as they are
        assert reply.body
        return No("not with a chat model; one that hears was not tried")
    assert "heard" in reply.json()["text"]
    return YES


# --- what the engine itself must do: the real one is asked; doubles can only show that it was told ---


async def told(subject: Subject, **asked: Any) -> Reply | None:
    """The real engine's answer; None when a double was seen to be sent what was asked."""
    reply = await subject.api.chat(subject.chat, **asked)
    if subject.record is None:
        return reply
    assert reply.status == 200, reply.body
    assert subject.heard().items() >= asked.items()
    return None


@feature("The engine's", "`logprobs`")
async def logprobs(subject: Subject) -> str | No:
    reply = await told(subject, max_tokens=4, logprobs=True, top_logprobs=2)
    if reply is None:
        return PASSED_ON
    assert len(reply.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2
    return YES


@feature("The engine's", "`n`: several answers")
async def several(subject: Subject) -> str | No:
    reply = await told(subject, max_tokens=4, n=2)
    if reply is None:
        return PASSED_ON
    assert len(reply.json()["choices"]) == 2
    return YES


@feature("The engine's", "`response_format`: JSON by a schema")
async def structured(subject: Subject) -> str | No:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    reply = await told(subject, max_tokens=400, temperature=0, response_format=form)
    if reply is None:
        return PASSED_ON
    assert json.loads(reply.json()["choices"][0]["message"]["content"]) == {"a": 1}
    return YES


@feature("The engine's", "`tools` and `tool_choice` reach the model")
async def tools(subject: Subject) -> str | No:
    reply = await told(subject, max_tokens=8, tools=[TOOL], tool_choice="auto")
    if reply is None:
        return PASSED_ON
    without = await subject.api.chat(subject.chat, max_tokens=8)
    assert reply.json()["usage"]["prompt_tokens"] > without.json()["usage"]["prompt_tokens"]
    return YES


@feature("The engine's", "reasoning, as `reasoning_content` and as `reasoning`")
async def reasoning(subject: Subject) -> str | No:
    if not subject.thinks:
        return No("this model does not think")
    whole = (await subject.api.chat(subject.thinks)).json()["choices"][0]["message"]
    events = await subject.api.events(subject.thinks)
    for key in ("reasoning_content", "reasoning"):
        assert whole[key]
        assert events.pieces(key)
    assert whole["content"]
    assert events.text_of_answer
    return YES


@feature("The engine's", "images in `content`")
async def images(subject: Subject) -> str | No:
    picture = {"type": "image_url", "image_url": {"url": PICTURE}}
    content = [picture, {"type": "text", "text": "hi"}]
    reply = await told(subject, messages=[{"role": "user", "content": content}], max_tokens=4)
    if reply is None:
        return PASSED_ON
    assert "image input is not supported" in reply.error()["message"]
    return No(SEES_NOTHING)
