"""Background tasks that are held for a moment, as their chat may follow (spec D7); what else they get: `test_planner`."""

from __future__ import annotations

from roundhouse.core.model import Device, Fleet, ModelSpec, Policy, TaskRule
from roundhouse.errors import TaskRefused
from tests.core.story import Story, done, gone, grant, nothing, ready, refuse, start, stop

SIX = {"gpu0": 6}


def two(policy: Policy | None = None) -> Story:
    """alpha is loaded and idle, as instance 1; beta does not fit beside it."""
    specs = [ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX)]
    story = Story(Fleet(specs, [Device("gpu0", 10)], policy))
    story.asks(900, "alpha") << start(1, "alpha")
    story >> ready(1, 2) << grant(900, 1)
    return story >> done(900) << nothing


def test_d7_a_title_that_races_ahead_of_its_chat_joins_the_same_load():
    story = two()
    story.asks(1, "beta", task=True) << nothing
    story.after(0.4) << nothing
    story.asks(2, "beta") << stop(1, "alpha", "room for beta")
    story.after(0.2) << nothing
    story >> gone(1) << start(2, "beta")
    story >> ready(2, 2) << (grant(2, 2), grant(1, 2))


def test_d7_a_task_without_a_chat_runs_on_what_is_loaded_after_the_hold():
    story = two()
    story.asks(1, "beta", task=True) << nothing
    story.at_next_wakeup() << grant(1, 1, "alpha")
    assert story.now == 0.5


def test_d7_a_task_that_is_refused_is_so_after_the_hold():
    story = two(Policy(tasks=TaskRule.REFUSE))
    story.asks(1, "beta", task=True) << nothing
    story.at_next_wakeup() << refuse(1, TaskRefused, "beta")


def test_d7_a_task_of_the_loaded_model_is_not_held():
    two().asks(1, "alpha", task=True) << grant(1, 1)


def test_d7_nor_does_it_load_its_own_model_beside_one_that_can_serve_it():
    specs = [ModelSpec("alpha", claim={"gpu0": 3}), ModelSpec("beta", claim={"gpu0": 3})]
    story = Story(Fleet(specs, [Device("gpu0", 10)]))
    story.asks(900, "alpha") << start(1, "alpha", gpu0=3)
    story >> ready(1, 1) << grant(900, 1)
    story >> done(900) << nothing
    story.asks(1, "beta", task=True) << nothing
    story.at_next_wakeup() << grant(1, 1, "alpha")
    story.asks(2, "beta", task=True) << start(2, "beta", gpu0=3)  # alpha has no slot left, and there is room


def test_d7_a_slot_that_a_models_own_requests_leave_is_seen_in_the_same_step():
    sizes = {"alpha": 9, "beta": 3, "gamma": 3}  # alpha comes first, so it is looked at first
    specs = [ModelSpec(name, claim={"gpu0": size}) for name, size in sizes.items()]
    story = Story(Fleet(specs, [Device("gpu0", 10)], Policy(task_hold=0.0)))
    story.asks(1, "gamma") << start(1, "gamma", gpu0=3)
    story >> ready(1, 1) << grant(1, 1)
    story.asks(2, "alpha", task=True) << nothing
    story.asks(3, "beta") << start(2, "beta", gpu0=3)
    story >> ready(2, 2) << (grant(3, 2), grant(2, 2, "beta"))
