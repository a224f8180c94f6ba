from __future__ import annotations

from roundhouse.core.model import (
    Arrived,
    Asked,
    BecameReady,
    ClosingTime,
    Departed,
    Device,
    Exited,
    Fleet,
    ModelSpec,
    Policy,
    Prefetch,
    ReadAhead,
    Start,
    Surveyed,
    Ticket,
    Want,
)
from roundhouse.core.planner import step


class Scene:
    """Models of 6 on a device of 10, so that one is loaded at a time; of `there`, nothing can be read."""

    def __init__(self, policy=ReadAhead.NEXT, models="abc", elsewhere="", total=10) -> None:
        specs = [ModelSpec(m, claim={"gpu0": 6}, slots=1, local=m not in elsewhere) for m in models]
        self.fleet = Fleet(specs, [Device("gpu0", total)], Policy(prefetch=policy))
        self.now = 1000.0
        self.tickets = 0

    def happens(self, *events) -> list:
        """The prefetches that follow."""
        self.now += 1.0
        self.actions = [action for event in events for action in step(self.fleet, event, self.now)]
        return [action for action in self.actions if isinstance(action, Prefetch)]

    def arrives(self, model, *, task=False) -> list:
        self.tickets += 1
        return self.happens(Arrived(Ticket(self.tickets, model, self.now, task=task)))

    def instance(self, model):
        return self.fleet.models[model].instance.id

    def ready(self, model) -> list:
        return self.happens(BecameReady(self.instance(model), None, 1.0))

    def gone(self, model) -> list:
        return self.happens(Exited(self.instance(model), "", expected=True))

    def turn(self, model) -> list:
        """The model is asked for, loaded, answers, and lies idle: whoever was loaded leaves for it."""
        told = self.arrives(model)
        ticket = self.tickets
        for other in [m for m in self.fleet.models if m != model and self.fleet.models[m].instance is not None]:
            told += self.gone(other)
        told += self.ready(model)
        return told + self.happens(Departed(ticket))


def test_d12_who_comes_next_is_read_while_the_other_one_drains():
    scene = Scene()
    assert scene.arrives("a") == []
    scene.ready("a")
    assert scene.arrives("b") == [Prefetch("b", wanted=True)]


def test_d12_it_is_said_once():
    scene = Scene()
    scene.arrives("a")
    scene.ready("a")
    scene.arrives("b")
    assert scene.arrives("b") == []
    assert scene.happens(Departed(1)) == []
    assert scene.gone("a") == []
    assert [type(action) for action in scene.actions] == [Start]


def test_d12_it_is_said_while_another_one_loads():
    scene = Scene(total=20)
    scene.arrives("a")
    assert scene.arrives("b") == [Prefetch("b", wanted=True)]


def test_d12_who_comes_after_that_is_read_once_an_engine_starts():
    scene = Scene()
    scene.arrives("a")
    scene.ready("a")
    scene.arrives("b")
    assert scene.arrives("c") == []
    scene.happens(Departed(1))
    assert scene.gone("a") == [Prefetch("c", wanted=True)]


def test_d12_what_an_engine_reads_may_push_it_out_so_it_is_said_anew_after_a_start():
    scene = Scene()
    scene.fleet.devices["gpu1"] = Device("gpu1", 10)
    scene.fleet.models["c"] = Fleet([ModelSpec("c", claim={"gpu1": 6}, slots=1, local=True)]).models["c"]
    scene.arrives("a")
    scene.ready("a")
    scene.arrives("b")
    assert scene.arrives("c") == [Prefetch("b", wanted=True)]
    assert [type(action) for action in scene.actions] == [Start, Prefetch]


def test_d12_it_is_said_anew_when_somebody_waits_again():
    scene = Scene()
    scene.arrives("a")
    scene.ready("a")
    scene.arrives("b")
    scene.happens(Departed(2))
    assert scene.arrives("b") == [Prefetch("b", wanted=True)]


def test_d12_an_operators_wish_counts_as_waiting():
    scene = Scene()
    scene.arrives("a")
    scene.ready("a")
    assert scene.happens(Asked("b", Want.LOAD)) == [Prefetch("b", wanted=True)]


def test_d12_a_model_without_files_here_lets_the_next_one_be_read():
    scene = Scene(elsewhere="b")
    scene.arrives("a")
    scene.ready("a")
    assert scene.arrives("b") == []
    assert scene.arrives("c") == [Prefetch("c", wanted=True)]


def test_d12_nobody_is_read_for_a_task_that_makes_nobody_leave():
    scene = Scene()
    scene.arrives("a")
    scene.ready("a")
    assert scene.arrives("b", task=True) == []


def test_d12_who_can_not_start_for_others_memory_is_not_read():
    scene = Scene()
    scene.happens(Surveyed((Device("gpu0", 10, 10, 8, ("firefox",)),)))
    assert scene.arrives("b") == []


def test_d12_off_reads_nothing():
    scene = Scene(ReadAhead.OFF)
    assert [told for _ in range(5) for model in "abc" for told in scene.turn(model)] == []


def learned(policy=ReadAhead.LEARNED, times=3) -> list:
    """Whom the end of the last turn of `a` has read ahead, after `b` came after `a` so often."""
    scene = Scene(policy)
    for _ in range(times):
        scene.turn("a")
        scene.turn("b")
    return [told for told in scene.turn("a") if not told.wanted]


def test_d12_who_usually_follows_is_read_when_the_box_is_idle():
    assert learned() == [Prefetch("b", wanted=False)]


def test_d12_twice_is_no_habit():
    assert learned(times=2) == []


def test_d12_guesses_are_asked_for():
    assert learned(ReadAhead.NEXT, times=9) == []


def test_d12_no_guess_is_made_while_somebody_waits_or_an_engine_loads():
    scene = Scene(ReadAhead.LEARNED)
    for _ in range(3):
        scene.turn("a")
        scene.turn("b")
    scene.arrives("a")
    assert scene.gone("b") == []  # a loads
    assert scene.arrives("a") == []
    assert scene.ready("a") == []  # one of two is answered
    assert scene.happens(Departed(7)) == [Prefetch("b", wanted=False)]


def test_d12_a_guess_that_comes_true_is_said_again_as_no_guess():
    scene = Scene(ReadAhead.LEARNED)
    for _ in range(3):
        scene.turn("a")
        scene.turn("b")
    scene.turn("a")
    assert scene.arrives("b") == [Prefetch("b", wanted=True)]


def test_d12_an_old_habit_is_forgotten():
    scene = Scene(ReadAhead.LEARNED)
    for _ in range(5):
        scene.turn("a")
        scene.turn("b")
    for _ in range(10):
        scene.turn("a")
        scene.turn("c")
    assert [told for told in scene.turn("a") if not told.wanted] == [Prefetch("c", wanted=False)]


def test_d12_at_the_end_nothing_is_read():
    scene = Scene()
    scene.arrives("a")
    scene.ready("a")
    assert scene.happens(ClosingTime(), Asked("b", Want.LOAD)) == []
