"""What a waiting client is told."""

from __future__ import annotations

import pytest

from roundhouse.core.model import Asked, Device, Fleet, ModelSpec, Policy, Progress, Progressed, Surveyed, Want
from roundhouse.core.waiting import expected_load, explain
from tests.core.story import Story, done, gone, grant, nothing, ready, start, stop

SIX = {"gpu0": 6}


@pytest.fixture
def story():
    specs = [ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX, expected=40.0)]
    return Story(Fleet(specs, [Device("gpu0", 10)], Policy(max_wait=0.0)))


def told(story: Story, ticket: int):
    model = story.fleet.queued[ticket]
    return explain(story.fleet, next(t for t in story.fleet.models[model].queue if t.id == ticket), story.now)


def test_c5_expected_is_the_last_load_then_what_was_learned_then_180(story):
    states = story.fleet.models
    assert (expected_load(states["alpha"]), expected_load(states["beta"])) == (180.0, 40.0)
    story.asks(1, "beta") << start(1, "beta")
    story >> ready(1, seconds=12.5) << grant(1, 1)
    assert expected_load(states["beta"]) == 12.5


def test_b1_a_load_shows_progress_stage_and_time_left(story):
    story.asks(1, "beta") << start(1, "beta")
    assert told(story, 1).details == ("beta", "about 40s left")
    story.now = 10.0
    story >> Progressed(1, Progress(0.42, "loading weights")) << nothing
    answer = told(story, 1)
    assert (answer.model, answer.elapsed, answer.expected) == ("beta", 10.0, 40.0)
    assert answer.details == ("beta", "42%", "loading weights", "about 30s left")
    story.now = 40.0
    assert told(story, 1).details[-1] == "any moment now"
    story.now = 80.0
    assert told(story, 1).details[-1] == "slower than usual"


def test_b1_an_unknown_load_promises_no_end(story):
    story.asks(1, "alpha") << start(1, "alpha")
    assert told(story, 1).details == ("alpha",)


def test_b1_who_joins_a_load_counts_from_its_beginning(story):
    story.asks(1, "alpha") << start(1, "alpha")
    story.now = 30.0
    story.asks(2, "alpha") << nothing
    assert told(story, 2).elapsed == 30.0


def test_our_guess_does_not_overwrite_what_the_engine_says(story):
    story.asks(1, "alpha") << start(1, "alpha")
    story >> Progressed(1, Progress(0.1, guessed=True)) << nothing
    assert told(story, 1).details == ("alpha", "10%")
    story >> Progressed(1, Progress(0.5)) << nothing
    story >> Progressed(1, Progress(0.2, guessed=True)) << nothing
    assert told(story, 1).details == ("alpha", "50%")
    story >> Progressed(1, Progress(None, "warming up")) << nothing
    story >> Progressed(1, Progress(0.9, guessed=True)) << nothing
    assert told(story, 1).details == ("alpha", "90%")


def test_b1_the_place_in_the_queue_of_a_busy_model(story):
    story.asks(1, "alpha") << start(1, "alpha")
    story >> ready(1) << grant(1, 1)
    for number in (2, 3, 4):
        story.now += 1.0
        story.asks(number, "alpha") << nothing
    story.now = 10.0
    assert told(story, 2).details == ("alpha", "next in line")
    assert told(story, 3).details == ("alpha", "1 request ahead")
    assert told(story, 4).details == ("alpha", "2 requests ahead")
    assert told(story, 4).elapsed == 7.0
    story.asks(5, "alpha", priority=1) << nothing
    assert told(story, 5).details == ("alpha", "next in line")


def test_b1_what_must_happen_before_the_load(story):
    story.asks(1, "alpha") << start(1, "alpha")
    story.asks(2, "beta") << nothing
    assert told(story, 2).details == ("beta", "alpha is being loaded first")
    story.asks(3, "alpha") << nothing
    story >> ready(1, slots=2) << (grant(1, 1), grant(3, 1))
    assert told(story, 2).details == ("beta", "alpha finishes 2 answers first")
    story >> done(1) << nothing
    assert told(story, 2).details == ("beta", "alpha finishes 1 answer first")
    story >> done(3) << stop(1, "alpha", "room for beta")
    assert told(story, 2).details == ("beta", "alpha is being unloaded")
    story.now = 1.0
    story.asks(4, "alpha") << nothing
    assert told(story, 4).details == ("alpha", "alpha is being unloaded")
    story >> gone(1) << start(2, "beta")


def test_d2_others_who_hold_the_memory_are_said(story):
    story >> Surveyed((Device("gpu0", 10, 10, 8),)) << nothing
    story.asks(1, "alpha") << nothing
    assert told(story, 1).details == ("alpha", "other programs hold the memory")


def test_own_load_is_no_obstacle(story):
    story >> Asked("alpha", Want.LOAD) << start(1, "alpha")
    story.asks(1, "beta") << nothing
    assert "alpha is being loaded first" in told(story, 1).details
