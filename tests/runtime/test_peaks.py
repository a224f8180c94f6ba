"""What is learned from what engines hold (spec D1)."""

from __future__ import annotations

import pytest

from roundhouse.core.margins import next_claim, run_at
from roundhouse.core.model import (
    Arrived,
    Asked,
    BecameReady,
    Departed,
    Device,
    Exited,
    Fleet,
    Found,
    Measured,
    ModelSpec,
    Start,
    Ticket,
    Want,
)
from roundhouse.core.planner import step
from roundhouse.runtime.peaks import PLAUSIBLE, Peaks

GIB = 1 << 30
MIB = 1 << 20
CLAIM = {"gpu0": 8 * GIB, "port:1": 1}


class Box:
    """A GPU and a model that thinks it needs 8 GiB of it."""

    def __init__(self, past=None, claim=CLAIM, **spec) -> None:
        devices = [Device("gpu0", 24 * GIB), Device("gpu1", 24 * GIB), Device("port:1", 1)]
        self.fleet = Fleet([ModelSpec("m", "s", claim=claim, **spec)], devices)
        self.peaks = Peaks(self.fleet, past or {})
        self.now = 0.0

    def do(self, event):
        self.now += 1.0
        return step(self.fleet, event, self.now)

    def load(self) -> int:
        """A client makes it load; it has not answered yet."""
        [start] = [action for action in self.do(Arrived(Ticket(1, "m", self.now))) if isinstance(action, Start)]
        return start.instance

    def answer(self, instance: int) -> None:
        self.do(BecameReady(instance, 1, 1.0))
        self.do(Departed(1))

    def note(self, instance: int, **sizes: int) -> Measured | None:
        event = self.peaks.note(instance, sizes)
        if event is not None:
            self.do(event)
        return event

    def end(self, instance: int) -> None:
        self.do(Exited(instance, "stopped", expected=True))
        self.peaks.forget()

    @property
    def next(self) -> int:
        return self.fleet.models["m"].claim["gpu0"]


def test_d1_a_load_that_answered_lowers_the_next_claim_but_keeps_its_own():
    box = Box()
    one = box.load()
    assert box.note(one, gpu0=3 * GIB) is None
    box.answer(one)
    event = box.note(one, gpu0=4 * GIB)
    learned = next_claim([4 * GIB])
    assert event == Measured(one, {"gpu0": 8 * GIB}, {"gpu0": learned}, {"gpu0": 4 * GIB})
    instance = box.fleet.models["m"].instance
    assert instance is not None
    assert (instance.claim, box.next) == (CLAIM, learned)


def test_d1_a_model_that_is_ready_but_was_never_asked_teaches_nothing():
    box = Box()
    one = box.load()
    box.do(Departed(1))
    box.do(BecameReady(one, 1, 1.0))
    assert box.note(one, gpu0=4 * GIB) is None
    box.end(one)
    assert box.next == 8 * GIB


def test_d1_more_than_was_promised_counts_at_once_and_is_kept():
    box = Box()
    one = box.load()
    event = box.note(one, gpu0=9 * GIB)
    assert event == Measured(one, {"gpu0": 9 * GIB}, {"gpu0": 9 * GIB}, {"gpu0": 9 * GIB})
    box.answer(one)
    event = box.note(one, gpu0=7 * GIB)
    assert event == Measured(one, {"gpu0": 9 * GIB}, {"gpu0": next_claim([9 * GIB])}, {"gpu0": 9 * GIB})


def test_d1_what_it_grows_by_is_told_once_it_is_worth_it():
    box = Box()
    one = box.load()
    box.answer(one)
    assert box.note(one, gpu0=4 * GIB)
    assert box.note(one, gpu0=4 * GIB) is None
    assert box.note(one, gpu0=3 * GIB) is None
    assert box.note(one, gpu0=4 * GIB + 5) is None
    event = box.note(one, gpu0=5 * GIB)
    assert event is not None
    assert event.peak == {"gpu0": 5 * GIB}
    assert box.peaks.of(one) == {"gpu0": 5 * GIB}


def test_d1_more_than_was_thought_has_a_margin_too_however_small():
    box = Box(claim={"gpu0": 50 * MIB})
    one = box.load()
    box.answer(one)
    event = box.note(one, gpu0=60 * MIB)
    assert event == Measured(one, {"gpu0": 60 * MIB}, {"gpu0": next_claim([60 * MIB])}, {"gpu0": 60 * MIB})


def test_d1_what_it_grows_by_while_it_leaves_counts_too():
    box = Box()
    one = box.load()
    box.answer(one)
    box.note(one, gpu0=4 * GIB)
    box.do(Asked("m", Want.UNLOAD))
    box.note(one, gpu0=5 * GIB)
    assert box.next == next_claim([5 * GIB])


def test_d1_earlier_loads_count_in_this_run_and_in_those_before():
    box = Box(past={("m", run_at("s", CLAIM)): {"gpu0": [5 * GIB, 5 * GIB]}, ("m", "other"): {"gpu0": [20 * GIB]}})
    one = box.load()
    box.answer(one)
    box.note(one, gpu0=4 * GIB)
    assert box.next == next_claim([4 * GIB, 5 * GIB, 5 * GIB])
    box.end(one)
    two = box.load()
    box.answer(two)
    box.note(two, gpu0=2 * GIB)
    assert box.next == next_claim([2 * GIB, 4 * GIB, 5 * GIB, 5 * GIB])


def test_d1_a_claim_that_was_learned_too_high_comes_down_again():
    box = Box(past={("m", run_at("s", CLAIM)): {"gpu0": [12 * GIB] * 8}})
    for load in range(8):
        one = box.load()
        box.answer(one)
        box.note(one, gpu0=6 * GIB)
        assert (box.next > 12 * GIB) is (load < 7)
        box.end(one)
    assert box.next == next_claim([6 * GIB] * 8)


def test_d1_a_load_that_failed_early_is_no_measure():
    box = Box()
    one = box.load()
    box.note(one, gpu0=GIB)
    box.do(Exited(one, "it ended", expected=False))
    box.peaks.forget()
    assert box.peaks.of(one) == {}
    two = box.load()
    box.answer(two)
    box.note(two, gpu0=4 * GIB)
    assert box.next == next_claim([4 * GIB])


@pytest.mark.parametrize("size", [0, PLAUSIBLE - 1])
def test_d1_the_memory_of_a_containers_client_lowers_nothing(size):
    box = Box()
    one = box.load()
    box.answer(one)
    assert box.note(one, gpu0=size) is None
    assert box.next == 8 * GIB


def test_d1_each_device_has_its_own_figure():
    box = Box(claim={"gpu0": 8 * GIB, "gpu1": 8 * GIB})
    one = box.load()
    box.answer(one)
    event = box.note(one, gpu0=4 * GIB, gpu1=2 * GIB, ram=9 * GIB)
    assert event is not None
    assert event.learned == {"gpu0": next_claim([4 * GIB]), "gpu1": next_claim([2 * GIB])}


def test_d1_one_that_was_taken_over_learns_too():
    box = Box()
    box.do(Found(7, "m", None, 1, ready=True))
    assert box.note(7, gpu0=4 * GIB) is None
    box.do(Arrived(Ticket(1, "m", box.now)))
    assert box.note(7, gpu0=4 * GIB)
    assert box.peaks.note(99, {"gpu0": GIB}) is None


def test_d1_an_engine_that_is_told_to_take_a_share_is_never_promised_less():
    box = Box(claim={"gpu0": 24 * GIB}, told={"gpu0": 24 * GIB})
    one = box.load()
    box.answer(one)
    event = box.note(one, gpu0=4 * GIB)
    assert event is not None
    assert (event.learned, event.peak) == ({"gpu0": 24 * GIB}, {"gpu0": 4 * GIB})
    assert box.next == 24 * GIB


def test_d1_figures_are_remembered_with_the_place_where_they_were_measured():
    """What it held on one of two GPUs that it was divided over says nothing of it on one alone."""
    divided = run_at("s", {"gpu0": 1, "gpu1": 1})
    box = Box(past={("m", run_at("s", CLAIM)): {"gpu0": [6 * GIB]}, ("m", divided): {"gpu0": [3 * GIB] * 8}})
    one = box.load()
    box.answer(one)
    box.note(one, gpu0=4 * GIB)
    assert box.next == next_claim([4 * GIB, 6 * GIB])
    box.end(one)
    two = box.load()
    box.answer(two)
    box.note(two, gpu0=4 * GIB)
    assert box.next == next_claim([4 * GIB, 4 * GIB, 6 * GIB])
