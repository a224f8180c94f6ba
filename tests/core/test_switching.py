"""Where the time of a switch went: parts that follow one another and add up, whatever happened."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from roundhouse.core.model import (
    Arrived,
    BecameReady,
    Departed,
    Device,
    Exited,
    Fleet,
    Grant,
    ModelSpec,
    Policy,
    Progress,
    Progressed,
    Start,
    Started,
    Stop,
    Tick,
    Ticket,
)
from roundhouse.core.planner import next_wakeup, step
from roundhouse.core.switching import PARTS, Floor, Switch, Switches

GIB = 2**30


class Play:
    """A box of which one model fits, and its report."""

    def __init__(self, **policy: object) -> None:
        specs = [ModelSpec(name, claim={"gpu0": 6}) for name in ("alpha", "beta", "gamma")]
        self.fleet = Fleet(specs, [Device("gpu0", 10)], Policy(max_wait=0.0, **policy))
        self.switches = Switches()
        self.told: list[Switch] = []
        self.actions: list[object] = []

    def at(self, now: float, event: object) -> list[object]:
        actions = step(self.fleet, event, now)
        switch = self.switches.saw(self.fleet, event, actions, now)
        if switch is not None:
            self.told.append(switch)
        self.actions += actions
        return actions

    def load(self, model: str, instance: int, now: float) -> None:
        """Loaded in no time."""
        self.at(now, Arrived(Ticket(instance * 100, model, now)))
        self.at(now, Started(instance, 1))
        self.at(now, BecameReady(instance, 1, 0.0))


def test_every_part_of_a_switch_is_told():
    play = Play()
    play.load("alpha", 1, 0.0)
    play.at(10.0, Arrived(Ticket(1, "beta", 10.0)))  # alpha answers ticket 100: it drains
    assert play.at(13.0, Departed(100)) == [Stop(1, "alpha", "room for beta")]
    play.switches.saved(1, 13.5)
    play.switches.gone(1, 14.5)
    assert play.at(16.5, Exited(1, "", expected=True)) == [Start(2, "beta", {"gpu0": 6})]
    play.at(16.75, Started(2, 7))
    play.at(17.75, Progressed(2, Progress(0.1, "reading weights")))
    play.at(18.0, Progressed(2, Progress(0.5, "reading weights")))
    play.at(19.0, Progressed(2, Progress(None, "a guess", guessed=True)))
    play.at(20.75, Progressed(2, Progress(None, "warming up")))
    play.at(21.75, BecameReady(2, 1, 5.0))
    switch = play.told[-1]
    assert switch == Switch(
        "beta", ("alpha",), wait=0.0, drain=3.0, save=0.5, stop=1.0, memory=2.0, decide=0.0, spawn=0.25,
        stages={"starting": 1.0, "reading weights": 3.0, "warming up": 1.0},
    )  # fmt: skip
    assert (switch.total, switch.load, switch.overhead) == (11.75, 5.0, 2.75)


def test_waiting_for_a_turn_is_apart():
    play = Play()
    play.fleet.policy = replace(play.fleet.policy, max_wait=None)
    play.load("alpha", 1, 0.0)
    play.at(1.0, Arrived(Ticket(1, "beta", 1.0)))
    play.at(61.0, Tick())  # now it is beta's turn
    play.at(63.0, Departed(100))
    play.at(64.0, Exited(1, "", expected=True))
    play.at(64.0, Started(2, 7))
    play.at(65.0, BecameReady(2, 1, 1.0))
    assert (play.told[-1].wait, play.told[-1].drain, play.told[-1].total) == (60.0, 2.0, 64.0)


def test_a_load_for_which_nobody_left():
    play = Play()
    play.at(5.0, Arrived(Ticket(1, "alpha", 5.0)))
    play.at(5.5, Started(1, 7))
    play.at(7.0, BecameReady(1, 1, 2.0))
    assert play.told == [Switch("alpha", spawn=0.5, stages={"starting": 1.5})]


def test_who_was_called_back_is_no_part_of_a_later_switch():
    play = Play()
    play.load("alpha", 1, 0.0)
    play.at(10.0, Arrived(Ticket(1, "beta", 10.0)))
    play.at(11.0, Departed(1))  # its client left: alpha stays
    play.at(50.0, Departed(100))
    play.at(60.0, Arrived(Ticket(2, "gamma", 60.0)))
    play.at(61.0, Exited(1, "", expected=True))
    play.at(61.0, Started(2, 7))
    play.at(62.0, BecameReady(2, 1, 1.0))
    assert (play.told[-1].model, play.told[-1].drain, play.told[-1].total) == ("gamma", 0.0, 2.0)


def test_a_failed_load_is_no_switch_and_the_next_one_is():
    play = Play()
    play.at(0.0, Arrived(Ticket(1, "alpha", 0.0)))
    play.at(1.0, Exited(1, "it broke"))
    play.at(1.0, Arrived(Ticket(2, "alpha", 1.0)))
    play.at(2.0, Started(2, 7))
    play.at(4.0, BecameReady(2, 1, 3.0))
    assert [switch.total for switch in play.told] == [3.0]


@pytest.mark.parametrize("seed", range(60))
def test_the_parts_are_never_negative_and_add_up_whatever_happens(seed):
    """Random traffic, ends and failures: each report spans from the first wish to the engine that answers."""
    rnd, play, now = random.Random(seed), Play(), 0.0
    coming: list[tuple[float, object]] = []
    wanted: dict[str, float] = {}
    for number in range(1, 150):
        now += rnd.choice((0.0, 0.1, 1.0, 5.0))
        events = (
            [Arrived(Ticket(number, rnd.choice(("alpha", "beta", "gamma")), now))] if rnd.random() < 0.5 else [Tick()]
        )
        events += [event for at, event in coming if at <= now]
        coming = [(at, event) for at, event in coming if at > now]
        due = next_wakeup(play.fleet, now)
        if due is not None and due <= now:
            events.append(Tick())
        for event in events:
            if isinstance(event, Arrived):
                wanted.setdefault(event.ticket.model, now)
            seen = len(play.told)
            for action in play.at(now, event):
                coming += answers(action, now, rnd, play)
            for switch in play.told[seen:]:
                assert all(getattr(switch, part) >= 0 for part in PARTS), switch
                assert all(seconds >= 0 for seconds in switch.stages.values()), switch
                assert switch.total <= now + 1e-6
                assert switch.overhead <= switch.total + 1e-9
    assert play.told


def answers(action: object, now: float, rnd: random.Random, play: Play) -> list[tuple[float, object]]:
    if isinstance(action, Start):
        begun = now + rnd.choice((0.0, 0.2))
        if rnd.random() < 0.1:
            return [(begun + 1.0, Exited(action.instance, "it broke"))]
        stages = [(begun + 0.5, Progressed(action.instance, Progress(0.5, rnd.choice(("reading weights", "")))))]
        return [(begun, Started(action.instance, 1)), *stages, (begun + 2.0, BecameReady(action.instance, 1, 2.0))]
    if isinstance(action, Stop):
        if rnd.random() < 0.7:
            play.switches.saved(action.instance, now + 0.1)
            play.switches.gone(action.instance, now + 0.5)
        return [(now + rnd.choice((0.5, 1.0)), Exited(action.instance, "", expected=True))]
    if isinstance(action, Grant):
        return [(now + rnd.choice((0.1, 3.0)), Departed(action.ticket.id))]
    return []


# --- what the machine allows ---


@pytest.mark.parametrize(
    ("floor", "seconds", "slowest"),
    [
        (Floor(), None, "disk"),
        (Floor(10 * GIB, 0, 2 * GIB, 10 * GIB), 5.0, "disk"),
        (Floor(10 * GIB, None, 2 * GIB, 10 * GIB), 5.0, "disk"),
        (Floor(10 * GIB, 10 * GIB, 2 * GIB, 10 * GIB), 1.0, "memory"),
        (Floor(10 * GIB, 5 * GIB, 2 * GIB, 10 * GIB), 3.0, "memory"),
        (Floor(10 * GIB, 10 * GIB, 2 * GIB, 10 * GIB, bus=4 * GIB), 2.5, "PCIe"),
        (Floor(10 * GIB, 0, 2 * GIB, 10 * GIB, bus=4 * GIB), 5.0, "disk"),
    ],
)
def test_the_floor_is_the_weights_over_the_slowest_link(floor, seconds, slowest):
    assert (floor.seconds, floor.slowest) == (seconds, slowest)


COLD, WARM = Floor(10 * GIB, 0, 2 * GIB, 10 * GIB), Floor(10 * GIB, 10 * GIB, 2 * GIB, 10 * GIB)


@pytest.mark.parametrize(
    ("stages", "floor", "words"),
    [
        ({"reading weights": 3.0}, Floor(), "loaded in 3.0 s"),
        ({"reading weights": 6.0}, COLD, "loaded in 6.0 s; the weights alone take 5.0 s (by disk)"),
        ({"reading weights": 1.9}, WARM, "loaded in 1.9 s; the weights alone take 1.0 s (by memory)"),
        (
            {"reading weights": 9.0, "warming up": 1.0},
            COLD,
            "9.0 s of it reading weights (most of them came from the disk",
        ),
        (
            {"reading weights": 2.0, "capturing graphs": 7.0},
            WARM,
            "7.0 s of it capturing graphs (`profile: fast-start`",
        ),
        ({"starting": 9.0, "reading weights": 1.0}, WARM, "9.0 s of it starting (the engine's own start"),
    ],
)
def test_the_verdict_says_why_it_took_longer(stages, floor, words):
    assert words in Switch("m", stages=stages, floor=floor).verdict
