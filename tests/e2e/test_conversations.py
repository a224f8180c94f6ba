"""Conversations across switches, with a real llama.cpp (spec D11): two chat models of which one fits at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from roundhouse.api.auth import hash_key
from roundhouse.app.shelving import MEMORY
from tests.support.gguf_files import write_tiny_chat
from tests.support.house import Place, Running
from tests.support.real_engine import real_build
from tests.support.tiny_listener import write_tiny_listener
from tests.support.wire import Api

pytestmark = pytest.mark.real

BETA = "This is beta speaking : another model with its own words ."
STORY = " ".join(f"The number {n + 1} comes after {n}." for n in range(60))


def prepare(place: Place, **settings: Any) -> None:
    folder = place.folder
    write_tiny_chat(folder / "alpha.gguf", "alpha")
    write_tiny_chat(folder / "beta.gguf", "beta", BETA)
    common = {"context": 4096, "memory": "900MiB", "args": ["--threads", 1], **settings.pop("each", {})}
    models = {
        "alpha": {"path": str(folder / "alpha.gguf"), "slots": 1, **common},
        "beta": {"path": str(folder / "beta.gguf"), "slots": 2, **common},
    }
    models |= {name: common | model for name, model in settings.pop("more", {}).items()}
    binary = {"llamacpp": {"binary": real_build().argv[0]}} if len(real_build().argv) == 1 else {}
    place.write(models, engines=binary, **settings)


@pytest.fixture(scope="module")
def house(shared_place):
    keys = [{"name": n, "hash": hash_key(f"sk-{n}"), "admin": n == "admin"} for n in ("admin", "ann", "bob")]
    prepare(shared_place, keys=keys)
    with Running(shared_place) as running:
        apis = {
            name: Api(shared_place.port, {"authorization": f"Bearer sk-{name}"}) for name in ("admin", "ann", "bob")
        }
        yield SimpleNamespace(**apis, place=shared_place, running=running)


class Talk:
    """A conversation of one client with one model."""

    def __init__(self, api: Api, model: str, start: str) -> None:
        self.api, self.model = api, model
        self.messages: list[dict[str, str]] = []
        self.says = start
        self.timings: dict[str, float] = {}

    async def turn(self, stream: bool = False, **more: Any) -> dict[str, Any]:
        """One more question and its answer; returns what the engine found of the prompt in its slot, and the rest."""
        self.messages.append({"role": "user", "content": self.says})
        body = {"model": self.model, "messages": self.messages, "temperature": 0, **more}
        if stream:
            async with self.api.open("POST", "/v1/chat/completions", {**body, "stream": True}) as answer:
                events = await answer.events()
            text, (timings,) = events.text_of_answer, [c["timings"] for c in events.chunks if "timings" in c]
        else:
            reply = await self.api.post("/v1/chat/completions", body)
            assert reply.status == 200, reply.body
            text, timings = reply.json()["choices"][0]["message"]["content"], reply.json()["timings"]
        self.messages.append({"role": "assistant", "content": text})
        self.says = "And?"
        return timings


async def told(api: Api, model: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get("/api/v1/state")).json()["models"][model]["conversations"]
    return found


def reused(timings: dict[str, Any]) -> float:
    return timings["cache_n"] / (timings["cache_n"] + timings["prompt_n"])


@pytest.mark.parametrize("stream", [False, True])
async def test_d11_a_conversation_goes_on_after_a_switch_as_if_there_had_been_none(house, stream):
    talk = Talk(house.ann, "alpha", f"{stream} {STORY}")
    assert reused(await talk.turn()) < 0.1
    before = await told(house.admin, "alpha") if not stream else None
    await Talk(house.ann, "beta", "hi").turn()
    timings = await talk.turn(stream)
    assert reused(timings) > 0.95
    after = await told(house.admin, "alpha")
    assert after["kept"] >= 1
    assert after["off"] is None
    if before is not None:
        assert (after["saved"], after["restored"]) == (before["saved"] + 1, before["restored"] + 1)


async def test_d11_files_are_for_our_user_alone_and_hold_no_text_beside_the_engines_own(house):
    talk = Talk(house.ann, "alpha", f"private {STORY}")
    await talk.turn()
    await Talk(house.ann, "beta", "hi").turn()
    folder = house.place.state / "sessions"
    files = list(folder.iterdir())
    assert files
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    described = [json.loads(file.read_text()) for file in files if file.suffix == ".json"]
    assert {one["owner"] for one in described} == {"ann"}
    assert not any("comes after" in json.dumps(one) for one in described)


async def test_d11_another_key_with_the_very_same_conversation_starts_from_nothing(house):
    talk = Talk(house.ann, "alpha", f"shared {STORY}")
    await talk.turn()
    thief = Talk(house.bob, "alpha", talk.messages[0]["content"])
    assert (await thief.turn())["cache_n"] == 0  # in the slot where it lies
    await Talk(house.ann, "beta", "hi").turn()
    second = Talk(house.bob, "alpha", talk.messages[0]["content"])
    second.messages[:] = talk.messages
    assert reused(await talk.turn()) > 0.95
    third = Talk(house.bob, "beta", f"shared {STORY}")
    await third.turn()
    assert (await Talk(house.ann, "alpha", "hi").turn())["cache_n"] == 0


async def test_d11_a_small_task_does_not_cost_the_conversation(house):
    talk = Talk(house.ann, "alpha", f"titled {STORY}")
    await talk.turn()
    task = {"model": "alpha", "messages": [{"role": "user", "content": "A title, please: " + "words " * 20}]}
    for _ in range(2):
        reply = await house.ann.post("/v1/chat/completions", task, {"x-roundhouse-task": "title"})
        assert reply.status == 200
    assert reused(await talk.turn()) > 0.95


async def test_d11_conversations_of_several_slots_all_come_back(house):
    talks = [Talk(house.ann, "beta", f"{n}th {STORY}") for n in range(3)]  # one more than there are slots
    for talk in talks:
        await talk.turn()
    await Talk(house.ann, "alpha", "hi").turn()
    for talk in talks:
        assert reused(await talk.turn()) > 0.95


async def test_d11_a_conversation_outlives_roundhouse(house):
    talk = Talk(house.ann, "alpha", f"restarted {STORY}")
    await talk.turn()
    house.running.end()
    house.running.start()
    assert reused(await talk.turn()) > 0.95


async def slots_written(house, pid: int) -> None:
    """Waits until what an engine's slots hold is on the disk: that follows an answer, and is not waited for by it."""
    async with asyncio.timeout(30):
        while True:
            for table in (house.place.state / "sessions").glob(f"*-{pid}.slots"):
                with contextlib.suppress(ValueError):
                    if json.loads(table.read_text()):
                        return
            await asyncio.sleep(0.01)


async def test_d11_an_engine_that_outlives_its_roundhouse_keeps_its_conversation(house):
    talk = Talk(house.ann, "alpha", f"adopted {STORY}")
    await talk.turn()
    pid = (await house.admin.model("alpha"))["pid"]
    await slots_written(house, pid)
    house.running.kill()
    house.running.start()
    assert reused(await talk.turn()) > 0.95
    assert (await house.admin.model("alpha"))["pid"] == pid
    thief = Talk(house.bob, "alpha", talk.messages[0]["content"])
    assert (await thief.turn())["cache_n"] == 0


async def test_d11_a_client_that_stopped_the_answer_goes_on_where_it_was(house):
    talk = Talk(house.ann, "alpha", f"stopped {STORY}")
    body = {"model": "alpha", "messages": [{"role": "user", "content": talk.says}], "stream": True, "ignore_eos": True}
    async with house.ann.open("POST", "/v1/chat/completions", body) as answer:
        await answer.until('"content":"')
    await Talk(house.ann, "beta", "hi").turn()
    assert reused(await talk.turn()) > 0.9


async def test_d11_an_engine_that_crashed_costs_its_conversation_and_nothing_else(house):
    talk = Talk(house.ann, "alpha", f"crashed {STORY}")
    await talk.turn()
    pid = (await house.admin.model("alpha"))["pid"]
    os.kill(pid, signal.SIGKILL)
    await house.admin.until("alpha", "failed")
    await talk.turn()
    await Talk(house.ann, "beta", "hi").turn()
    assert reused(await talk.turn()) > 0.95


async def test_d11_roundhouse_killed_leaves_files_that_its_successor_uses(house):
    talk = Talk(house.ann, "alpha", f"killed {STORY}")
    await talk.turn()
    await Talk(house.ann, "beta", "hi").turn()
    house.running.kill()
    house.running.start()
    assert reused(await talk.turn()) > 0.95


async def test_d11_nobody_goes_back_in_a_restored_window(place):
    """Of a sliding window only the last one is in a file: a question asked again would be answered from what is not."""
    letters = random.Random(7)
    write_tiny_listener(place.folder / "window.gguf", 3, window=64)
    prepare(place, more={"window": {"path": str(place.folder / "window.gguf"), "slots": 1}})
    with Running(place) as running:
        talk = Talk(running.api, "window", " ".join(letters.choices(["a", "b", "c", "d", "e", "f", "g", "h"], k=400)))
        await talk.turn(max_tokens=24)
        await Talk(running.api, "beta", "hi").turn()
        right = talk.messages.pop()
        talk.says = talk.messages.pop()["content"]
        timings = await talk.turn(max_tokens=24)  # once more: it ends before what was saved does
        assert talk.messages[-1] == right
        assert timings["cache_n"] == 0
        await Talk(running.api, "beta", "hi").turn()
        assert reused(await talk.turn(max_tokens=24)) > 0.95  # going on is no trouble


async def test_d11_off_is_off(place):
    prepare(place, sessions={"store": "off"})
    with Running(place) as running:
        talk = Talk(running.api, "alpha", STORY)
        await talk.turn()
        await Talk(running.api, "beta", "hi").turn()
        assert (await talk.turn())["cache_n"] == 0
        assert "conversations" not in (await running.api.get("/api/v1/state")).json()["models"]["alpha"]
        assert not (place.state / "sessions").exists()


async def test_d11_one_model_alone_may_do_without(place):
    prepare(place, each={"sessions": False})
    with Running(place) as running:
        talk = Talk(running.api, "alpha", STORY)
        await talk.turn()
        await Talk(running.api, "beta", "hi").turn()
        assert (await talk.turn())["cache_n"] == 0
        assert (await told(running.api, "alpha")) == {"off": "they are switched off (`sessions`)"}


async def test_d11_in_memory_nothing_is_left_when_roundhouse_ends(place):
    prepare(place, sessions={"store": "memory", "budget": "100MiB"})
    with Running(place) as running:
        talk = Talk(running.api, "alpha", STORY)
        await talk.turn()
        await Talk(running.api, "beta", "hi").turn()
        (folder,) = MEMORY.glob(f"roundhouse-*-{place.install}")
        assert list(folder.iterdir())
        assert reused(await talk.turn()) > 0.95
        running.end()
        assert list(folder.iterdir()) == []
    folder.rmdir()
