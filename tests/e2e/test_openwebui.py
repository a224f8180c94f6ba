"""A conversation in the shapes that Open WebUI 0.12.4 sends, as recorded from the real one (tests/openwebui)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.support.house import Running, Scripted
from tests.support.wire import Api

BROWSER = {"user-agent": "Python/3.11 aiohttp/3.14.5", "accept": "*/*"}
CHAT_ID = "8b4b5c5e-3f62-4c0e-9a3e-5f3c8f8f1d11"
HISTORY = "\n### Chat History:\n<chat_history>\nUSER: Write one sentence about trains.\n</chat_history>"
TITLE = "### Task:\nGenerate a concise title summarizing the chat history." + HISTORY
FOLLOW_UP = "### Task:\nPredict 3-5 useful messages this user might naturally send next" + HISTORY
TAGS = "### Task:\nGenerate 1-3 broad tags categorizing the main themes" + HISTORY
TRAINS = {"role": "user", "content": "Write one sentence about trains."}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{number}",
            "description": "One of the built-in ones, which are always there. " * 10,
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
        },
    }
    for number in range(36)
]


def chat(*messages):
    """25 KB, streamed, usage asked for since `/v1/models` says that a model can tell it."""
    return {"stream": True, "model": "two", "stream_options": {"include_usage": True}, "messages": messages} | {
        "tools": TOOLS
    }


def task(prompt, **more):
    return {"model": "two", "messages": [{"role": "user", "content": prompt}], "stream": False, **more}


def headers(name):
    """Those of the connection that our documentation recommends; a chat's task is empty."""
    return BROWSER | {"X-OpenWebUI-Task": name, "X-OpenWebUI-Chat": CHAT_ID, "X-OpenWebUI-User-Id": "somebody"}


@pytest.fixture
def house(place):
    """`one` is loaded, and leaves for `two`, which waits for a gate."""
    gate = place.gate("load")
    one = Scripted(place.folder, "one", memory="600MiB", preload=True)
    two = Scripted(place.folder, "two", "--load-gate", str(gate), memory="600MiB")
    place.write([one, two], status={"every": "200ms"})
    with Running(place):
        yield SimpleNamespace(api=Api(place.port), one=one, two=two, gate=gate)


@pytest.mark.parametrize("named", [False, True], ids=["by their shape", "by the header"])
async def test_a_new_chat_with_another_model(house, named):
    """Title and chat at once, then follow-ups and tags, then the next turn: one load, and nothing of ours comes back."""
    api = house.api

    def of(name):
        return headers(name) if named else BROWSER

    async with asyncio.TaskGroup() as group:
        title = group.create_task(
            api.post("/v1/chat/completions", task(TITLE, max_tokens=1000), of("title_generation"))
        )
        async with api.open("POST", "/v1/chat/completions", chat(TRAINS), of("")) as answer:
            await answer.until("⏳")
            house.gate.touch()
            events = await answer.events()
    # It comes at the same moment: by `one` if it was first, else by the model that is on its way.
    assert title.result().status == 200
    assert title.result().headers["x-roundhouse-model"] in {"one", "two"}
    said = events.text_of_answer
    assert said
    assert not any(mark in said for mark in ("⏳", "✓", "Performance"))
    assert events.statuses[0].startswith("⏳ Loading model... ")
    assert events.statuses[-2].startswith("✓ Model ready! ")
    assert events.statuses[-1].startswith("[Performance: ")
    # Open WebUI adds up the usage of all chunks that have one.
    assert len(events.usages) == 1
    assert events.chunks[-1]["choices"] == []
    assert events.done

    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(api.post("/v1/chat/completions", task(prompt), of(name)))
            for prompt, name in ((FOLLOW_UP, "follow_up_generation"), (TAGS, "tags_generation"))
        ]
    assert [reply.result().headers["x-roundhouse-model"] for reply in asked] == ["two", "two"]

    turns = [TRAINS, {"role": "assistant", "content": said}, {"role": "user", "content": "And one about ships."}]
    async with api.open("POST", "/v1/chat/completions", chat(*turns), of("")) as answer:
        again = await answer.events()
    assert [line for line in again.statuses if not line.startswith("[Performance: ")] == []
    seen = house.two.last()["json"]
    assert (seen["messages"], seen["tools"]) == (turns, TOOLS)
    assert (house.one.starts, house.two.starts) == (1, 1)


async def test_the_eject_button_is_a_post_to_the_root(house):
    reply = await house.api.post("/models/unload", {"model": "one"}, BROWSER)
    assert reply.status == 200
    listed = (await house.api.get("/v1/models", BROWSER)).json()["data"]
    assert [(model["id"], model["loaded"], model["status"]["value"]) for model in listed] == [
        ("one", False, "unloaded"),
        ("two", False, "unloaded"),
    ]
