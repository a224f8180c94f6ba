"""Whatever the planner is told and decides survives being written down, and then gives the same decisions."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from roundhouse.core import model
from roundhouse.core.codec import (
    UnreadableJournal,
    decision,
    decode,
    decode_fleet,
    encode,
    encode_fleet,
    encode_step,
)
from roundhouse.core.model import Arrived, ClosingTime, Device, Fleet, ModelSpec, Policy, Refuse, Ticket
from roundhouse.core.planner import step
from roundhouse.errors import QueueTimeout
from tests.core.test_box_simulation import BoxMachine, boxes
from tests.core.traffic import traffic


def again(plain):
    return json.loads(json.dumps(plain))


class Recorder:
    """Keeps what a box is told from now on, as a journal would."""

    def __init__(self, box, veil=lambda name: f"<{name}>" if name else "") -> None:
        self.veil = veil
        self.first = again(encode_fleet(box.fleet, veil))
        self.steps = []
        take = box.step

        def look(event):
            actions = take(event)
            self.steps.append(again(encode_step(box.now, event, actions, veil)))
            return actions

        box.step = look
        self.box = box

    def check(self) -> None:
        fleet = decode_fleet(self.first)
        for now, event, recorded in self.steps:
            actions = step(fleet, decode(event), now)
            assert again([decision(action) for action in actions]) == recorded
        assert again(encode_fleet(fleet)) == again(encode_fleet(self.box.fleet, self.veil))


class RecordedBox(BoxMachine):
    """The machine of the box simulation: all that it does is recorded, and played again at its end."""

    @initialize(box=boxes(), found=st.lists(st.booleans(), max_size=3))
    def opens(self, box, found):
        self.recorder = Recorder(box)
        super().opens(box, found)

    def teardown(self):
        super().teardown()
        if hasattr(self, "recorder"):
            self.recorder.check()


RecordedBox.TestCase.settings = settings(BoxMachine.TestCase.settings, max_examples=30, stateful_step_count=40)
TestRecordedBox = RecordedBox.TestCase


@pytest.mark.parametrize("seed", range(40))
def test_recorded_traffic_gives_the_same_decisions_again(seed):
    play = traffic(seed)
    play.seconds = 200.0
    recorder = Recorder(play.box)
    play.play()
    assert recorder.steps
    recorder.check()


def test_names_of_people_are_not_in_it():
    fleet = Fleet([ModelSpec("alpha", claim={"gpu0": 6})], [Device("gpu0", 10)])
    said = []
    for number in range(3):
        event = Arrived(Ticket(number, "alpha", 1.0 + number, "team", user="ann", session="chat-7", request="ann-1"))
        said.append(
            encode_step(1.0 + number, event, step(fleet, event, 1.0 + number), lambda name: "#" if name else "")
        )
    text = json.dumps([said, encode_fleet(fleet, lambda name: "#" if name else "")])
    assert "team" in text
    assert not {"ann", "chat-7", "ann-1"} & set(json.loads(json.dumps(text.replace('"', " ").split())))
    assert "ann" not in text
    assert "chat-7" not in text


def test_infinite_times_and_odd_texts_go_over():
    policy = Policy(max_wait=math.inf, linger=-0.0)
    assert decode(again(encode(policy))) == policy
    ticket = Ticket(2**70, "a\ud800b", 0.1 + 0.2, allowed=frozenset({"b", "a"}))
    assert decode(again(encode(ticket))) == ticket


def test_an_error_is_told_by_what_it_says():
    ticket = Ticket(3, "alpha", 1.0)
    assert decision(Refuse(ticket, QueueTimeout("too long", retry_after=2.0))) == [
        "Refuse", 3, "QueueTimeout", "too long", 2.0,
    ]  # fmt: skip


def test_every_event_and_action_has_a_form():
    kinds = {*model.Event.__args__, model.Start, model.Stop, model.Prefetch}
    from roundhouse.core.codec import _RECORDS

    assert {kind.__name__ for kind in kinds} <= _RECORDS.keys()
    assert decode(again(encode(ClosingTime()))) == ClosingTime()


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"a": 1},
        ["Popen", "rm"],
        ["Tick", 1],
        ["Arrived"],
        ["@", "Phase", "nonsense"],
        ["@", "Nothing", 1],
        ["@"],
        ["m", 1],
        ["m", ["m"], 1],
        ["{", ["m"]],
        [["("], 1],
        ["Arrived", ["Ticket", 1]],
    ],
)
def test_what_is_none_of_ours_is_refused(bad):
    with pytest.raises(UnreadableJournal):
        decode(bad)


def test_a_picture_that_is_none_of_ours_is_refused():
    for bad in ([], {}, {"devices": {}}):
        with pytest.raises(UnreadableJournal):
            decode_fleet(bad)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(st.sampled_from(["(", "m", "@", "{", "Ticket", "Tick", "Habits"]) | inner),
    )
)
def test_decoding_anything_gives_a_value_or_says_that_it_can_not(plain):
    with suppress(UnreadableJournal):
        decode(plain)
