"""When a turn is likely to come, and when to try again (spec D5)."""

from __future__ import annotations

from roundhouse.core.forecast import InTheWay, ahead_of, in_the_way, retry_after
from roundhouse.core.model import Device, Fleet, ModelSpec, Policy
from tests.core.story import Story, done, grant, nothing, ready, start

SIX = {"gpu0": 6}


def loaded(slots: int = 1) -> Story:
    """alpha is loaded in 10 s and busy with ticket 1; of beta and gamma none fits beside it."""
    specs = [ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX, expected=40.0), ModelSpec("gamma", claim=SIX)]
    story = Story(Fleet(specs, [Device("gpu0", 10)], Policy()))
    story.asks(1, "alpha") << start(1, "alpha")
    return story >> ready(1, slots, seconds=10.0) << grant(1, 1)


def again(story: Story, model: str) -> float:
    return retry_after(story.fleet, story.fleet.models[model], story.now)


def way(story: Story, model: str) -> InTheWay | None:
    return in_the_way(story.fleet, story.fleet.models[model], story.now)


def test_d5_a_loaded_model_is_free_again_when_those_before_have_been_answered():
    story = loaded(slots=2)
    story.asks(2, "alpha") << grant(2, 1)
    story.now = 8.0
    story >> done(1) << nothing  # answers take 8 s
    story.asks(3, "alpha") << grant(3, 1)
    for number in range(4, 8):
        story.asks(number, "alpha") << nothing
    assert again(story, "alpha") == (4 + 2) // 2 * 8.0


def test_d5_a_model_that_is_being_loaded_is_ready_when_its_load_is_over():
    story = Story(Fleet([ModelSpec("alpha", claim=SIX, expected=40.0)], [Device("gpu0", 10)]))
    story.asks(1, "alpha") << start(1, "alpha")
    story.now = 15.0
    assert again(story, "alpha") == 25.0 + 5.0
    story.now = 100.0
    assert again(story, "alpha") == 5.0


def test_d5_a_model_that_is_waited_for_needs_its_turn_and_its_load():
    story = loaded()
    story.asks(2, "beta") << nothing
    assert way(story, "beta") == InTheWay("alpha", busy=True, seconds=200.0)
    assert again(story, "beta") == 200.0 + 40.0 + 5.0
    story.now = 150.0
    assert again(story, "beta") == 50.0 + 40.0 + 5.0


def test_d5_nobody_is_sent_away_for_longer_than_ten_minutes_nor_for_less_than_a_second():
    story = loaded()
    for number in range(2, 200):
        story.asks(number, "alpha") << nothing if number < 60 else story.asks(
            number, "alpha", key=f"k{number}"
        ) << nothing
    assert again(story, "alpha") == 600.0
    story = loaded(slots=4)
    story >> done(1) << nothing
    assert again(story, "alpha") == 1.0


def test_d4_nobody_is_in_the_way_where_there_is_room_or_somebody_leaves_already():
    story = loaded()
    assert way(story, "beta") is None
    story.asks(2, "beta") << nothing
    story.after(200.0) << nothing
    assert way(story, "beta") is None  # it drains


def test_d4_of_several_who_must_leave_the_longest_stay_counts():
    specs = [ModelSpec("a", claim={"gpu0": 4}), ModelSpec("b", claim={"gpu0": 4}), ModelSpec("c", claim={"gpu0": 9})]
    story = Story(Fleet(specs, [Device("gpu0", 10)], Policy()))
    story.asks(1, "a") << start(1, "a", gpu0=4)
    story >> ready(1, 1, seconds=1.0) << grant(1, 1)
    story.asks(2, "b") << start(2, "b", gpu0=4)
    story.now = 50.0
    story >> ready(2, 1, seconds=50.0) << grant(2, 2)
    story.asks(3, "c") << nothing
    assert way(story, "c") == InTheWay("b", busy=True, seconds=100.0)


def test_d4_requests_for_models_whose_turn_comes_first_are_ahead():
    story = loaded()
    story.asks(2, "beta") << nothing
    story.asks(3, "beta") << nothing
    story.now = 1.0
    story.asks(4, "gamma") << nothing
    assert ahead_of(story.fleet, story.fleet.models["gamma"], story.now) == 2
    assert ahead_of(story.fleet, story.fleet.models["beta"], story.now) == 0
