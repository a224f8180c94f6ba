"""What an engine says of its memory counts only where nobody can measure it (spec D1)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from roundhouse.core.model import Arrived, Device, Fleet, Found, Measured, ModelSpec, Surveyed, Ticket
from roundhouse.core.planner import step
from roundhouse.ports import Reading
from roundhouse.runtime import survey
from roundhouse.runtime.peaks import Peaks
from roundhouse.runtime.survey import BUSY_EVERY, IDLE_EVERY, Survey
from tests.support.virtual_loop import run_virtually

GIB = 1 << 30


class Reader:
    """Gives readings one after another, the last one for ever."""

    def __init__(self, *readings: Reading) -> None:
        self.readings = list(readings)

    async def read(self, trees):
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


async def told(ours, claim, size=7 * GIB):
    """The events that follow when an engine says `size`, after a reading that has `ours` of it."""
    fleet = Fleet(
        [ModelSpec("m", claim=claim)], [Device("gpu0", 24 * GIB), Device("gpu1", 24 * GIB), Device("port:1", 1)]
    )
    step(fleet, Found(1, "m", None, 1, ready=True), 0.0)
    events = []
    reading = Reading({"gpu0": 24 * GIB}, {"gpu0": 8 * GIB}, ours)
    one = Survey(Reader(reading), {}, fleet, dict, events.append, Peaks(fleet, {}))
    await one.read()
    events.clear()
    one.told(1, size)
    return events


async def test_d1_it_replaces_the_estimate_where_no_figure_is_measured():
    [event] = await told({}, {"gpu0": 5 * GIB, "port:1": 1})
    assert event == Measured(1, {"gpu0": 7 * GIB}, {"gpu0": 7 * GIB}, {"gpu0": 7 * GIB})


@pytest.mark.parametrize(
    ("ours", "claim"),
    [({1: {"gpu0": 6 * GIB}}, {"gpu0": 6 * GIB}), ({}, {"gpu0": GIB, "gpu1": GIB}), ({}, {"port:1": 1})],
    ids=["measured", "on two devices", "on none"],
)
async def test_d1_it_counts_for_nothing_where_it_is_measured_or_can_t_be_placed(ours, claim):
    assert await told(ours, claim) == []


@pytest.mark.parametrize(
    ("left", "process_stays", "back"),
    [(1, False, True), (3, False, False), (3, True, True), (5, True, False)],
    ids=["gone", "a part is missing", "a process keeps its context", "an unload that did not work"],
)
async def test_d2_memory_is_waited_for(monkeypatch, left, process_stays, back):
    """An engine of 8 GiB ends beside 2 GiB of others; `left` is what is used of its 8 afterwards."""
    monkeypatch.setattr(survey, "SETTLE_LIMIT", 0.1)
    fleet = Fleet([ModelSpec("m", claim={"gpu0": 8 * GIB})], [Device("gpu0", 24 * GIB)])
    step(fleet, Found(1, "m", None, 1, ready=True), 0.0)
    total = {"gpu0": 24 * GIB}
    before = Reading(total, {"gpu0": 10 * GIB}, {1: {"gpu0": 8 * GIB}})
    one = Survey(
        Reader(before, Reading(total, {"gpu0": (2 + left) * GIB})), {}, fleet, dict, lambda _: None, Peaks(fleet, {})
    )
    await one.read()
    assert await one.settled(1, process_stays=process_stays) is back


def house(*readings: Reading, claim=8 * GIB):
    """A survey of a GPU of 24 GiB with one engine on it, and what it tells of the GPU."""
    fleet = Fleet([ModelSpec("m", claim={"gpu0": claim})], [Device("gpu0", 24 * GIB)])
    step(fleet, Found(1, "m", None, 1, ready=True), 0.0)
    events: list = []
    return Survey(Reader(*readings), {}, fleet, dict, events.append, Peaks(fleet, {})), events


def reading(used, ours, *, opaque=False) -> Reading:
    devices = {"gpu0": used * GIB}
    return Reading({"gpu0": 24 * GIB}, devices, {1: {"gpu0": ours * GIB}}, opaque=frozenset(["gpu0"] if opaque else []))


@pytest.mark.parametrize(
    ("used", "ours", "opaque", "foreign"),
    [(10, 7, False, 3), (10, 7, True, 3), (10, 0, True, 2), (5, 0, True, 0), (10, 0, False, 10)],
    ids=["measured", "measured, others not", "kept secret", "still loading", "not on this GPU"],
)
async def test_d1_memory_of_an_engine_that_nobody_can_measure_counts_once(used, ours, opaque, foreign):
    one, events = house(reading(used, ours, opaque=opaque))
    await one.read()
    assert events[0].devices == (Device("gpu0", 24 * GIB, 24 * GIB, foreign * GIB),)


async def test_d2_a_gpu_that_can_not_be_read_has_nothing_back(monkeypatch):
    monkeypatch.setattr(survey, "SETTLE_LIMIT", 0.1)
    one, _ = house(reading(10, 8), Reading({}, {}))
    await one.read()
    assert await one.settled(1) is False


async def test_d2_where_nobody_can_measure_the_gpu_is_read_once_more():
    one, events = house(reading(10, 0, opaque=True), reading(2, 0, opaque=True))
    await one.read()
    events.clear()
    assert await one.settled(1)
    assert [event.devices[0].foreign for event in events] == [0]


def test_d2_memory_is_read_often_while_engines_live_or_somebody_waits():
    """Who waits for memory that others hold is not to wait for the next idle reading too."""

    async def main():
        fleet = Fleet([ModelSpec("m", claim={"gpu0": 8 * GIB})], [Device("gpu0", 24 * GIB, foreign=20 * GIB)])
        times: list[float] = []
        loop = asyncio.get_running_loop()
        held = Reading({"gpu0": 24 * GIB}, {"gpu0": 20 * GIB})
        one = Survey(Reader(held), {}, fleet, dict, lambda event: times.append(loop.time()), Peaks(fleet, {}))

        async def within(seconds: float) -> list[float]:
            times.clear()
            await asyncio.sleep(seconds)
            return times[:]

        task = loop.create_task(one.run())
        idle = await within(60.5)
        step(fleet, Arrived(Ticket(1, "m", 0.0)), loop.time())
        waiting = await within(10)
        step(fleet, Surveyed((Device("gpu0", 24 * GIB),)), loop.time())
        step(fleet, Found(1, "m", None, 1, ready=True), loop.time())
        living = await within(10)
        task.cancel()
        return idle, waiting, living

    idle, waiting, living = run_virtually(main())
    assert {b - a for a, b in pairwise(idle)} == {IDLE_EVERY + IDLE_EVERY % BUSY_EVERY}
    assert len(waiting) == len(living) == 10 / BUSY_EVERY


@pytest.mark.parametrize(
    ("ours", "opaque", "held"),
    [(5, False, 5), (5, True, 5), (0, True, 9), (0, False, None)],
    ids=["measured", "measured, others not", "kept secret", "not on this GPU"],
)
async def test_d1_what_is_said_of_a_process_here_waits_for_a_reading(ours, opaque, held):
    """It becomes ready between two readings: what was measured then says nothing of it yet."""
    fleet = Fleet([ModelSpec("m", claim={"gpu0": 4 * GIB})], [Device("gpu0", 24 * GIB)])
    events: list = []
    none = Reading({"gpu0": 24 * GIB}, {"gpu0": 0})
    one = Survey(
        Reader(none, reading(5, ours, opaque=opaque)), {}, fleet, lambda: {1: 99}, events.append, Peaks(fleet, {})
    )
    await one.read()
    step(fleet, Found(1, "m", None, 1, ready=True), 0.0)
    one.told(1, 9 * GIB)
    assert [event for event in events if isinstance(event, Measured)] == []
    await one.read()
    found = [event.claim["gpu0"] for event in events if isinstance(event, Measured)]
    assert found == ([] if held is None else [held * GIB])
