"""Rates and daily allowances (spec F2), held against a list of everything that was taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.allowance import Bucket, Daily

STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(0, 30)), max_size=60)


@given(st.integers(1, 50), st.sampled_from([1.0, 60.0, 3600.0]), STEPS)
def test_f2_in_no_stretch_of_time_is_more_taken_than_a_bucket_holds_and_what_flows_in(count, seconds, steps):
    """The oracle: for every pair of moments, what was taken between them, taken one by one only where one was there."""
    bucket, now, taken = Bucket(count, seconds, float(count), 0.0), 0.0, []
    for pause, wanted in steps:
        now += pause
        for _ in range(wanted):
            if bucket.left(now) >= 1:
                bucket.take(1, now)
                taken.append(now)
    for begin in range(len(taken)):
        for end in range(begin, len(taken)):
            assert end - begin + 1 <= count + (taken[end] - taken[begin]) * count / seconds + 1e-6


@given(st.integers(1, 50), st.sampled_from([1.0, 60.0]), st.floats(-500, 50), st.integers(1, 100))
def test_f2_after_the_wait_that_is_told_it_is_there(count, seconds, level, amount):
    bucket = Bucket(count, seconds, min(level, count), 5.0)
    wait = bucket.wait(amount, 5.0)
    assert bucket.left(5.0 + wait) >= min(amount, count) - 1e-6
    if wait > 1e-3:
        assert bucket.left(5.0 + wait * 0.9) < min(amount, count)


def test_f2_what_is_owed_is_waited_for():
    bucket = Bucket(60, 60.0, 60.0, 0.0)
    bucket.take(100, 0.0)
    assert bucket.left(0.0) == -40
    assert bucket.left(39.0) < 0
    assert bucket.left(41.0) == pytest.approx(1.0)
    assert bucket.left(1e9) == 60


def test_f2_a_clock_that_goes_back_gives_nothing():
    bucket = Bucket(10, 10.0, 10.0, 100.0)
    bucket.take(10, 100.0)
    bucket.take(0, 50.0)
    assert bucket.left(50.0) == 0
    assert bucket.left(101.0) == pytest.approx(1.0)


def test_f2_nothing_allowed_is_never_there():
    assert Bucket(0, 60.0, 0.0, 0.0).left(1e6) == 0
    assert Bucket(0, 60.0, 0.0, 0.0).wait(1, 0.0) == 60.0


def test_f2_a_days_allowance_is_whole_again_on_another_day():
    daily = Daily(100, "2026-12-01", used=30)
    assert daily.left("2026-12-01") == 70
    daily.take(90, "2026-12-01")
    assert daily.left("2026-12-01") == -20
    assert daily.left("2026-12-02") == 100
    daily.take(5, "2026-12-02")
    assert daily.left("2026-12-02") == 95
