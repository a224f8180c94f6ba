"""What the scheduler promises, told as conversations: one story per numbered behaviour."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roundhouse.core.model import (
    Asked,
    Cancelled,
    ClosingTime,
    Cut,
    Device,
    Fleet,
    Found,
    Instance,
    Kind,
    Measured,
    ModelSpec,
    Objected,
    Phase,
    Policy,
    Refuse,
    Start,
    Started,
    Surveyed,
    TaskRule,
    Want,
)
from roundhouse.core.planner import next_wakeup
from roundhouse.errors import (
    LoadFailed,
    NoRoom,
    QueueFull,
    QueueTimeout,
    RequestCancelled,
    ShuttingDown,
    TaskRefused,
    TooManyRequests,
    UnknownModel,
)
from tests.core.story import Story, crash, done, gone, grant, nothing, ready, refuse, start, stop

SIX = {"gpu0": 6}
LOAD, UNLOAD = Want.LOAD, Want.UNLOAD


def box(*specs: ModelSpec, policy: Policy | None = None, **devices: int) -> Story:
    """A story on a box with one device of 10 unless told otherwise, in the order of arrival: turns have a file of theirs."""
    found = [Device(name.replace("unit_", "unit:"), size) for name, size in (devices or {"gpu0": 10}).items()]
    return Story(Fleet(specs, found, replace(policy or Policy(), max_wait=0.0, task_hold=0.0)))


def two(**fields: object) -> Story:
    """alpha and beta, of which only one fits; `fields` are alpha's."""
    return box(ModelSpec("alpha", claim=SIX, **fields), ModelSpec("beta", claim=SIX))  # type: ignore[arg-type]


def loaded(story: Story, slots: int = 1) -> Story:
    """alpha is ready, idle, and instance 1."""
    story.asks(900, "alpha") << start(1, "alpha")
    story >> ready(1, slots) << grant(900, 1)
    story >> done(900) << nothing
    return story


def instance(story: Story, model: str) -> Instance:
    found = story.fleet.models[model].instance
    assert found is not None
    return found


def reason(story: Story, model: str) -> str:
    failure = story.fleet.models[model].failure
    assert failure is not None
    return failure.reason


# --- one model ---


def test_first_request_loads_and_is_granted_when_ready():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> Started(1, 4711) << nothing
        assert instance(story, "alpha").pid == 4711
        story.asks(2, "alpha") << nothing
        story >> ready(1, slots=2) << (grant(1, 1, "alpha"), grant(2, 1, "alpha"))


def test_unknown_model_is_refused():
    with two() as story:
        story.asks(1, "gamma") << refuse(1, UnknownModel, "gamma")


@pytest.mark.parametrize(("configured", "reported", "slots"), [(None, 3, 3), (2, 3, 2), (None, None, 1), (None, 0, 1)])
def test_d6_slots_are_the_settings_or_the_engines_or_one(configured, reported, slots):
    with two(slots=configured) as story:
        story.asks(0, "alpha") << start(1, "alpha")
        for number in range(1, 5):
            story.asks(number, "alpha") << nothing
        story >> ready(1, reported) << [grant(n, 1) for n in range(slots)]
        story >> done(0) << grant(slots, 1)


def test_d5_order_is_interactive_then_priority_then_arrival():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story.asks(2, "alpha", task=True, priority=9) << nothing
        story.asks(3, "alpha") << nothing
        story.asks(4, "alpha", priority=1) << nothing
        story >> ready(1) << grant(4, 1)
        story >> done(4) << grant(1, 1)
        story >> done(1) << grant(3, 1)
        story >> done(3) << grant(2, 1)


# --- D3, D4: a switch ---


def test_d3_running_answers_are_never_cut_by_a_switch():
    with two() as story:
        loaded(story, slots=2)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "alpha") << grant(2, 1)
        story.asks(3, "beta") << nothing
        story.asks(4, "alpha") << nothing
        story.after(599) << nothing
        assert story.phase("alpha") is Phase.DRAINING
        assert story.fleet.use[1].active == 2


def test_d3_a_leaving_engine_stops_when_its_last_answer_ended():
    with two() as story:
        loaded(story, slots=2)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "alpha") << grant(2, 1)
        story.asks(3, "beta") << nothing
        story >> done(1) << nothing
        story >> done(2) << stop(1, "alpha", "room for beta")
        story >> gone(1) << start(2, "beta")
        story >> ready(2) << grant(3, 2)


def test_d3_a_drain_limit_cuts_only_when_set():
    story = box(ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX), policy=Policy(drain_timeout=20.0))
    with loaded(story) as story:
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        story.after(19.9) << nothing
        story.after(0.1) << stop(1, "alpha", "room for beta")
        story >> done(1) << nothing
        story >> gone(1) << start(2, "beta")


def test_d4_who_leaves_serves_nobody_new_until_it_was_its_turn_again():
    with two() as story:
        loaded(story, slots=2)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        story.now = 1.0
        story.asks(3, "alpha") << nothing
        story >> done(1) << stop(1, "alpha", "room for beta")
        story >> gone(1) << start(2, "beta")
        story >> ready(2) << grant(2, 2)
        assert story.phase("beta") is Phase.DRAINING
        story >> done(2) << stop(2, "beta", "room for alpha")


def test_d4_a_place_that_is_not_needed_any_more_is_called_back():
    with two() as story:
        loaded(story, slots=2)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        story.asks(3, "alpha") << nothing
        story >> done(2) << grant(3, 1)
        assert story.phase("alpha") is Phase.READY
        assert instance(story, "alpha").leaving == ""


def test_d4_an_older_waiter_keeps_its_model():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "alpha") << nothing
        story.now = 1.0
        story.asks(3, "beta") << nothing
        assert story.phase("alpha") is Phase.READY
        story >> done(1) << grant(2, 1)
        assert story.phase("alpha") is Phase.DRAINING


def test_d4_nobody_overtakes_the_oldest_into_its_room():
    with box(
        ModelSpec("small", claim={"gpu0": 3}), ModelSpec("big", claim={"gpu0": 9}), ModelSpec("tiny", claim={"gpu0": 2})
    ) as story:
        story.asks(1, "small") << start(1, "small", gpu0=3)
        story >> ready(1) << grant(1, 1)
        story.now = 1.0
        story.asks(2, "big") << nothing
        story.now = 2.0
        story.asks(3, "tiny") << nothing
        story >> done(1) << stop(1, "small", "room for big")
        story >> gone(1) << start(2, "big", gpu0=9)


def test_d9_idle_ones_leave_before_busy_ones_and_the_longest_unused_first():
    with box(*(ModelSpec(name, claim={"gpu0": 3}) for name in ("a", "b", "c", "d"))) as story:
        for number, name in enumerate("abc", start=1):
            story.now = float(number)
            story.asks(number, name) << start(number, name, gpu0=3)
            story >> ready(number) << grant(number, number)
        story.now = 4.0
        story >> done(3) << nothing
        story.now = 5.0
        story >> done(2) << nothing
        story.asks(4, "d") << stop(3, "c", "room for d")
        assert (story.phase("a"), story.phase("b")) == (Phase.READY, Phase.READY)


def test_d9_a_small_one_is_spared_when_a_large_one_must_go_anyway():
    with box(
        ModelSpec("s", claim={"gpu0": 2}), ModelSpec("l", claim={"gpu0": 8}), ModelSpec("x", claim={"gpu0": 7})
    ) as story:
        for number, name in enumerate("sl", start=1):
            story.asks(number, name) << start(number, name, gpu0=story.fleet.models[name].claim["gpu0"])
            story >> ready(number) << grant(number, number)
            story.now += 1.0
            story >> done(number) << nothing
        story.asks(3, "x") << stop(2, "l", "room for x")


# --- D2: memory ---


def test_d2_starts_only_when_the_memory_is_back():
    with two() as story:
        loaded(story)
        story.asks(1, "beta") << stop(1, "alpha", "room for beta")
        story.after(50) << nothing
        story >> gone(1) << start(2, "beta")


def test_d2_one_load_per_device_at_a_time():
    small = {"gpu0": 2}
    with box(
        ModelSpec("a", claim=small), ModelSpec("b", claim=small), ModelSpec("c", claim={"gpu1": 2}), gpu0=10, gpu1=10
    ) as story:
        story.asks(1, "a") << start(1, "a", gpu0=2)
        story.asks(2, "b") << nothing
        story.asks(3, "c") << start(2, "c", gpu1=2)
        story >> ready(1) << (grant(1, 1), start(3, "b", gpu0=2))


def test_d2_waits_thirty_seconds_for_others_memory_then_names_them():
    with two() as story:
        story >> Surveyed((Device("gpu0", 10, 10, 7, ("python (pid 9, 7 B)",)),)) << nothing
        story.asks(1, "alpha") << nothing
        story.after(29.9) << nothing
        story.after(0.1) << refuse(1, NoRoom, "alpha", "python (pid 9, 7 B)", "6 B", retry_after=30.0)
        assert next_wakeup(story.fleet, story.now) is None


def test_d2_starts_as_soon_as_others_let_go():
    with two() as story:
        story >> Surveyed((Device("gpu0", 10, 10, 7),)) << nothing
        story.asks(1, "alpha") << nothing
        story.after(20) << nothing
        story >> Surveyed((Device("gpu0", 10, 10, 4),)) << start(1, "alpha")


def test_d2_the_wait_for_others_begins_anew_when_it_was_interrupted():
    with two() as story:
        loaded(story)
        story >> Surveyed((Device("gpu0", 10, 10, 5),)) << nothing
        story.asks(1, "beta") << nothing
        story.after(20) << nothing
        story >> done(1) << nothing
        story.asks(2, "beta") << nothing
        story.after(29) << nothing
        story.after(1) << refuse(2, NoRoom, "other programs")


def test_d2_a_model_that_others_hold_up_does_not_hold_up_the_rest():
    with box(ModelSpec("big", claim={"gpu0": 9}), ModelSpec("small", claim={"gpu0": 2})) as story:
        story >> Surveyed((Device("gpu0", 10, 10, 5),)) << nothing
        story.asks(1, "big") << nothing
        story.asks(2, "small") << start(1, "small", gpu0=2)


def test_d2_memory_outside_the_budget_is_others_to_use():
    with two() as story:
        story >> Surveyed((Device("gpu0", 10, 24, 14),)) << nothing
        story.asks(1, "alpha") << start(1, "alpha")


def test_d1_what_can_never_fit_is_refused_at_once():
    with box(ModelSpec("huge", claim={"gpu0": 11}), ModelSpec("lost", claim={"gpu7": 1})) as story:
        story.asks(1, "huge") << refuse(1, NoRoom, "huge", "11 B", "10 B", "devices.gpu0")
        story.asks(2, "lost") << refuse(2, NoRoom, "gpu7", "does not have")


def test_d1_measured_figures_count_and_are_learned():
    with two() as story:
        loaded(story)
        story >> Measured(1, {"gpu0": 3}, {"gpu0": 4}) << nothing
        story.asks(1, "beta") << start(2, "beta")
        story >> ready(2) << grant(1, 2)
        story >> Asked("alpha", UNLOAD) << stop(1, "alpha", "unload asked")
        story >> gone(1) << nothing
        story.asks(2, "alpha") << start(3, "alpha", gpu0=4)


def test_d1_more_than_a_device_has_is_learned_as_all_of_it():
    """A model that just ran there is not impossible from then on: it gets the device for itself."""
    with box(ModelSpec("alpha", claim={"gpu0": 6})) as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> ready(1) << grant(1, 1)
        story >> Measured(1, {"gpu0": 12}, {"gpu0": 12}) << nothing
        story >> done(1) << nothing
        story >> Asked("alpha", UNLOAD) << stop(1, "alpha", "unload asked")
        story >> gone(1) << nothing
        story.asks(2, "alpha") << start(2, "alpha", gpu0=10)


def test_c3b_seats_exclude():
    seat = {"unit:tabby": 1}
    with box(ModelSpec("a", claim=seat), ModelSpec("b", claim=seat), unit_tabby=1) as story:
        story.asks(1, "a") << start(1, "a", **seat)
        story >> ready(1) << grant(1, 1)
        story.asks(2, "b") << nothing
        story >> done(1) << stop(1, "a", "room for b")
        story >> gone(1) << start(2, "b", **seat)


def test_d2_what_others_and_a_pinned_model_hold_together_is_refused_after_the_wait():
    with two() as story:
        story.fleet.models["alpha"] = replace(
            story.fleet.models["alpha"], spec=ModelSpec("alpha", pinned=True), claim={"gpu0": 4}
        )
        story >> Found(1, "alpha", 7, 1, ready=True) << nothing
        story >> Surveyed((Device("gpu0", 10, 10, 3),)) << nothing
        story.asks(1, "beta") << nothing
        story.after(30) << refuse(1, NoRoom, "other programs", "3 B")


def test_d9_what_a_leaving_model_frees_beyond_the_need_serves_the_next():
    names = {"old": 12, "large": 8, "first": 5, "second": 3}
    with box(*(ModelSpec(name, claim={"gpu0": size}) for name, size in names.items()), gpu0=20) as story:
        for number, name in ((1, "large"), (2, "old")):
            story.asks(number, name) << start(number, name, gpu0=names[name])
            story >> ready(number) << grant(number, number)
            story.now += 1.0
        story.asks(3, "first") << nothing
        story.now += 1.0
        story.asks(4, "second") << nothing
        assert (story.phase("large"), story.phase("old")) == (Phase.DRAINING, Phase.READY)


# --- D5: bounds of waiting ---


def test_d5_queue_timeout_counts_only_while_no_load_is_under_way():
    story = box(ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX), policy=Policy(queue_timeout=60.0))
    with story:
        story.asks(1, "alpha") << start(1, "alpha")
        story.asks(2, "beta") << nothing
        story.asks(3, "alpha") << nothing
        story.after(60) << refuse(2, QueueTimeout, "60 s", "beta")
        story.after(500) << nothing
        story >> ready(1) << grant(1, 1)
        story.after(59) << nothing
        story.after(1) << refuse(3, QueueTimeout, "alpha")


def test_d5_a_load_that_an_operator_ended_starts_the_clock_anew():
    story = box(ModelSpec("alpha", claim=SIX), policy=Policy(queue_timeout=60.0))
    with story:
        story.asks(1, "alpha") << start(1, "alpha")
        story.after(100) << nothing
        story >> Asked("alpha", UNLOAD) << stop(1, "alpha", "unload asked")
        story.after(59) << nothing
        story.after(1) << refuse(1, QueueTimeout)


def test_d5_queue_limits_overall_and_per_key():
    policy = Policy(queue_limit=3, queue_per_key=2)
    with box(ModelSpec("alpha", claim=SIX, expected=42.0), policy=policy) as story:
        story.asks(1, "alpha", key="ann") << start(1, "alpha")
        story.asks(2, "alpha", key="ann") << nothing
        story.asks(3, "alpha", key="ann") << refuse(3, TooManyRequests, "per_key", retry_after=52.0)
        story.asks(4, "alpha", key="bob") << nothing
        story.asks(5, "alpha", key="bob") << refuse(5, QueueFull, "3 requests", retry_after=57.0)


def test_d5_a_free_slot_needs_no_place_in_the_queue():
    story = box(
        ModelSpec("alpha", claim={"gpu0": 4}), ModelSpec("beta", claim={"gpu0": 4}), policy=Policy(queue_limit=1)
    )
    with story:
        story.asks(900, "alpha") << start(1, "alpha", gpu0=4)
        story >> ready(1, slots=2) << grant(900, 1)
        story.asks(1, "beta") << start(2, "beta", gpu0=4)
        story.asks(2, "alpha") << grant(2, 1)
        story.asks(3, "alpha") << refuse(3, QueueFull)


# --- D7: background tasks ---


def test_d7_a_task_never_switches_and_runs_on_what_is_loaded():
    with two() as story:
        loaded(story)
        story.asks(1, "beta", task=True) << grant(1, 1, "alpha")
        story.asks(2, "beta", task=True) << nothing
        assert story.phase("alpha") is Phase.READY
        story >> done(1) << grant(2, 1, "alpha")


def test_d7_a_task_goes_only_where_its_key_may():
    with two() as story:
        loaded(story)
        story.asks(1, "beta", task=True, allowed=frozenset({"beta"})) << refuse(
            1, TaskRefused, "beta", retry_after=30.0
        )
        story.asks(2, "beta", task=True, allowed=frozenset({"alpha", "beta"})) << grant(2, 1, "alpha")


def test_d7_a_task_is_not_moved_to_another_kind_of_model():
    with two(kind=Kind.EMBEDDING) as story:
        loaded(story)
        story.asks(1, "beta", task=True) << refuse(1, TaskRefused)
    with box(ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX, kind=Kind.EMBEDDING)) as story:
        loaded(story)
        story.asks(1, "beta", task=True) << refuse(1, TaskRefused)


def test_d7_the_task_rule_refuse_and_queue():
    for rule, answer in ((TaskRule.REFUSE, refuse(1, TaskRefused)), (TaskRule.QUEUE, nothing)):
        story = box(ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX), policy=Policy(tasks=rule))
        with loaded(story) as story:
            story.asks(1, "beta", task=True) << answer
            assert story.phase("alpha") is Phase.READY


def test_d7_the_most_recently_used_host_and_the_task_model_last():
    specs = [ModelSpec(name, claim={"gpu0": 3}) for name in ("a", "b", "c")] + [ModelSpec("d", claim={"gpu0": 9})]
    with box(*specs, policy=Policy(task_model="c")) as story:
        for number, name in enumerate("abc", start=1):
            story.now += 1.0
            story.asks(number, name) << start(number, name, gpu0=3)
            story >> ready(number) << grant(number, number)
        for number in (1, 2, 3):
            story.now += 1.0
            story >> done(number) << nothing
        story.asks(11, "d", task=True) << grant(11, 2, "b")
        story.asks(12, "d", task=True) << grant(12, 1, "a")
        story.asks(13, "d", task=True) << grant(13, 3, "c")


def test_d7_a_task_may_load_where_nothing_has_to_leave():
    with two() as story:
        story.asks(1, "alpha", task=True) << start(1, "alpha")
        story.asks(2, "beta", task=True) << refuse(2, TaskRefused)
        story >> ready(1) << grant(1, 1)


def test_d7_a_task_joins_a_load_under_way_after_interactive_requests():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story.asks(2, "alpha", task=True) << nothing
        story.asks(3, "alpha") << nothing
        story >> ready(1, slots=2) << (grant(1, 1), grant(3, 1))
        story >> done(1) << grant(2, 1)


def test_d7_waiting_tasks_do_not_protect_their_model():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha", task=True) << grant(1, 1)
        story.asks(2, "alpha", task=True) << nothing
        story.now = 1.0
        story.asks(3, "beta") << nothing
        assert story.phase("alpha") is Phase.DRAINING


def test_d7_a_task_waits_with_interactive_requests_for_its_own_model():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        story.asks(3, "beta", task=True) << nothing
        story >> done(1) << stop(1, "alpha", "room for beta")


# --- D8 ---


def test_d8_pinned_models_never_leave():
    with two(pinned=True, ttl=5.0) as story:
        loaded(story)
        story.after(1000) << nothing
        story.asks(1, "beta") << refuse(1, NoRoom, "pinned", "alpha", "4 B")


def test_d8_a_pin_holds_from_when_it_is_set_until_it_is_taken_back():
    with two() as story:
        loaded(story)
        story >> Asked("alpha", Want.PIN) << nothing
        story.asks(1, "beta") << refuse(1, NoRoom, "pinned", "alpha", "4 B")
        story >> Asked("alpha", Want.UNPIN) << nothing
        story.asks(2, "beta") << stop(1, "alpha", "room for beta")


def test_d8_a_pin_loads_nothing():
    with two() as story:
        story >> Asked("alpha", Want.PIN) << nothing
        story >> Asked("nobody", Want.PIN) << nothing


def test_d8_a_pinned_model_that_starts_in_the_same_step_is_in_the_way_at_once():
    with box(ModelSpec("pin", claim={"gpu0": 4}, pinned=True), ModelSpec("all", claim={"gpu0": 10})) as story:
        story.asks(1, "all") << start(1, "all", gpu0=10)
        story.asks(2, "pin") << nothing
        story >> ready(1) << grant(1, 1)
        story >> done(1) << stop(1, "all", "room for pin")
        story.now = 1.0
        story.asks(3, "all") << nothing
        story >> gone(1) << (start(2, "pin", gpu0=4), refuse(3, NoRoom, "pin"))


def test_d8_a_pinned_model_told_to_unload_is_in_nobodys_way():
    with two(pinned=True) as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story >> Asked("alpha", UNLOAD) << nothing
        story.asks(2, "beta") << nothing
        story >> done(1) << stop(1, "alpha", "unload asked")
        story >> gone(1) << start(2, "beta")


def test_d8_min_resident_is_kept():
    with two(min_resident=60.0) as story:
        loaded(story)
        story.asks(1, "beta") << nothing
        story.at_next_wakeup() << stop(1, "alpha", "room for beta")
        assert story.now == 60.0


def test_d8_min_resident_wakes_for_an_operators_load_too():
    with two(min_resident=60.0) as story:
        loaded(story)
        story >> Asked("beta", LOAD) << nothing
        story.at_next_wakeup() << stop(1, "alpha", "room for beta")


def test_d8_ttl_unloads_what_nobody_used():
    with two(ttl=300.0) as story:
        loaded(story)
        story.after(200) << nothing
        story.asks(1, "alpha") << grant(1, 1)
        story.after(1000) << nothing
        story >> done(1) << nothing
        story.after(299) << nothing
        story.after(1) << stop(1, "alpha", "idle")
        story >> gone(1) << nothing


def test_d8_a_remote_model_is_never_unloaded_for_idleness():
    with box(ModelSpec("cloud", remote=True, ttl=5.0)) as story:
        story >> Found(1, "cloud", None, 8, ready=True) << nothing
        story.after(100) << nothing


# --- D10, A9: failures ---


def test_d10_a_failed_load_refuses_with_the_reason():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> crash(1, "out of memory") << refuse(1, LoadFailed, "alpha", "out of memory", retry_after=1.0)
        assert reason(story, "alpha") == "out of memory"
        story.asks(2, "alpha") << start(2, "alpha")


def test_d10_the_evicted_model_comes_back_if_it_still_has_waiters():
    with two() as story:
        loaded(story)
        story.asks(1, "beta") << stop(1, "alpha", "room for beta")
        story.now = 1.0
        story.asks(2, "alpha") << nothing
        story >> gone(1) << start(2, "beta")
        story >> crash(2) << (refuse(1, LoadFailed), start(3, "alpha"))


def test_a9_the_next_request_after_a_crash_reloads_at_once():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "alpha") << nothing
        story >> crash(1) << start(2, "alpha")
        story >> done(1) << nothing
        story >> ready(2) << grant(2, 2)


def test_a9_third_crash_within_ten_minutes_starts_a_backoff():
    with two() as story:
        for number in (1, 2):
            story.asks(number, "alpha") << start(number, "alpha")
            story >> crash(number) << refuse(number, LoadFailed)
        story.now = 599.0
        story.asks(3, "alpha") << start(3, "alpha")
        story >> crash(3) << refuse(3, LoadFailed, retry_after=5.0)
        story.now += 2.0
        story.asks(4, "alpha") << refuse(4, LoadFailed, "3 times", "CUDA error", "in 3 s", retry_after=3.0)
        story.now += 3.0
        story.asks(5, "alpha") << start(4, "alpha")


def test_a9_the_backoff_doubles_up_to_five_minutes():
    with two() as story:
        waits: list[float] = []
        for number in range(1, 13):
            story.asks(number, "alpha") << start(number, "alpha")
            story >> crash(number)
            (refusal,) = story.hears()
            assert isinstance(refusal, Refuse)
            waits.append(refusal.error.retry_after or 0.0)
            story.now += waits[-1] if number > 2 else 0.0
        assert waits[:9] == [1.0, 1.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0]
        assert max(waits) == 300.0


def test_a9_crashes_older_than_ten_minutes_are_forgotten():
    with two() as story:
        for number in (1, 2):
            story.asks(number, "alpha") << start(number, "alpha")
            story >> crash(number) << refuse(number, LoadFailed)
        story.now = 600.0
        story.asks(3, "alpha") << start(3, "alpha")
        story >> crash(3) << refuse(3, LoadFailed, retry_after=1.0)
        story.asks(4, "alpha") << start(4, "alpha")


def test_a9_who_waits_when_the_backoff_begins_is_told_at_once():
    with two() as story:
        for number in (1, 2):
            story.asks(number, "alpha") << start(number, "alpha")
            story >> crash(number) << refuse(number, LoadFailed)
        story.asks(3, "alpha") << start(3, "alpha")
        story.asks(4, "alpha") << nothing
        story >> ready(3) << grant(3, 3)
        story >> crash(3) << refuse(4, LoadFailed, "3 times")


def test_a9_an_expected_exit_is_no_crash():
    with two() as story:
        loaded(story)
        story >> gone(1) << nothing
        assert story.fleet.models["alpha"].failure is None


# --- A8: clients that leave ---


def test_a8_who_leaves_while_queued_is_forgotten_and_never_loads():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        story >> done(2) << nothing
        story >> done(1) << nothing
        assert not story.fleet.queued
        assert story.phase("alpha") is Phase.READY


def test_a8_a_load_for_nobody_is_cancelled_after_a_grace():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> done(1) << nothing
        story.after(9.9) << nothing
        story.after(0.1) << stop(1, "alpha", "nobody waits for it any more")
        assert next_wakeup(story.fleet, story.now) is None
        story >> ready(1) << nothing
        story >> gone(1) << nothing


def test_a8_a_new_client_within_the_grace_saves_the_load():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> done(1) << nothing
        story.after(9) << nothing
        story.asks(2, "alpha") << nothing
        story.after(100) << nothing
        story >> ready(1) << grant(2, 1)


def test_a8_a_load_that_ends_within_the_grace_stays_and_wakes_nobody():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> done(1) << nothing
        story.after(5) << nothing
        story >> ready(1) << nothing
        assert next_wakeup(story.fleet, story.now) is None


# --- operators, restarts, the end ---


def test_an_operators_load_needs_no_client_and_is_not_given_up():
    with two() as story:
        story >> Asked("alpha", LOAD) << start(1, "alpha")
        story.after(1000) << nothing
        story >> ready(1) << nothing
        assert story.phase("alpha") is Phase.READY


def test_an_operators_load_waits_its_turn_and_makes_room():
    with two() as story:
        loaded(story)
        story >> Asked("beta", LOAD) << stop(1, "alpha", "room for beta")
        story >> gone(1) << start(2, "beta")


def test_an_operators_load_of_what_can_never_fit_is_forgotten_with_its_reason():
    with box(ModelSpec("huge", claim={"gpu0": 11})) as story:
        story >> Asked("huge", LOAD) << nothing
        assert story.fleet.models["huge"].asked is None
        assert "11 B" in reason(story, "huge")


def test_an_operators_load_that_others_hold_up_is_forgotten_after_the_wait():
    with two() as story:
        story >> Surveyed((Device("gpu0", 10, 10, 7),)) << nothing
        story >> Asked("alpha", LOAD) << nothing
        story.after(30) << nothing
        assert story.fleet.models["alpha"].asked is None
        assert "other programs" in reason(story, "alpha")
        story >> Surveyed((Device("gpu0", 10, 10, 0),)) << nothing


def test_an_operators_load_while_it_stops_loads_it_again():
    with two() as story:
        loaded(story)
        story >> Asked("alpha", UNLOAD) << stop(1, "alpha", "unload asked")
        story >> Asked("alpha", LOAD) << nothing
        story >> gone(1) << start(2, "alpha")


def test_an_operators_load_calls_a_draining_model_back():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story >> Asked("alpha", UNLOAD) << nothing
        assert story.phase("alpha") is Phase.DRAINING
        story >> Asked("alpha", LOAD) << nothing
        story >> done(1) << nothing
        assert story.phase("alpha") is Phase.READY


def test_an_operators_load_ends_a_backoff():
    with two() as story:
        for number in (1, 2, 3):
            story.asks(number, "alpha") << start(number, "alpha")
            story >> crash(number) << refuse(number, LoadFailed)
        story >> Asked("alpha", LOAD) << start(4, "alpha")


def test_an_operators_load_of_what_loads_already_keeps_it():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> done(1) << nothing
        story >> Asked("alpha", LOAD) << nothing
        story.after(100) << nothing


def test_a_pin_calls_back_who_makes_room_already():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        assert story.phase("alpha") is Phase.DRAINING
        story >> Asked("alpha", Want.PIN) << refuse(2, NoRoom)
        assert story.phase("alpha") is Phase.READY
        story >> done(1) << nothing


def test_an_operators_unload_drains_and_ends_a_load():
    with two() as story:
        story >> Asked("alpha", LOAD) << start(1, "alpha")
        story >> Asked("alpha", UNLOAD) << stop(1, "alpha", "unload asked")
        story >> gone(1) << nothing
        story >> Asked("beta", UNLOAD) << nothing
        story >> Asked("gamma", LOAD) << nothing


def test_an_operators_unload_of_who_makes_room_already_is_not_called_back():
    with two() as story:
        loaded(story)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        story >> Asked("alpha", UNLOAD) << nothing
        story >> done(2) << nothing
        assert story.phase("alpha") is Phase.DRAINING
        story >> done(1) << stop(1, "alpha", "unload asked")


def test_e1_a_found_engine_is_adopted_without_a_load():
    with two() as story:
        story >> Found(7, "alpha", 4711, 2, ready=True) << nothing
        story.asks(1, "alpha") << grant(1, 7)
        story.asks(2, "beta") << nothing
        story >> done(1) << stop(7, "alpha", "room for beta")
        story >> gone(7) << start(8, "beta")


def test_e1_a_found_engine_that_still_loads_is_not_given_up():
    with two() as story:
        story >> Found(7, "alpha", 4711, None, ready=False) << nothing
        story.after(100) << nothing
        story.asks(1, "alpha") << nothing
        story >> ready(7) << grant(1, 7)


def test_e1_adoption_fulfils_what_was_asked():
    with two() as story:
        story.fleet.models["alpha"] = replace(story.fleet.models["alpha"], asked=0.0)
        story >> Found(7, "alpha", 4711, 2, ready=True) << nothing
        story.asks(1, "beta") << stop(7, "alpha", "room for beta")
        story >> gone(7) << start(8, "beta")
        story >> ready(8) << grant(1, 8)
        story >> done(1) << nothing
        assert story.phase("beta") is Phase.READY


def test_e5_closing_time_refuses_who_waits_and_starts_nothing():
    with two() as story:
        loaded(story, slots=1)
        story.asks(1, "alpha") << grant(1, 1)
        story.asks(2, "beta") << nothing
        story.asks(3, "alpha") << nothing
        story >> ClosingTime() << (refuse(3, ShuttingDown), refuse(2, ShuttingDown))
        story.asks(4, "alpha") << refuse(4, ShuttingDown)
        story >> Asked("beta", LOAD) << nothing
        story >> done(1) << stop(1, "alpha", "room for beta")
        story >> gone(1) << nothing


def test_e5_nothing_wakes_a_closed_box_for_ever():
    with two() as story:
        story >> Surveyed((Device("gpu0", 10, 10, 7),)) << nothing
        story.asks(1, "alpha") << nothing
        story >> ClosingTime() << refuse(1, ShuttingDown)
        assert next_wakeup(story.fleet, story.now) is None


# --- events that come late ---


def test_events_about_engines_that_are_gone_change_nothing():
    with two() as story:
        before = story.fleet.copy()
        for event in (ready(99), gone(99), Started(99, 1), Measured(99, {}, {}), done(99)):
            story >> event << nothing
        assert story.fleet == before


def test_d1_who_claims_a_whole_device_runs_alone_beside_what_others_use():
    story = box(ModelSpec("alpha", claim={"gpu0": 10}), ModelSpec("beta", claim={"gpu0": 1}))
    story >> Surveyed((Device("gpu0", 10, physical=10, foreign=2, holders=("game (pid 7, 2 B)",)),)) << nothing
    story.asks(1, "alpha") << Start(1, "alpha", {"gpu0": 8})
    story >> ready(1) << grant(1, 1)
    story >> done(1) << nothing
    story.asks(2, "beta") << stop(1, "alpha", "room for beta")
    story >> gone(1) << Start(2, "beta", {"gpu0": 1})


def test_a_model_known_to_be_unloadable_is_shown_as_failed_without_a_backoff():
    story = two()
    for _ in range(5):
        story >> Objected("alpha", "its file is gone") << nothing
    state = story.fleet.models["alpha"]
    assert state.failure is not None
    assert state.failure.reason == "its file is gone"
    story.asks(1, "alpha") << start(1, "alpha")


def test_d5_a_greedy_key_hears_of_its_own_limit_first():
    """When it has filled the whole queue as well, 503 would blame the others."""
    story = box(ModelSpec("alpha", claim=SIX), policy=Policy(queue_limit=2, queue_per_key=2))
    story.asks(1, "alpha", key="ann") << start(1, "alpha")
    story.asks(2, "alpha", key="ann") << nothing
    story.asks(3, "alpha", key="ann") << refuse(3, TooManyRequests, "per_key")
    story.asks(4, "alpha", key="bob") << refuse(4, QueueFull, "queue.limit")


# --- H: an operator cancels a request ---


def test_h_a_cancelled_request_that_waits_is_refused_and_its_load_given_up():
    with two() as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> Cancelled(1, "boss") << refuse(1, RequestCancelled, "by an operator (key 'boss')")
        story >> Cancelled(1) << nothing
        story >> done(1) << nothing
        story.after(10.0) << stop(1, "alpha", "nobody waits for it any more")


def test_h_a_cancelled_answer_is_cut_and_keeps_its_slot_until_it_has_departed():
    with loaded(two()) as story:
        story.asks(1, "alpha") << grant(1, 1)
        ticket = story.fleet.granted[1].ticket
        story.asks(2, "alpha") << nothing
        story >> Cancelled(1)
        (cut,) = story.hears()
        assert isinstance(cut, Cut)
        assert (cut.ticket, cut.error.message) == (ticket, "This request was cancelled by an operator.")
        assert story.fleet.use[1].active == 1
        story >> done(1) << grant(2, 1)


def test_h_who_waits_behind_a_cancelled_request_moves_up_at_once():
    with box(ModelSpec("alpha", claim=SIX), ModelSpec("beta", claim=SIX), ModelSpec("gamma", claim=SIX)) as story:
        story.asks(1, "alpha") << start(1, "alpha")
        story >> ready(1) << grant(1, 1)
        story.asks(2, "beta") << nothing
        story.asks(3, "gamma") << nothing
        story >> Cancelled(2) << refuse(2, RequestCancelled)
        story >> done(1) << stop(1, "alpha", "room for gamma")


def test_h_what_is_not_there_can_be_cancelled():
    with loaded(two()) as story:
        story >> done(900) << nothing
        story >> Cancelled(900) << nothing
        story >> Cancelled(77) << nothing
