"""Leases, mail and the one timer, with a fake doer and a virtual clock."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import pytest

from roundhouse.core.model import (
    Asked,
    BecameReady,
    Cancelled,
    ClosingTime,
    Device,
    Exited,
    Fleet,
    Found,
    ModelSpec,
    Phase,
    Policy,
    Start,
    Started,
    Stop,
    Tick,
    Ticket,
    Want,
)
from roundhouse.errors import LoadFailed, QueueTimeout, RequestCancelled
from roundhouse.runtime.supervisor import Supervisor
from tests.support.virtual_loop import run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable

    from roundhouse.core.model import Event

SIX = {"gpu0": 6}


class Doer:
    """Carries out nothing but what the test says: writes actions down, and posts what `answers` gives for each."""

    def __init__(self) -> None:
        self.done: list[Start | Stop] = []
        self.answers: Callable[[Start | Stop], tuple[Event, ...]] = lambda action: ()
        self.post: Callable[[Event], None] = lambda event: None

    def do(self, action: Start | Stop) -> None:
        self.done.append(action)
        for event in self.answers(action):
            self.post(event)


class Scene:
    def __init__(self, policy: Policy | None = None, ttl: float | None = None) -> None:
        specs = [
            ModelSpec("alpha", claim=SIX, ttl=ttl),
            ModelSpec("beta", claim=SIX, ttl=None if ttl is None else 10 * ttl),
        ]
        self.loop = asyncio.get_running_loop()
        self.doer = Doer()
        self.supervisor = Supervisor(Fleet(specs, [Device("gpu0", 12)], policy), self.doer, self.loop.time)
        self.doer.post = self.supervisor.post

    def lease(self, model: str):
        number = self.supervisor.next_ticket()
        return self.supervisor.lease(Ticket(number, model, self.loop.time()))

    def has(self, model: str) -> Phase | None:
        instance = self.supervisor.fleet.models[model].instance
        return instance.phase if instance else None


def virtual(test):
    @functools.wraps(test)
    def run():
        run_virtually(test())

    return run


@virtual
async def test_a_free_slot_is_granted_within_the_call():
    scene = Scene()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
    async with scene.lease("alpha") as lease:
        assert lease.settled
        assert lease.result().instance == 1
        assert await lease.wait(0) is True
        assert scene.supervisor.fleet.use[1].active == 1
    assert scene.supervisor.fleet.use[1].active == 0
    assert not scene.supervisor.leases


@virtual
async def test_a_load_is_asked_for_and_waited_for():
    scene = Scene()
    async with scene.lease("alpha") as lease:
        assert scene.doer.done == [Start(1, "alpha", SIX)]
        assert not lease.settled
        assert await lease.wait(5.0) is False
        assert lease.waiting().elapsed == 5.0
        scene.loop.call_later(2.0, scene.supervisor.post, BecameReady(1, 1, 7.0))
        assert await lease.wait() is True
        assert scene.loop.time() == pytest.approx(7.0)
        assert lease.result().model == "alpha"


@virtual
async def test_a_refusal_is_raised_by_result():
    scene = Scene()
    async with scene.lease("alpha") as lease:
        scene.loop.call_later(1.0, scene.supervisor.post, Exited(1, "no such file"))
        assert await lease.wait(60.0) is True
        with pytest.raises(LoadFailed, match="no such file"):
            lease.result()
    assert not scene.supervisor.fleet.granted


@virtual
async def test_a8_cancelled_while_queued_gives_its_place_back():
    scene = Scene()
    entered = asyncio.Event()

    async def client():
        async with scene.lease("alpha") as lease:
            entered.set()
            await lease.wait()

    task = scene.loop.create_task(client())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not scene.supervisor.fleet.queued
    assert not scene.supervisor.leases
    await asyncio.sleep(9.9)
    assert scene.has("alpha") is Phase.STARTING
    await asyncio.sleep(0.2)
    assert scene.doer.done[-1] == Stop(1, "alpha", "nobody waits for it any more")


@virtual
async def test_cancelled_while_answering_gives_its_slot_to_the_next():
    scene = Scene()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))

    async def client():
        async with scene.lease("alpha"):
            await asyncio.sleep(1000)

    task = scene.loop.create_task(client())
    await asyncio.sleep(1)
    async with scene.lease("alpha") as second:
        assert not second.settled
        scene.loop.call_later(1.0, task.cancel)
        assert await second.wait(5.0)
        assert second.result().instance == 1
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual
async def test_an_error_inside_gives_the_slot_back_too():
    scene = Scene()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
    with pytest.raises(ZeroDivisionError):
        async with scene.lease("alpha"):
            raise ZeroDivisionError
    assert scene.supervisor.fleet.use[1].active == 0


@virtual
async def test_events_posted_by_the_doer_itself_are_taken_in_order():
    scene = Scene()
    seen = []
    scene.supervisor.observers.append(
        lambda event, actions, now: seen.append((type(event), [type(a) for a in actions]))
    )
    scene.doer.answers = lambda action: (
        (Started(action.instance, 7), BecameReady(action.instance, 1, 0.0)) if isinstance(action, Start) else ()
    )
    async with scene.lease("alpha") as lease:
        assert lease.result().instance == 1
    kinds = [kind.__name__ for kind, _ in seen]
    assert kinds == ["Arrived", "Started", "BecameReady"]  # the end of an answered request is not told
    assert seen[0][1] == [Start]


@virtual
async def test_a_doer_that_fails_does_not_stop_the_mail():
    scene = Scene()

    def fails(action):
        raise OSError("broken")

    scene.doer.answers = fails
    with pytest.raises(OSError, match="broken"):
        scene.supervisor.post(Asked("alpha", Want.LOAD))
    scene.doer.answers = lambda action: ()
    scene.supervisor.post(BecameReady(1, 1, 0.0))
    assert scene.has("alpha") is Phase.READY


@virtual
async def test_the_timer_comes_when_time_alone_changes_something():
    scene = Scene(Policy(queue_timeout=60.0))
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
    async with scene.lease("alpha"), scene.lease("alpha") as second:
        assert await second.wait(59.9) is False
        assert await second.wait(0.2) is True
        with pytest.raises(QueueTimeout):
            second.result()


@virtual
async def test_d8_a_short_request_on_one_model_does_not_hide_the_ttl_of_another():
    """alpha (ttl 100 s) is busy when the timer is set for beta (ttl 1000 s); it must still be retired in time."""
    scene = Scene(ttl=100.0)
    scene.supervisor.post(Found(1, "alpha", 7, 2, ready=True))
    async with scene.lease("alpha"):
        await asyncio.sleep(150)
        scene.supervisor.post(Found(2, "beta", 8, 2, ready=True))
        await asyncio.sleep(1)
    left = scene.loop.time()
    await asyncio.sleep(99.5)
    assert scene.has("alpha") is Phase.READY
    await asyncio.sleep(0.6)
    assert scene.has("alpha") is Phase.STOPPING
    assert scene.loop.time() - left < 101
    assert scene.has("beta") is Phase.READY


@virtual
async def test_the_timer_is_set_once_for_many_quick_requests():
    scene = Scene(ttl=100.0)
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
    timer = scene.supervisor._timer
    assert timer is not None
    for _ in range(100):
        async with scene.lease("alpha"):
            pass
    assert scene.supervisor._timer is timer


@virtual
async def test_no_timer_ticks_when_nothing_is_due():
    scene = Scene()
    ticks = []
    scene.supervisor.observers.append(
        lambda event, actions, now: ticks.append(event) if isinstance(event, Tick) else None
    )
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
    await asyncio.sleep(100_000)
    assert ticks == []


@virtual
async def test_leaving_the_supervisor_ends_its_timer():
    scene = Scene(ttl=5.0)
    async with scene.supervisor:
        scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
        assert scene.supervisor._timer is not None
    await asyncio.sleep(100)
    assert scene.doer.done == []


@virtual
async def test_statistics_are_a_snapshot():
    scene = Scene()
    before = scene.supervisor.statistics()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
    assert before.models["alpha"].instance is None
    assert before.use == {}


@virtual
async def test_ticket_numbers_are_fresh():
    scene = Scene()
    assert len({scene.supervisor.next_ticket() for _ in range(10)}) == 10


@virtual
async def test_e5_closing_time_settles_who_waits():
    scene = Scene()
    async with scene.lease("alpha") as lease:
        scene.loop.call_later(3.0, scene.supervisor.post, ClosingTime())
        assert await lease.wait()
        assert lease.error is not None
        assert lease.error.code == "shutting_down"


# --- an operator cancels a request ---


@virtual
async def test_h_a_cancelled_answer_ends_its_task_with_the_error_and_nothing_of_the_cancelling_is_left():
    scene = Scene()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))

    async def client():
        async with scene.lease("alpha") as lease:
            for _ in range(2):  # the second time changes nothing
                scene.loop.call_soon(scene.supervisor.post, Cancelled(lease.ticket.id, "boss"))
            await asyncio.sleep(60)

    with pytest.raises(RequestCancelled, match=r"key 'boss'"):
        await client()
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)
    assert not scene.supervisor.fleet.granted
    assert scene.supervisor.fleet.use[1].active == 0


@virtual
async def test_h_an_answer_that_was_complete_stands():
    scene = Scene()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))
    async with scene.lease("alpha") as lease:
        scene.supervisor.post(Cancelled(lease.ticket.id))
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)


@virtual
async def test_h_another_error_of_the_same_moment_is_not_what_is_told():
    scene = Scene()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))

    async def client():
        async with scene.lease("alpha") as lease:
            scene.supervisor.post(Cancelled(lease.ticket.id))
            raise LoadFailed("its engine has just ended")

    with pytest.raises(RequestCancelled):
        await client()
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)


@virtual
async def test_h_cancelled_as_it_is_granted_it_is_not_sent():
    scene = Scene()
    sent = []

    async def client():
        async with scene.lease("alpha") as lease:
            await lease.wait(60)
            sent.append(lease.result())

    task = scene.loop.create_task(client())
    await asyncio.sleep(1)
    (number,) = scene.supervisor.leases
    scene.supervisor.post(BecameReady(1, 1, 1.0))
    scene.supervisor.post(Cancelled(number))
    with pytest.raises(RequestCancelled):
        await task
    assert not sent


@virtual
async def test_a8_a_client_that_leaves_as_its_request_is_cancelled_is_not_kept():
    scene = Scene()
    scene.supervisor.post(Found(1, "alpha", 7, 1, ready=True))

    async def client():
        async with scene.lease("alpha"):
            await asyncio.sleep(60)

    task = scene.loop.create_task(client())
    await asyncio.sleep(1)
    (number,) = scene.supervisor.leases
    scene.supervisor.post(Cancelled(number))
    task.cancel()
    with pytest.raises(RequestCancelled):
        await task
    assert not scene.supervisor.fleet.granted
