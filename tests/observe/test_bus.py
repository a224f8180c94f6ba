import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.observe.bus import Bus


async def take(subscription, count):
    return [await anext(subscription) for _ in range(count)]


async def test_h_events_new_subscriber_is_told_to_take_a_snapshot_then_gets_changes():
    bus = Bus(run="r")
    bus.publish("before", {"n": 0})
    async with bus.subscribe() as feed:
        assert tuple(await anext(feed)) == ("r-1", "reset", {"why": "start"})
        bus.publish("model", {"n": 1})
        assert tuple(await anext(feed)) == ("r-2", "model", {"n": 1})


async def test_h_events_what_happens_before_the_reset_is_read_belongs_to_the_snapshot():
    bus = Bus(run="r")
    async with bus.subscribe() as feed:
        bus.publish("model", {})
        assert (await anext(feed)).id == "r-1"
        bus.publish("model", {})
        assert (await anext(feed)).id == "r-2"


async def test_h_events_last_event_id_resumes():
    bus = Bus(run="r")
    for n in range(1, 5):
        bus.publish("model", {"n": n})
    async with bus.subscribe("r-2") as feed:
        assert [m.data["n"] for m in await take(feed, 2)] == [3, 4]


async def test_h_events_resumes_from_the_oldest_possible_id_and_no_older():
    bus = Bus(keep=2, run="r")
    for n in range(1, 5):
        bus.publish("model", {"n": n})
    async with bus.subscribe("r-2") as feed:
        assert (await anext(feed)).data == {"n": 3}
    async with bus.subscribe("r-1") as feed:
        assert await anext(feed) == ("r-4", "reset", {"why": "old"})


@pytest.mark.parametrize("after", ["", "1", "other-1", "r-", "r--1", "r-x", "r-2", "r-٣", "r-" + "9" * 5000, "-"])
async def test_h_events_ids_of_another_run_or_nonsense_ask_for_a_snapshot(after):
    bus = Bus(run="r")
    bus.publish("model", {})
    async with bus.subscribe(after) as feed:
        assert (await anext(feed)).data == {"why": "run"}


async def test_h_events_ids_differ_from_run_to_run():
    first, second = Bus(), Bus()
    first.publish("model", {})
    second.publish("model", {})
    assert first.last_id != second.last_id


async def test_e6_slow_subscriber_loses_the_oldest_and_is_told():
    bus = Bus(keep=3, run="r")
    async with bus.subscribe() as feed:
        await anext(feed)
        for n in range(10):
            bus.publish("model", {"n": n})
        assert await anext(feed) == ("r-7", "lost", {"lost": 7})
        assert [m.data["n"] for m in await take(feed, 3)] == [7, 8, 9]


async def test_e6_the_id_of_lost_can_be_resumed_from():
    bus = Bus(keep=3, run="r")
    async with bus.subscribe() as feed:
        await anext(feed)
        for n in range(10):
            bus.publish("model", {"n": n})
        lost = await anext(feed)
    async with bus.subscribe(lost.id) as feed:
        assert (await anext(feed)).data == {"n": 7}


async def test_a_waiting_subscriber_is_woken():
    bus = Bus()
    async with bus.subscribe() as feed, asyncio.TaskGroup() as tasks:
        await anext(feed)
        waiting = tasks.create_task(anext(feed))
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.publish("model", {"n": 1})
    assert waiting.result().data == {"n": 1}


async def test_a_cancelled_wait_loses_nothing():
    bus = Bus()
    async with bus.subscribe() as feed:
        await anext(feed)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(feed)
        bus.publish("model", {"n": 1})
        assert (await anext(feed)).data == {"n": 1}


async def test_e5_closing_ends_feeds_after_what_there_is():
    bus = Bus()
    async with bus.subscribe() as feed, asyncio.TaskGroup() as tasks:
        await anext(feed)
        bus.publish("model", {"n": 1})
        await anext(feed)
        waiting = tasks.create_task(drain(feed))
        await asyncio.sleep(0)
        bus.publish("bye", {})
        bus.close()
    assert waiting.result() == ["bye"]


async def drain(feed):
    return [message.kind async for message in feed]


async def test_a_subscription_that_ended_is_forgotten():
    bus = Bus(run="r")
    async with bus.subscribe():
        assert repr(bus) == "<Bus at r-0: 0 kept, 1 subscribers>"
    assert repr(bus) == "<Bus at r-0: 0 kept, 0 subscribers>"


@given(keep=st.integers(1, 5), script=st.lists(st.booleans(), max_size=60))
def test_e6_every_message_is_either_delivered_once_in_order_or_counted_as_lost(keep, script):
    """Oracle: numbers delivered and numbers lost, in order, make up all that was published while subscribed."""

    async def run():
        bus, published, seen = Bus(keep=keep), 0, 0
        async with bus.subscribe() as feed:
            await anext(feed)
            for publish in [*script, *[False] * (keep + 1)]:
                if publish:
                    published += 1
                    bus.publish("n", {"n": published})
                elif seen < published:
                    message: Any = await anext(feed)
                    if message.kind == "lost":
                        seen += message.data["lost"]
                    else:
                        seen += 1
                        assert message.data["n"] == seen
            assert seen == published

    asyncio.run(run())
