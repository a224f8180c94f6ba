"""What is known of how a model is used."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.habits import (
    ANSWER_WEIGHT,
    LEAST_GAPS,
    MOST_GAPS,
    MOST_IDLE,
    MOST_SESSIONS,
    RATE_MEMORY,
    SHORT_IDLE,
    Habits,
    Session,
)


def played(*gaps: float, answer: float = 2.0, name: tuple = ("s",)) -> tuple[Habits, float]:
    """One session: answers with these think times in between."""
    habits, now = Habits(), 100.0
    for gap in (*gaps, 0.0):
        habits.arrived(name, now, busy=False)
        now += answer
        habits.departed(name, now, answer)
        now += gap
    return habits, now


def test_d4_a_think_time_runs_from_the_end_of_an_answer_to_the_sessions_next_request():
    habits, _ = played(3.0, 4.0, 5.0)
    session = habits.sessions["s",]
    assert [round(gap, 6) for gap in session.gaps] == [3.0, 4.0, 5.0]
    assert session.ended == 100.0 + 4 * 2.0 + 12.0


def test_d4_sessions_of_one_model_are_told_apart():
    habits = Habits()
    for name, at in ((("a",), 0.0), (("b",), 1.0)):
        habits.arrived(name, at, busy=at > 0)
    habits.departed(("a",), 5.0, 5.0)
    habits.arrived(("b",), 6.0, busy=True)
    assert habits.sessions["a",].gaps == ()
    assert ("b",) not in habits.sessions
    habits.arrived(("a",), 7.5, busy=True)
    assert habits.sessions["a",].gaps == (2.5,)
    assert habits.sessions["a",].ended is None


def test_d4_too_few_think_times_tell_nothing():
    assert Session(0.0, (1.0,) * (LEAST_GAPS - 1)).think_time() is None
    assert Session(0.0, (1.0,) * LEAST_GAPS).think_time() == 1.0


@given(st.lists(st.floats(0.1, 1e4), min_size=LEAST_GAPS, max_size=MOST_GAPS))
def test_d4_the_think_time_expected_is_not_exceeded_by_four_of_five(gaps):
    think = Session(0.0, tuple(gaps)).think_time()
    assert sum(gap <= think for gap in gaps) >= 0.8 * len(gaps)
    assert think in gaps


def test_only_the_last_think_times_and_sessions_are_kept():
    habits, now = played(*range(MOST_GAPS + 5))
    assert [round(gap) for gap in habits.sessions["s",].gaps] == list(range(5, MOST_GAPS + 5))
    for number in range(MOST_SESSIONS):
        habits.arrived((f"other {number}",), now, busy=False)
        habits.departed((f"other {number}",), now + 1, 1.0)
    assert len(habits.sessions) == MOST_SESSIONS
    assert ("s",) not in habits.sessions


def test_who_was_heard_of_last_is_kept_longest():
    habits = Habits()
    for name in (("old",), ("new",), ("old",)):
        habits.arrived(name, 1.0, busy=False)
        habits.departed(name, 2.0, 1.0)
    assert list(habits.sessions) == [("new",), ("old",)]


def test_d9_a_request_counts_less_and_less():
    habits = Habits()
    habits.arrived(("",), 0.0, busy=False)
    assert habits.rate(0.0) == 1.0
    assert math.isclose(habits.rate(RATE_MEMORY), math.exp(-1))
    habits.arrived(("",), RATE_MEMORY, busy=False)
    assert math.isclose(habits.rate(RATE_MEMORY), 1.0 + math.exp(-1))


def test_the_usual_answer_is_a_running_mean_that_begins_with_the_first():
    habits, _ = played(answer=8.0)
    assert habits.answer == 8.0
    habits.departed(("s",), 500.0, 18.0)
    assert math.isclose(habits.answer, 8.0 + ANSWER_WEIGHT * 10.0)


def test_d8_idle_times_are_noted_when_nobody_was_there_and_it_was_long():
    habits, now = played(SHORT_IDLE - 1)
    assert habits.idle == ()
    habits, now = played(SHORT_IDLE + 1)
    assert [round(gap) for gap in habits.idle] == [SHORT_IDLE + 1]
    habits.arrived(("s",), now + 1000.0, busy=True)
    assert len(habits.idle) == 1
    habits, _ = played(*[400.0 + n for n in range(MOST_IDLE + 3)])
    assert [round(gap) for gap in habits.idle] == [403 + n for n in range(MOST_IDLE)]


def test_a_copy_is_not_changed_by_later_requests():
    habits, now = played(1.0, 2.0)
    before, same = habits.copy(), habits.copy()
    habits.arrived(("s",), now, busy=False)
    habits.departed(("s",), now + 1, 1.0)
    assert before == same != habits
