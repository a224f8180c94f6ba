"""Turns with the real program (spec D4): a busy model keeps its place for `max_wait`, and who waits is told."""

from __future__ import annotations

import pytest

from tests.support.fake_engine import EMOJI
from tests.support.house import Place, Running, Scripted

BIG = "600MiB"  # of the 1 GiB that there is
ANSWER = "".join(EMOJI)


@pytest.fixture
def place():
    found = Place()
    yield found
    found.remove()


def two(place, **scheduling):
    one, other = (Scripted(place.folder, name, memory=BIG) for name in ("one", "two"))
    place.write([one, other], status={"every": "100ms"}, scheduling=scheduling)
    return one, other


async def test_d4_a_busy_model_goes_on_until_max_wait_then_finishes_and_leaves(place):
    one, other = two(place, max_wait="2s")
    gate = place.gate("long")
    with Running(place) as running:
        api = running.api
        async with api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as first:
            await first.until(EMOJI[0])
            async with api.stream("two") as second:
                await second.until("one answers until about 2 s from now")
                assert (await api.chat("one")).status == 200  # still admitted beside the one that is under way
                await second.until("one finishes 1 answer first")
                async with api.stream("one") as third:
                    await third.until("1 request ahead")
                    gate.touch()
                    assert (await first.events()).text_of_answer == ANSWER
                    assert (await second.events()).text_of_answer == ANSWER
                    assert (await third.events()).text_of_answer == ANSWER
        assert (one.starts, other.starts) == (2, 1)


async def test_d4_requests_that_came_meanwhile_are_served_in_one_turn(place):
    one, other = two(place, max_wait="1s")
    gate = place.gate("long")
    with Running(place) as running:
        api = running.api
        async with api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as first:
            await first.until(EMOJI[0])
            async with api.stream("two") as a, api.stream("two") as b, api.stream("two") as c:
                await c.until("2 requests ahead")
                gate.touch()
                await first.events()
                for stream in (a, b, c):
                    assert (await stream.events()).text_of_answer == ANSWER
        assert (one.starts, other.starts) == (1, 1)
