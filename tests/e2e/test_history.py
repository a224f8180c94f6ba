"""What the history remembers of requests, so that they can be replayed (spec G5)."""

from __future__ import annotations

import asyncio
import time

import pytest

from roundhouse.observe.past import read_past
from tests.cli.commands import run
from tests.support.house import Scripted, inside
from tests.support.wire import Api


async def remembered(house, place, count):
    """The requests of the history, oldest first, once there are so many: books are closed after the answer has gone."""
    async with asyncio.timeout(30):
        while True:
            await house._store.flush()
            if len(found := read_past(place.state / "roundhouse.db").requests) >= count:
                return found
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
async def test_g5_the_engines_time_is_apart_from_waiting_and_loading(place, stream):
    load, answer = place.gate("load"), place.gate("answer")
    model = Scripted(place.folder, "one", "--load-gate", str(load))
    place.write([model])
    async with inside(place) as house:
        fake = {"gate": str(answer)}
        asking = asyncio.get_running_loop().create_task(Api(place.port).chat("one", stream=stream, fake=fake))
        (started,) = await model.until("start")
        loading = time.monotonic() - started["at"]
        load.touch()
        (asked,) = await model.until("request")
        answering = time.monotonic() - asked["at"]
        answer.touch()
        assert (await asking).status == 200
        (told,) = await remembered(house, place, 1)
    assert (told.wanted, told.model, told.status, told.task) == ("one", "one", 200, "")
    # The request had come before its engine started, and was granted after the gate had opened.
    assert answering <= told.service_s <= told.total_s - loading


async def test_g5_who_never_came_to_an_engine_has_no_time_of_one(place):
    bad = Scripted(place.folder, "bad", "--die-load", "1")
    cold = Scripted(place.folder, "cold", "--load-gate", str(place.gate("never")))
    place.write([bad, cold])
    async with inside(place) as house:
        api = Api(place.port)
        assert (await api.chat("bad")).status == 503
        async with api.stream("cold") as answer:
            await answer.until("⏳")
        found = await remembered(house, place, 2)
    assert [(told.wanted, told.status, told.service_s) for told in found] == [("bad", 503, None), ("cold", 499, None)]
    assert all(told.total_s > 0 for told in found)


async def test_g5_a_moved_task_remembers_whom_it_asked_for(place):
    one, two = (Scripted(place.folder, name, memory="600MiB") for name in ("one", "two"))
    place.write([one, two])
    async with inside(place) as house:
        api = Api(place.port)
        assert (await api.chat("one")).status == 200
        assert (await api.chat("two", {"x-roundhouse-task": "tags"})).status == 200
        _, task = await remembered(house, place, 2)
    assert (task.wanted, task.model) == ("two", "one")
    assert task.task
    assert task.service_s is not None


async def test_g5_what_was_served_is_simulated_while_it_is_running(place):
    one, two = (Scripted(place.folder, name, memory="600MiB") for name in ("one", "two"))
    place.write([one, two])
    async with inside(place) as house:
        for name in ("one", "two", "one"):
            assert (await Api(place.port).chat(name)).status == 200
        await remembered(house, place, 3)
        shown = await asyncio.to_thread(
            run,
            "simulate",
            "-c",
            str(place.file),
            "--policy",
            "fifo",
            "--load",
            "10s",
            "--device",
            "ram=2GiB",
            "--json",
        )
        assert (await Api(place.port).chat("two")).status == 200
        assert len(await remembered(house, place, 4)) == 4
    assert shown.code == 0, shown.err
    as_it_is, larger = shown.json["results"]
    assert (as_it_is["done"], as_it_is["loads"], as_it_is["switches"]) == (3, 3, 2)
    assert (larger["done"], larger["loads"], larger["switches"]) == (3, 2, 0)
