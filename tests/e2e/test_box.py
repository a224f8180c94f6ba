"""A box with room for one of two models: switching, leaving, crashing (spec A8, A9, D2, D3, D7)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from roundhouse.core.model import TaskRule
from tests.support.fake_engine import EMOJI
from tests.support.house import Running, Scripted, inside
from tests.support.processes import Watched
from tests.support.wire import Api

ANSWER = "".join(EMOJI)
TITLE = "### Task:\nGenerate a concise title summarizing the chat history."
BIG = "600MiB"  # of the 1 GiB that there is


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    one, two = (Scripted(place.folder, name, memory=BIG) for name in ("one", "two"))
    crashing = Scripted(place.folder, "crashing")
    place.write([one, two, crashing], status={"every": "200ms"})
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, one=one, two=two, crashing=crashing, place=place, running=running)


@pytest.fixture
async def clean(house):
    """Nothing is loaded at first; counts of starts begin at 0."""
    for model in (house.one, house.two):
        await house.api.post(f"/api/v1/models/{model.name}/unload")
        model.record.unlink(missing_ok=True)
    return house


async def ask_all(api, names):
    """Asks for all of these at once."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(api.chat(name)) for name in names]
    return [task.result() for task in asked]


async def test_d2_ten_clients_of_a_cold_model_are_one_load(clean):
    replies = await ask_all(clean.api, ["one"] * 10)
    assert [reply.status for reply in replies] == [200] * 10
    assert clean.one.starts == 1


async def test_d2_two_clients_want_two_models_at_once(clean):
    replies = await ask_all(clean.api, ["one", "two"])
    assert [reply.status for reply in replies] == [200, 200]
    assert [reply.headers["x-roundhouse-model"] for reply in replies] == ["one", "two"]
    assert (clean.one.starts, clean.two.starts) == (1, 1)
    first, second = sorted((clean.one, clean.two), key=lambda model: model.notes("start")[0]["at"])
    assert first.notes("stopped")[0]["at"] < second.notes("start")[0]["at"]


async def test_d3_a_running_answer_is_never_cut_by_a_switch(clean):
    gate = clean.place.gate("d3")
    async with clean.api.stream("one", fake={"gate": str(gate), "gate_after": 2}) as first:
        await first.until(EMOJI[1])
        async with clean.api.stream("two") as second:
            await second.until("one finishes 1 answer first")
            assert clean.two.starts == 0
            gate.touch()
            events = await first.events()
            assert events.text_of_answer == ANSWER
            assert events.done
            assert not events.errors
            other = await second.events()
    assert other.text_of_answer == ANSWER
    assert clean.one.notes("stopped")


@pytest.mark.parametrize("how", ["shape", "header", "openwebui"])
async def test_d7_a_background_task_never_switches(clean, how):
    assert (await clean.api.chat("one")).status == 200
    if how == "shape":
        reply = await clean.api.chat("two", messages=[{"role": "user", "content": TITLE}])
    else:
        header = "x-roundhouse-task" if how == "header" else "x-openwebui-task"
        reply = await clean.api.chat("two", {header: "title_generation"})
    assert reply.status == 200
    assert reply.headers["x-roundhouse-model"] == "one"
    assert reply.json()["model"] == "two"
    assert clean.two.starts == 0
    assert (await clean.api.model("one"))["state"] == "ready"


async def test_a8_a_queued_client_that_leaves_never_loads(clean):
    gate = clean.place.gate("a8")
    async with clean.api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as first:
        await first.until(EMOJI[0])
        async with clean.api.stream("two") as second:
            await second.until("⏳")
            assert (await clean.api.model("two"))["waiting"] == 1
        async with asyncio.timeout(10):
            while (await clean.api.model("two"))["waiting"]:
                await asyncio.sleep(0.02)
        gate.touch()
        assert (await first.events()).text_of_answer == ANSWER
    assert (await clean.api.chat("one")).status == 200
    assert (clean.one.starts, clean.two.starts) == (1, 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a8_the_engine_sees_a_client_leave(clean, stream):
    async def left(**fake):
        async with clean.api.open("POST", "/v1/chat/completions", body | {"fake": fake}) as answer:
            await answer.until("xxx")

    body = {"model": "one", "messages": [], "stream": stream}
    if stream:
        await left(endless=True, delay=0.01)
    else:
        asking = asyncio.get_running_loop().create_task(clean.api.chat("one", fake={"hang": True}))
        await clean.one.until("request")
        asking.cancel()
    await clean.one.until("left")
    async with asyncio.timeout(10):
        while (await clean.api.model("one"))["active"]:
            await asyncio.sleep(0.02)


async def test_a8_a_load_that_nobody_waits_for_is_given_up(place):
    model = Scripted(place.folder, "cold", "--load-gate", str(place.gate("never")))
    place.write([model])
    async with inside(place) as house:
        house.supervisor.fleet.policy = replace(house.supervisor.fleet.policy, unwanted_grace=0.05)
        async with Api(place.port).stream("cold") as answer:
            await answer.until("⏳")
            await model.until("start")
        await model.until("stopped")
        await Api(place.port).until("cold", "unloaded")
        # It was no failure, so the next one is served.
        place.gate("never").touch()
        assert (await Api(place.port).chat("cold")).status == 200


async def test_d7_a_task_that_may_run_nowhere_is_refused_at_once(place):
    model, other = Scripted(place.folder, "one"), Scripted(place.folder, "two", memory="1GiB")
    place.write([model, other])
    async with inside(place) as house:
        api = Api(place.port)
        assert (await api.chat("one")).status == 200
        house.supervisor.fleet.policy = replace(house.supervisor.fleet.policy, tasks=TaskRule.REFUSE)
        reply = await api.chat("two", {"x-roundhouse-task": "tags"})
        assert reply.status == 503
        assert reply.error()["code"] == "task_refused"
        assert int(reply.headers["retry-after"]) >= 1
        assert other.starts == 0


async def test_a9_a_broken_answer_ends_when_its_engines_end_is_known(place):
    """So that the client's next request is not sent to the dead one."""
    model = Scripted(place.folder, "one")
    place.write([model])
    async with inside(place) as house:

        async def slow(_instance, **_kept):
            await asyncio.sleep(0.2)
            return True

        house.effects.memory_back = slow
        events = await Api(place.port).events("one", fake={"die_after": 2})
        assert events.done
        assert (await Api(place.port).model("one"))["state"] == "failed"


@pytest.mark.parametrize("stream", [True, False])
async def test_a9_a_request_that_meets_a_dead_engine_gets_the_next_one(clean, stream):
    assert (await clean.api.chat("one")).status == 200
    engine = Watched(clean.one.pid)
    engine.signal()
    assert engine.gone(10)
    engine.close()
    reply = await clean.api.chat("one", stream=stream)  # maybe before its end was noticed
    assert reply.status == 200
    assert clean.one.starts == 2
    await clean.api.post("/api/v1/models/one/load")  # an operator's wish forgets failures
    await clean.api.post("/api/v1/models/one/unload")


async def test_a9_an_engine_that_dies_in_mid_stream(house):
    crashing = house.crashing
    for count in (1, 2, 3):
        events = await house.api.events("crashing", {"x-roundhouse-status": "off"}, fake={"die_after": 2})
        assert events.text_of_answer == "".join(EMOJI[:2])
        assert len(events.errors) == 1
        assert events.done
        if count < 3:
            reply = await house.api.chat("crashing")  # reloaded at once
            assert reply.status == 200
            assert crashing.starts == count + 1
    starts = crashing.starts
    await house.api.until("crashing", "failed")
    for stream in (True, False):
        reply = await house.api.chat("crashing", stream=stream)
        assert reply.status == 503
        assert reply.error()["code"] == "model_load_failed"
        assert 1 <= int(reply.headers["retry-after"]) <= 5
    assert crashing.starts == starts
    assert (await house.api.health())["status"] == "degraded"


async def test_g1_metrics_tell_of_switches_and_evictions(clean):
    await ask_all(clean.api, ["one"])
    await ask_all(clean.api, ["two"])
    await clean.api.post("/api/v1/models/two/unload")
    text = (await clean.api.get("/metrics")).body.decode()
    assert 'model="one",reason="room"' in text
    assert 'model="two",reason="asked"' in text
    assert 'key_class="anonymous"' in text
