"""What is asked of every engine through Roundhouse: one function a feature, as the table names it.

Each returns how the engine comes to it: `YES` (it is asked as the client asks, and answers), `TRANSLATED` (Roundhouse
asks it in other words), or `No`, with the reason that the client is told. Whatever else happens fails.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.wire import Api, Reply

YES, TRANSLATED = "yes", "translated"
HI = [{"role": "user", "content": "hi"}]


@dataclass(frozen=True)
class No:
    reason: str

    def __str__(self) -> str:
        return f"no: {self.reason}"


@dataclass(frozen=True)
class Subject:
    """An engine as it is asked: its chat model, its model for embeddings if it has one here."""

    api: Api
    chat: str
    embed: str | None


Feature = "Callable[[Subject], Awaitable[str | No]]"
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


@feature("OpenAI", "chat, streamed while it is loaded for it: status and performance")
async def status(subject: Subject) -> str | No:
    await unload(subject)
    events = await subject.api.events(subject.chat, {"x-roundhouse-status": "event"}, max_tokens=8)
    # Who waits for less than 0.3 s is told nothing of it.
    assert [s[0] for s in events.statuses if s[0] in "⏳✓"][-1:] in ([], ["✓"]), events.statuses
    assert any(line.startswith("[Performance: ") for line in events.statuses)
    assert events.text_of_answer
    return YES


@feature("OpenAI", "text completion")
async def completion(subject: Subject) -> str | No:
    asked = {"model": subject.chat, "prompt": "hi", "max_tokens": 4}
    assert (await subject.api.post("/v1/completions", asked)).json()["choices"][0]["text"] is not None
    return YES


@feature("OpenAI", "a parameter that nobody knows")
async def unknown_parameter(subject: Subject) -> str | No:
    assert (await subject.api.chat(subject.chat, max_tokens=4, some_new_parameter={"a": 1})).status == 200
    return YES


@feature("OpenAI", "a client that leaves stops the engine")
async def leaves(subject: Subject) -> str | No:
    async with subject.api.stream(subject.chat, max_tokens=900, ignore_eos=True, fake={"endless": True, "delay": 0.01}) as answer:  # fmt: skip
        await answer.until(b'"content"')
        answer._link.leave()
    while (await subject.api.model(subject.chat))["active"]:
        pass
    return YES


@feature("OpenAI", "embeddings, also as base64")
async def embeddings(subject: Subject) -> str | No:
    if subject.embed is None:
        reply = await subject.api.post("/v1/embeddings", {"model": subject.chat, "input": "hi"})
        return refused(reply, "not with a chat model; one for embeddings was not tried")
    floats, packed = [
        (await subject.api.post("/v1/embeddings", {"model": subject.embed, "input": ["hi", "you"], **more})).json()
        for more in ({}, {"encoding_format": "base64"})
    ]
    found = [one["embedding"] for one in floats["data"]]
    assert found
    if not isinstance(packed["data"][0]["embedding"], str):
        return No("as numbers only: it does not heed `encoding_format`")
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert [round(x, 4) for x in struct.unpack(f"<{len(raw) // 4}f", raw)] == [round(x, 4) for x in found[0]]
    return YES


@feature("OpenAI", "responses")
async def responses(subject: Subject) -> str | No:
    told = (await subject.api.post("/v1/responses", {"model": subject.chat, "input": "hi"})).json()
    assert told["output"][0]["content"][0]["text"]
    return TRANSLATED


@feature("OpenAI", "responses that go on (`previous_response_id`)")
async def previous(subject: Subject) -> str | No:
    first = (await subject.api.post("/v1/responses", {"model": subject.chat, "input": "hi"})).json()
    asked = {"model": subject.chat, "input": "and you?", "previous_response_id": first["id"]}
    assert (await subject.api.post("/v1/responses", asked)).json()["status"] == "completed"
    return TRANSLATED


@feature("OpenAI", "responses, streamed")
async def responses_stream(subject: Subject) -> str | No:
    async with subject.api.open(
        "POST", "/v1/responses", {"model": subject.chat, "input": "hi", "stream": True}
    ) as answer:
        assert b"event: response.completed" in await answer.rest()
    return TRANSLATED


# --- Anthropic ---


@feature("Anthropic", "messages")
async def messages(subject: Subject) -> str | No:
    told = (await subject.api.post("/v1/messages", {"model": subject.chat, "max_tokens": 8, "messages": HI})).json()
    assert (told["type"], told["role"]) == ("message", "assistant")
    assert told["content"][0]["text"]
    return TRANSLATED


@feature("Anthropic", "messages, streamed, with pings while the model loads")
async def messages_stream(subject: Subject) -> str | No:
    await unload(subject)
    asked = {"model": subject.chat, "max_tokens": 8, "messages": HI, "stream": True}
    async with subject.api.open("POST", "/v1/messages", asked) as answer:
        text = (await answer.rest()).decode()
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    without = [kind for kind in kinds if kind not in {"ping", "content_block_delta"}]
    assert without == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    return TRANSLATED


@feature("Anthropic", "count_tokens")
async def count(subject: Subject) -> str | No:
    reply = await subject.api.post("/v1/messages/count_tokens", {"model": subject.chat, "messages": HI})
    if reply.status != 200:
        assert reply.json()["type"] == "error"
        return No("it has no count of tokens that could be asked")
    assert reply.json()["input_tokens"] > 0
    return YES if subject.chat == "llamacpp" else "estimated"


# --- Ollama ---


@feature("Ollama", "chat")
async def ollama_chat(subject: Subject) -> str | No:
    told = (await subject.api.post("/api/chat", {"model": subject.chat, "messages": HI, "stream": False})).json()
    assert told["done"]
    assert told["message"]["content"]
    return TRANSLATED


@feature("Ollama", "chat, streamed")
async def ollama_stream(subject: Subject) -> str | No:
    async with subject.api.open("POST", "/api/chat", {"model": subject.chat, "messages": HI}) as answer:
        lines = [json.loads(line) for line in (await answer.rest()).splitlines()]
    assert lines[-1]["done"]
    assert "".join(line["message"]["content"] for line in lines)
    return TRANSLATED


@feature("Ollama", "generate")
async def generate(subject: Subject) -> str | No:
    told = (await subject.api.post("/api/generate", {"model": subject.chat, "prompt": "hi", "stream": False})).json()
    assert told["response"]
    return TRANSLATED


@feature("Ollama", "embed")
async def embed(subject: Subject) -> str | No:
    reply = await subject.api.post("/api/embed", {"model": subject.embed or subject.chat, "input": ["hi"]})
    if subject.embed is None:
        assert reply.status in {400, 501}
        return No("not with a chat model; one for embeddings was not tried")
    assert len(reply.json()["embeddings"]) == 1
    return TRANSLATED


@feature("Ollama", "show and ps")
async def show(subject: Subject) -> str | No:
    assert (await subject.api.post("/api/show", {"model": subject.chat})).json()["details"]
    assert (await subject.api.chat(subject.chat, max_tokens=1)).status == 200
    assert any(model["name"].startswith(subject.chat) for model in (await subject.api.get("/api/ps")).json()["models"])
    return YES


# --- what llama-server has beside these ---


def _native(path: str, body: dict[str, Any], key: str) -> Any:
    async def ask(subject: Subject) -> str | No:
        reply = await subject.api.post(path, {"model": subject.chat, **body})
        if reply.status != 200:
            return refused(reply, "it has no such path")
        return YES if key in reply.json() else "passed on"  # whatever that server makes of it

    return ask


feature("llama.cpp's own", "tokenize")(_native("/tokenize", {"content": "hi"}, "tokens"))
feature("llama.cpp's own", "detokenize")(_native("/detokenize", {"tokens": [1, 2]}, "content"))
feature("llama.cpp's own", "apply-template")(_native("/apply-template", {"messages": HI}, "prompt"))
feature("llama.cpp's own", "completion")(_native("/completion", {"prompt": "hi", "n_predict": 4}, "content"))


@feature("llama.cpp's own", "any other path, by `/upstream`")
async def upstream(subject: Subject) -> str | No:
    reply = await subject.api.get(f"/upstream/{subject.chat}/v1/models")
    assert reply.status == 200
    return YES


# --- what the engine itself must do: the real one is asked, doubles of captures can't tell ---


@feature("The engine's", "`logprobs`")
async def logprobs(subject: Subject) -> str | No:
    told = (await subject.api.chat(subject.chat, max_tokens=4, logprobs=True, top_logprobs=2)).json()
    return YES if told["choices"][0].get("logprobs") else No("not in this answer")


@feature("The engine's", "`n`: several answers")
async def several(subject: Subject) -> str | No:
    reply = await subject.api.chat(subject.chat, max_tokens=4, n=2)
    if reply.status != 200:
        return refused(reply, "refused")
    return YES if len(reply.json()["choices"]) == 2 else No("one answer")


@feature("The engine's", "`response_format`: JSON by a schema")
async def structured(subject: Subject) -> str | No:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = await subject.api.chat(subject.chat, max_tokens=60, response_format=form)
    if reply.status != 200:
        return refused(reply, "this tiny model has no tokens for it ([SmolLM2 has](compatibility-clients.md))")
    told = reply.json()
    text = told["choices"][0]["message"]["content"]
    return YES if text.lstrip().startswith("{") else No("not heeded in this answer")


@feature("The engine's", "`tools` are taken")
async def tools(subject: Subject) -> str | No:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    reply = await subject.api.chat(subject.chat, max_tokens=8, tools=[tool])
    return YES if reply.status == 200 else refused(reply, "refused with this model's template")


@feature("The engine's", "images in `content`")
async def images(subject: Subject) -> str | No:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    reply = await subject.api.chat(
        subject.chat, messages=[{"role": "user", "content": [picture, {"type": "text", "text": "hi"}]}], max_tokens=4
    )
    if reply.status == 200:
        return YES
    assert reply.status < 502
    assert reply.error()["message"]
    return No("this model sees nothing, and the engine says so")
