"""What is noted of decisions: who left for whom and why, what was waited for, how requests fared."""

from __future__ import annotations

import json
import math

import pytest

from roundhouse.core import chronicle
from roundhouse.core.chronicle import Chronicle, Kind
from roundhouse.core.model import (
    Arrived,
    Asked,
    Device,
    Fleet,
    Found,
    ModelSpec,
    Policy,
    Progress,
    Progressed,
    Surveyed,
    Tick,
    Ticket,
    Want,
)
from roundhouse.core.planner import next_wakeup, step
from tests.core.story import crash, done, gone, ready
from tests.core.traffic import traffic

SIX = {"gpu0": 6}


class Told:
    """A box whose steps are all noted."""

    def __init__(self, *specs: ModelSpec, policy: Policy | None = None, total: int = 10) -> None:
        self.fleet = Fleet(specs, [Device("gpu0", total)], policy or Policy())
        self.chronicle, self.now, self.notes = Chronicle(), 0.0, []
        self.tickets = 0

    def happens(self, event) -> list:
        actions = step(self.fleet, event, self.now)
        fresh = self.chronicle.saw(self.fleet, event, actions, self.now)
        self.notes += fresh
        return fresh

    def asks(self, model: str, **more) -> list:
        self.tickets += 1
        return self.happens(Arrived(Ticket(self.tickets, model, self.now, request=f"r{self.tickets}", **more)))

    def passes(self, until: float) -> None:
        while (due := next_wakeup(self.fleet, self.now)) is not None and due <= until:
            self.now = max(self.now, due)
            self.happens(Tick())
        self.now = until

    def story(self, number: int) -> dict:
        return self.chronicle.requests[f"r{number}"]

    def of(self, kind: Kind) -> list:
        return [note for note in self.notes if note.kind is kind]


def loaded(*more: ModelSpec, **box) -> Told:
    told = Told(ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX), *more, **box)
    told.asks("alpha")
    told.happens(ready(1, 1, seconds=10.0))
    return told


def kinds(notes: list) -> list[Kind]:
    return [note.kind for note in notes]


def test_a_request_that_is_answered_at_once_leaves_nothing():
    told = loaded()
    told.happens(done(1))
    told.notes.clear()
    assert told.asks("alpha") == []
    assert "r2" not in told.chronicle.requests


def test_a_load_is_told_with_its_stages_and_what_was_expected():
    told = Told(ModelSpec("alpha", claim=SIX, expected=7.0))
    assert kinds(told.asks("alpha")) == [Kind.STARTS, Kind.WAITS]
    told.now = 1.0
    told.happens(Progressed(1, Progress(0.1, "reading weights")))
    told.now = 3.0
    told.happens(Progressed(1, Progress(0.9, "warming up")))
    told.now = 4.0
    told.happens(ready(1, 1, seconds=4.0))
    note = told.of(Kind.READY)[0]
    assert note.facts == {"seconds": 4.0, "expected_s": 7.0, "stages": {"reading weights": 2.0, "warming up": 1.0}}
    assert told.story(1)["granted"] == {"after_s": 4.0, "active": 1}
    assert told.story(1)["arrived"] == {"here": [{"model": "alpha", "state": "loading", "active": 0, "slots": 1}],
                                        "before": 0, "task": False}  # fmt: skip


def test_it_says_whose_turn_is_waited_for_and_until_when():
    told = loaded()
    told.now = 5.0
    note = told.asks("beta")[-1]
    assert (note.kind, note.model) == (Kind.WAITS, "beta")
    (fact,) = note.facts["for"]
    assert fact == {"what": "turn", "model": "alpha", "until_s": 60.0}
    assert told.story(2)["arrived"]["here"] == [{"model": "alpha", "state": "ready", "active": 1, "slots": 1}]


def test_who_leaves_is_told_with_the_regret_and_why_the_others_stayed():
    pinned = ModelSpec("pin", claim={"gpu0": 2}, pinned=True)
    small = ModelSpec("small", claim={"gpu0": 2})
    told = Told(ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX), pinned, small, total=10)
    for number, model in enumerate(("pin", "small", "alpha"), 1):
        told.asks(model)
        told.happens(ready(number, 1, seconds=10.0))
        told.happens(done(number))
    told.now = 500.0
    told.notes.clear()
    told.asks("beta")
    (note,) = told.of(Kind.LEAVES)
    assert note.model == "alpha"
    assert note.facts["for"] == "beta"
    assert note.facts["reload_s"] == 10.0
    assert note.facts["idle_s"] == 500.0
    others = {other["model"]: other["kept"] for other in note.facts["others"]}
    assert others == {"pin": "pinned", "small": "regret"}
    told.happens(gone(3))
    (end,) = told.of(Kind.ENDED)
    assert (end.facts["expected"], end.facts["left"]) == (True, "room for beta")


def test_the_wait_for_answers_and_the_call_back():
    told = loaded()
    told.asks("beta")
    told.passes(61.0)
    (note,) = told.of(Kind.LEAVES)
    assert (note.facts["for"], note.facts["active"]) == ("beta", 1)
    drain = told.of(Kind.WAITS)[-1].facts["for"][0]
    assert (drain["what"], drain["answers"], drain["ours"]) == ("drain", 1, True)
    assert kinds(told.happens(done(2))) == [Kind.STAYS]


def test_an_operator_a_crash_and_the_backoff():
    told = Told(ModelSpec("alpha", claim=SIX))
    assert kinds(told.happens(Asked("alpha", Want.LOAD))) == [Kind.ASKED, Kind.STARTS]
    for number in range(1, 4):
        if number > 1:
            told.asks("alpha")
        told.happens(crash(number))
    end = told.of(Kind.ENDED)[-1].facts
    assert (end["reason"], end["expected"], end["times"], end["backoff_s"]) == ("CUDA error", False, 3, 5.0)
    told.asks("alpha")
    assert "3 times in a row" in told.story(3)["refused"]["error"]


def test_a_background_task_that_went_elsewhere_says_so():
    told = loaded(ModelSpec("big", claim={"gpu0": 10}))
    told.happens(done(1))
    told.asks("big", task=True)
    told.passes(1.0)
    assert told.story(2)["granted"]["moved"] == "alpha"


def test_others_memory_is_told_with_its_holder():
    told = Told(ModelSpec("alpha", claim=SIX))
    told.happens(Surveyed((Device("gpu0", 10, 10, 9, ("firefox (pid 7)",)),)))
    told.asks("alpha")
    (fact,) = told.of(Kind.WAITS)[-1].facts["for"]
    assert fact["what"] == "memory"
    assert "firefox (pid 7)" in fact["reason"]


def test_a_found_engine_is_noted():
    told = Told(ModelSpec("alpha", claim=SIX))
    assert told.happens(Found(1, "alpha", 77, 2, ready=True))[0].facts == {"pid": 77, "ready": True}


def test_stories_that_nobody_takes_are_bounded(monkeypatch):
    monkeypatch.setattr(chronicle, "MOST_REQUESTS", 5)
    told = loaded()
    for _ in range(20):
        told.asks("beta")
    assert list(told.chronicle.requests) == [f"r{number}" for number in range(17, 22)]
    assert told.chronicle.take("r21") is not None
    assert told.chronicle.take("r21") is None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_notes_are_plain_and_every_leaving_is_noted(seed):
    """Real traffic: nothing raises, all is JSON, and exactly those who left for room were noted as leaving."""
    play = traffic(seed)
    play.seconds = 150.0
    notes, told = [], Chronicle()
    after = play.box._after

    def look(event, before, actions):
        after(event, before, actions)
        notes.extend(told.saw(play.box.fleet, event, actions, play.box.now))

    play.box._after = look
    play.play()
    json.dumps([note.facts for note in notes], allow_nan=False)
    assert all(math.isfinite(note.at) for note in notes)
    ended = [n for n in notes if n.kind is Kind.ENDED and str(n.facts["left"]).startswith("room for ")]
    left = [(n.model, n.facts["for"]) for n in notes if n.kind is Kind.LEAVES and "for" in n.facts]
    assert {(n.model, n.facts["left"].removeprefix("room for ")) for n in ended} <= set(left)
    starts = sum(n.kind is Kind.STARTS for n in notes)
    assert starts == len(play.box.starts)
