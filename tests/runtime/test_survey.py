"""What an engine says of its memory counts only where nobody can measure it (spec D1)."""

from __future__ import annotations

import pytest

from roundhouse.core.model import Device, Fleet, Found, Measured, ModelSpec
from roundhouse.core.planner import step
from roundhouse.ports import Reading
from roundhouse.runtime.survey import Survey

GIB = 1 << 30


class Reader:
    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    async def read(self, trees):
        return self.reading


async def told(ours, claim, size=7 * GIB):
    """The events that follow when an engine says `size`, after a reading that has `ours` of it."""
    fleet = Fleet(
        [ModelSpec("m", claim=claim)], [Device("gpu0", 24 * GIB), Device("gpu1", 24 * GIB), Device("port:1", 1)]
    )
    step(fleet, Found(1, "m", None, 1, ready=True), 0.0)
    events = []
    reading = Reading({"gpu0": 24 * GIB}, {"gpu0": 8 * GIB}, ours)
    survey = Survey(Reader(reading), {}, fleet, dict, events.append)
    await survey.read()
    events.clear()
    survey.told(1, size)
    return events


async def test_d1_it_replaces_the_estimate_where_no_figure_is_measured():
    [event] = await told({}, {"gpu0": 5 * GIB, "port:1": 1})
    assert event == Measured(1, {"gpu0": 7 * GIB}, {"gpu0": 7 * GIB})


@pytest.mark.parametrize(
    ("ours", "claim"),
    [({1: {"gpu0": 6 * GIB}}, {"gpu0": 6 * GIB}), ({}, {"gpu0": GIB, "gpu1": GIB}), ({}, {"port:1": 1})],
    ids=["measured", "on two devices", "on none"],
)
async def test_d1_it_counts_for_nothing_where_it_is_measured_or_can_t_be_placed(ours, claim):
    assert await told(ours, claim) == []
