"""Another configuration while engines run (spec E4), as stories; random ones are in `test_box_simulation`."""

from __future__ import annotations

from dataclasses import replace

from roundhouse.core.model import Asked, Device, Measured, ModelSpec, Policy, Reloaded, Start, Stop, Want
from roundhouse.core.reload import CHANGED, REMOVED, YIELDED
from roundhouse.errors import LoadFailed, UnknownModel
from tests.core.story import crash, done, gone, grant, nothing, ready, refuse, start, stop
from tests.core.test_planner import SIX, Story, box, loaded

POLICY = Policy(max_wait=0.0, task_hold=0.0)
ALPHA, BETA = ModelSpec("alpha", "v1", claim=SIX), ModelSpec("beta", claim=SIX)
CHANGED_ALPHA = replace(ALPHA, settings="v2")


def reload(*specs: ModelSpec, policy: Policy = POLICY, **devices: int) -> Reloaded:
    return Reloaded(specs, tuple(Device(name, size) for name, size in (devices or {"gpu0": 10}).items()), policy)


def alpha_answers(story: Story) -> None:
    """alpha is instance 1, with two slots, and answers request 1."""
    loaded(story, slots=2)
    story.asks(1, "alpha") << grant(1, 1)


def test_e4_what_did_not_change_keeps_running():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story >> reload(ALPHA, replace(BETA, settings="other")) << nothing
        story >> reload(replace(ALPHA, priority=3, ttl=5.0), BETA) << nothing
        story >> done(1) << nothing
        story.after(5) << stop(1, "alpha", "idle")


def test_e4_changed_settings_restart_after_the_running_answers():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story >> reload(CHANGED_ALPHA, BETA) << nothing
        story.asks(2, "alpha") << nothing
        story >> done(1) << stop(1, "alpha", CHANGED)
        story >> gone(1) << start(2, "alpha")
        story >> ready(2) << grant(2, 2)
        story >> done(2) << nothing
        story >> reload(CHANGED_ALPHA, BETA) << nothing


def test_e4_an_idle_model_comes_back_with_its_new_settings():
    with box(ALPHA) as story:
        loaded(story)
        story >> reload(CHANGED_ALPHA) << stop(1, "alpha", CHANGED)
        story >> gone(1) << start(2, "alpha")


def test_e4_a_load_with_old_settings_ends_and_those_who_wait_wait_on():
    with box(ALPHA) as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> reload(CHANGED_ALPHA) << stop(1, "alpha", CHANGED)
        story >> gone(1) << start(2, "alpha")
        story >> ready(2) << grant(1, 2)


def test_e4_what_is_changed_back_in_time_stays():
    with box(ALPHA) as story:
        alpha_answers(story)
        story >> reload(CHANGED_ALPHA) << nothing
        story.asks(2, "alpha") << nothing
        story >> reload(ALPHA) << grant(2, 1)
        story >> done(1) << nothing


def test_e4_a_removed_model_drains_and_is_forgotten():
    with box(ALPHA, BETA) as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "alpha") << nothing
        story >> reload(BETA) << refuse(2, UnknownModel, "alpha", "not in the configuration")
        story.asks(3, "alpha") << refuse(3, UnknownModel, "alpha")
        story >> Asked("alpha", Want.LOAD) << nothing
        story >> done(1) << stop(1, "alpha", REMOVED)
        assert "alpha" in story.fleet.models
        story >> gone(1) << nothing
        assert "alpha" not in story.fleet.models
        assert "alpha" not in story.fleet.habits
        assert story.fleet.removed == frozenset()


def test_e4_a_removed_model_that_comes_back_in_time_goes_on():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story >> reload(BETA) << nothing
        story >> reload(ALPHA, BETA) << nothing
        story.asks(2, "alpha") << grant(2, 1)


def test_e4_an_answer_outlives_the_engine_of_a_removed_model():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story >> reload(BETA) << nothing
        story >> crash(1) << nothing
        assert "alpha" in story.fleet.models
        story >> done(1) << nothing
        assert "alpha" not in story.fleet.models


def test_e4_a_model_that_makes_room_is_not_called_back_with_old_settings():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story.asks(2, "beta") << nothing
        story >> reload(CHANGED_ALPHA, BETA) << nothing
        story >> done(2) << nothing
        story >> done(1) << stop(1, "alpha", YIELDED)
        story >> gone(1) << nothing


def test_e4_a_load_asked_for_meanwhile_is_of_the_new_settings():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story >> reload(CHANGED_ALPHA, BETA) << nothing
        story >> Asked("alpha", Want.LOAD) << nothing
        story >> done(1) << stop(1, "alpha", CHANGED)
        story >> gone(1) << start(2, "alpha")


def test_e4_a_new_model_is_served_and_new_settings_mend_a_failure():
    with box(ALPHA) as story:
        for number in (1, 2, 3):
            story.asks(number, "alpha") << start(number, "alpha")
            story >> crash(number) << refuse(number, LoadFailed)
        story.asks(4, "alpha") << refuse(4, LoadFailed, "3 times")
        story >> reload(CHANGED_ALPHA, BETA) << nothing
        story.asks(5, "alpha") << start(4, "alpha")
        story >> ready(4) << grant(5, 4)
        story >> done(5) << nothing
        story.asks(6, "beta") << stop(4, "alpha", "room for beta")


def test_e4_figures_of_old_settings_say_nothing_of_the_new():
    with box(ALPHA) as story:
        alpha_answers(story)
        story >> reload(CHANGED_ALPHA) << nothing
        story >> Measured(1, {"gpu0": 7}, {"gpu0": 3}) << nothing
        story >> done(1) << stop(1, "alpha", CHANGED)
        story >> gone(1) << start(2, "alpha")


def test_d1_what_was_learned_stays_until_the_configuration_says_otherwise():
    with box(ALPHA, BETA) as story:
        loaded(story)
        story >> Measured(1, {"gpu0": 6}, {"gpu0": 4}) << nothing
        story >> reload(replace(ALPHA, priority=1), BETA) << nothing
        assert story.fleet.models["alpha"].claim == {"gpu0": 4}
        story >> reload(replace(ALPHA, claim={"gpu0": 5}), BETA) << nothing
        assert story.fleet.models["alpha"].claim == {"gpu0": 5}


def test_e4_a_smaller_budget_makes_room_by_draining():
    both = (ModelSpec("alpha", claim={"gpu0": 4}), ModelSpec("beta", claim={"gpu0": 4}))
    with box(*both) as story:
        story.asks(1, "alpha") << start(1, "alpha", gpu0=4)
        story >> ready(1) << grant(1, 1)
        story.asks(2, "beta") << start(2, "beta", gpu0=4)
        story >> ready(2) << grant(2, 2)
        story >> done(2) << nothing
        story >> reload(*both, gpu0=6) << Stop(2, "beta", "more is held on gpu0 than it may give")


def test_e4_a_seat_is_kept_for_as_long_as_somebody_sits_there():
    seat = ModelSpec("alpha", "v1", claim={"port:5000": 1})
    with box(seat, port_5000=1) as story:
        story.fleet.devices = {"port:5000": Device("port:5000", 1)}
        story.asks(1, "alpha") << Start(1, "alpha", {"port:5000": 1})
        story >> ready(1) << grant(1, 1)
        moved = replace(seat, settings="v2", claim={"port:5001": 1})
        story >> Reloaded((moved,), (Device("port:5001", 1),), POLICY) << nothing
        assert set(story.fleet.devices) == {"port:5000", "port:5001"}
        story >> done(1) << stop(1, "alpha", CHANGED)
        story >> gone(1) << Start(2, "alpha", {"port:5001": 1})


def test_e4_what_others_use_is_still_known():
    with box(ALPHA) as story:
        story.fleet.devices["gpu0"] = Device("gpu0", 10, 10, 3, ("firefox",))
        story >> reload(ALPHA, gpu0=8) << nothing
        assert story.fleet.devices["gpu0"] == Device("gpu0", 8, 0, 3, ("firefox",))


def test_e4_an_operators_pin_stands_until_the_configuration_changes_it():
    pinned = lambda story: story.fleet.models["alpha"].spec.pinned  # noqa: E731
    with box(ALPHA) as story:
        story >> Asked("alpha", Want.PIN) << nothing
        story >> reload(ALPHA) << nothing
        assert pinned(story)
        story >> reload(replace(ALPHA, pinned=True)) << nothing
        story >> reload(ALPHA) << nothing
        assert not pinned(story)
        story >> Asked("alpha", Want.PIN) << nothing
        story >> Asked("alpha", Want.UNPIN) << nothing
        story >> reload(replace(ALPHA, pinned=True)) << nothing
        assert pinned(story)
        story >> Asked("alpha", Want.UNPIN) << nothing
        story >> reload(replace(ALPHA, pinned=True, priority=2)) << nothing
        assert not pinned(story)


def test_e4_scheduling_settings_hold_at_once():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story >> reload(ALPHA, BETA, policy=replace(POLICY, queue_timeout=20.0)) << nothing
        story.asks(2, "beta") << nothing
        assert story.fleet.policy.queue_timeout == 20.0


def test_e4_models_are_in_the_order_of_the_configuration():
    with box(ALPHA, BETA) as story:
        alpha_answers(story)
        story >> reload(BETA, ModelSpec("gamma")) << nothing
        assert list(story.fleet.models) == ["beta", "gamma", "alpha"]


def test_e4_a_removed_model_that_nobody_uses_is_forgotten_at_once():
    with box(ALPHA, BETA) as story:
        story >> reload(BETA) << nothing
        assert list(story.fleet.models) == list(story.fleet.habits) == ["beta"]


def test_e4_what_was_started_last_may_be_gone_when_the_next_one_starts():
    with box(ALPHA, BETA) as story:
        loaded(story)
        story >> Asked("alpha", Want.UNLOAD) << stop(1, "alpha", "unload asked")
        story >> gone(1) << nothing
        story >> reload(BETA) << nothing
        story.asks(1, "beta") << start(2, "beta")


def test_d5_who_waited_for_a_load_that_is_ended_waits_from_then_on():
    brief = replace(POLICY, queue_timeout=20.0)
    with box(ALPHA, policy=brief) as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story.after(15) << nothing
        story >> reload(CHANGED_ALPHA, policy=brief) << stop(1, "alpha", CHANGED)
        story.after(10) << nothing
        story >> gone(1) << start(2, "alpha")
