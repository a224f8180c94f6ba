from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.simulate.trace import Entry, Replay, TraceError, read, write
from roundhouse.simulate.world import play
from tests.simulate.play import setup

BOX = {"devices": {"gpu0": 10}, "models": {"a": {"load": 5, "claim": {"gpu0": 8}}}}


def lines(*entries):
    return [json.dumps(entry) for entry in entries]


def test_a_trace_is_read_in_the_order_of_arrival():
    trace = read(
        lines(
            {"at": 7, "model": "b", "seconds": 2},
            {"at": 3.5, "model": "a", "seconds": 1.25, "key": "anna", "task": True},
        )
    )
    assert trace.entries == (
        Entry(at=3.5, model="a", seconds=1.25, key="anna", task=True),
        Entry(at=7.0, model="b", seconds=2.0),
    )
    assert trace.box is None


def test_the_first_line_may_describe_the_box():
    trace = read(lines({"box": BOX}, {"at": 0, "model": "a", "seconds": 1}))
    assert trace.box.devices == {"gpu0": 10}
    assert len(trace.entries) == 1


def test_blank_lines_are_nothing():
    assert len(read(["", *lines({"at": 0, "model": "a", "seconds": 1}), "  \n"]).entries) == 1


def test_without_a_time_a_request_comes_after_the_one_before_in_its_session():
    session = {"model": "a", "seconds": 2, "session": "s"}
    trace = read(lines({**session, "at": 10, "waited": 5}, {**session, "after": 3}, {**session, "after": 0.5}))
    assert [entry.at for entry in trace.entries] == [10.0, 20.0, 22.5]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "example"),
        ("[1]", "example"),
        ('"text"', "example"),
        ('{"at": 1, "seconds": 1}', "model"),
        ('{"at": 1, "model": "", "seconds": 1}', "model"),
        ('{"at": 1, "model": "a"}', "seconds"),
        ('{"at": 1, "model": "a", "seconds": -1}', "seconds"),
        ('{"at": 1, "model": "a", "seconds": "1"}', "seconds"),
        ('{"at": 1, "model": "a", "seconds": NaN}', "seconds"),
        ('{"at": null, "model": "a", "seconds": 1}', "at"),
        ('{"at": 1, "model": "a", "seconds": 1, "task": 1}', "task"),
        ('{"at": 1, "model": "a", "seconds": 1, "priority": 1.5}', "priority"),
        ('{"at": 1, "model": "a", "seconds": 1, "sesion": "x"}', "sesion"),
        ('{"at": 1, "model": "a", "seconds": 1, "after": 1}', "session"),
        ('{"model": "a", "seconds": 1}', "`at`"),
        ('{"model": "a", "seconds": 1, "session": "new", "after": 2}', "session"),
        ('{"box": {}}', "model"),
    ],
)
def test_a_wrong_line_is_named(line, words):
    good = lines({"at": 0, "model": "a", "seconds": 1, "session": "s"})
    with pytest.raises(TraceError) as caught:
        read([*good, "", line, "{nonsense"])
    assert str(caught.value).startswith("line 3: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "box",
    [
        {},
        {"devices": {}},
        {**BOX, "other": 1},
        {"devices": {}, "models": BOX["models"]},
        {"devices": {"gpu0": -1}, "models": {}},
    ],
)
def test_a_wrong_box_is_on_line_1(box):
    with pytest.raises(TraceError, match=r"^line 1: "):
        read(lines({"box": box}, {"at": 0, "model": "a", "seconds": 1}))


def test_an_empty_trace_says_what_a_line_looks_like():
    with pytest.raises(TraceError, match='"seconds": 5'):
        read([])


def test_what_is_written_is_read_again():
    entries = (
        Entry(at=1.5, model="a", seconds=2.25),
        Entry(at=2.0, model="b", seconds=1.0, session="s", after=3.0, priority=-1),
    )
    written = list(write(entries, BOX))
    assert json.loads(written[1]) == {"at": 1.5, "model": "a", "seconds": 2.25}
    trace = read(written)
    assert trace.entries == entries
    assert trace.box.models["a"].load == 5


@given(
    st.lists(
        st.builds(
            Entry,
            at=st.floats(0, 1e6).map(lambda at: round(at, 3)),
            model=st.text(min_size=1),
            seconds=st.floats(0, 1e4).map(lambda s: round(s, 3)),
            key=st.text(),
            session=st.text(),
            task=st.booleans(),
            priority=st.integers(-5, 5),
        ),
        min_size=1,
    )
)
def test_any_requests_can_be_written_and_read(entries):
    assert list(read(write(entries)).entries) == sorted(entries, key=lambda entry: entry.at)


def test_a_replay_begins_at_its_first_request():
    replay = Replay([Entry(at=1000.0, model="a", seconds=1.0), Entry(at=1007.0, model="a", seconds=1.0)])
    assert [request.at for request in replay.first()] == [0.0, 7.0]


def recorded(**more):
    """A session that waited 100 s for its first answer, thought 5 s, and asked again."""
    return [
        Entry(at=0.0, model="a", seconds=10.0, waited=100.0, session="s", **more),
        Entry(at=115.0, model="a", seconds=10.0, session="s", **more),
    ]


def test_a_session_keeps_its_pause_when_it_is_answered_earlier():
    outcome = play(setup({"a": 20.0}), Replay(recorded()))
    assert [fate.request.at for fate in outcome.fates] == [0.0, 35.0]


def test_an_open_loop_keeps_the_times():
    outcome = play(setup({"a": 20.0}), Replay(recorded(), closed=False))
    assert [fate.request.at for fate in outcome.fates] == [0.0, 115.0]


def test_sessions_of_others_and_requests_without_one_are_not_waited_for():
    entries = [
        *recorded(),
        Entry(at=115.0, model="a", seconds=1.0, session="t"),
        Entry(at=116.0, model="a", seconds=1.0),
    ]
    assert [request.mark for request in Replay(entries).first()] == [0, 2, 3]


def test_a_request_follows_the_last_that_had_ended_when_it_came():
    """Three after one answer (title, tags, next question), and one that came while two were under way."""
    first = Entry(at=0.0, model="a", seconds=10.0, session="s")
    title = Entry(at=10.2, model="a", seconds=30.0, session="s")
    tags = Entry(at=10.3, model="a", seconds=2.0, session="s")
    question = Entry(at=15.0, model="a", seconds=1.0, session="s")
    replay = Replay([first, title, tags, question])
    begin, *_ = replay.first()
    assert [(r.mark, r.at) for r in replay.follow(begin, 50.0)] == [(1, 50.2), (2, 50.3)]
    assert [(r.mark, r.at) for r in replay.follow(replay._requests[2], 60.0)] == [(3, pytest.approx(62.7))]
    assert list(replay.follow(replay._requests[1], 60.0)) == []


def test_a_request_that_came_a_rounding_before_the_end_follows_it():
    entries = [
        Entry(at=0.0, model="a", seconds=10.0, session="s"),
        Entry(at=9.999, model="a", seconds=1.0, session="s"),
    ]
    replay = Replay(entries)
    assert [(r.mark, r.at) for r in replay.follow(next(iter(replay.first())), 20.0)] == [(1, 20.0)]


def test_what_the_trace_says_goes_before_what_was_recorded():
    entries = [
        Entry(at=0.0, model="a", seconds=10.0, session="s"),
        Entry(at=90.0, model="a", seconds=1.0, session="s", after=2.0),
    ]
    replay = Replay(entries)
    assert [r.at for r in replay.follow(next(iter(replay.first())), 20.0)] == [22.0]
