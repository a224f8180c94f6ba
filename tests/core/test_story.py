"""The conversation helper itself: a test aid that can't fail proves nothing."""

from __future__ import annotations

import pytest

from roundhouse.core.model import Device, Fleet, ModelSpec, Start
from tests.core.story import Story, done, grant, nothing, ready, start


def fleet() -> Fleet:
    return Fleet([ModelSpec("alpha", claim={"gpu0": 6})], [Device("gpu0", 10)])


def test_a_difference_is_shown_with_both_sides():
    story = Story(fleet())
    with pytest.raises(AssertionError, match=r"(?s)after Arrived.*- grant\(1, 1, None\).*\+ Start\(instance=1"):
        story.asks(1, "alpha") << grant(1, 1)


def test_an_unexpected_action_is_an_error_at_the_next_event():
    story = Story(fleet())
    story.asks(1, "alpha")
    with pytest.raises(AssertionError, match="nobody expected"):
        story >> ready(1)


def test_an_unexpected_action_is_an_error_at_the_end():
    story = Story(fleet())
    story.asks(1, "alpha") << start(1, "alpha")
    story >> ready(1)
    with pytest.raises(AssertionError, match="nobody expected"):
        story.__exit__(None, None, None)


def test_order_and_number_count():
    story = Story(fleet())
    with pytest.raises(AssertionError):
        story.asks(1, "alpha") << nothing
    story.asks(2, "alpha") << nothing
    with pytest.raises(AssertionError):
        story >> ready(1, slots=2) << (grant(2, 1), grant(1, 1))


def test_time_in_between_must_be_quiet():
    story = Story(Fleet([ModelSpec("alpha", ttl=5.0)], []))
    story.asks(1, "alpha") << Start(1, "alpha", {})
    story >> ready(1) << grant(1, 1)
    story >> done(1) << nothing
    with pytest.raises(AssertionError, match="at 5 s, before the 20 s"):
        story.after(20)
