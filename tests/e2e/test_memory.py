"""What engines hold, what others leave, and ends for want of memory, in the whole program (spec D1, D2, D10)."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from roundhouse.core.model import Exited
from tests.support.house import Scripted, inside
from tests.support.wire import Api


def exits(house) -> list[Exited]:
    """The ends to come."""
    seen: list[Exited] = []

    def see(event, _actions, _now):
        if isinstance(event, Exited):
            seen.append(event)

    house.supervisor.observers.append(see)
    return seen


async def one_of(seen: list[Exited]) -> None:
    """Waits for an end."""
    async with asyncio.timeout(30):
        while not seen:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("words", "short"), [("CUDA error: out of memory", True), ("no such file", False)])
async def test_d10_an_engine_that_says_so_ended_for_want_of_memory(place, words, short):
    place.write([Scripted(place.folder, "one", "--die-load", words)])
    async with inside(place) as house:
        seen = exits(house)
        assert (await Api(place.port).chat("one")).status == 503
    assert {event.short for event in seen} == {short}


async def test_d10_so_did_one_that_is_killed_while_it_loads_but_not_one_that_we_end(place):
    model = Scripted(place.folder, "one", "--load-gate", str(place.gate("load")))
    place.write([model])
    async with inside(place) as house:
        seen = exits(house)
        async with Api(place.port).stream("one") as answer:
            await model.until("start")
            os.kill(model.pid, signal.SIGKILL)
            await one_of(seen)
            place.gate("load").touch()
            await answer.events()
        assert [(event.short, event.expected) for event in seen] == [(True, False)]
        seen.clear()
        assert (await Api(place.port).chat("one")).status == 200
        os.kill(model.pid, signal.SIGKILL)
        await one_of(seen)
        assert (await Api(place.port).chat("one")).status == 200
    assert [(event.short, event.expected) for event in seen] == [(False, False), (False, True)]
