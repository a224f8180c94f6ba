"""Whose turn it is (spec D4): stories of two models, of which one fits; alpha is loaded in 10 s unless told otherwise.

Its quantum then is 20 s, and `max_wait` 60 s. What holds for all traffic is in `test_workloads` and `test_box_simulation`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from roundhouse.core.model import (
    Asked,
    Device,
    Fleet,
    Instance,
    Measured,
    ModelSpec,
    ModelState,
    Phase,
    Policy,
    Ticket,
    Want,
)
from roundhouse.core.shares import Shares
from roundhouse.core.turns import Want as Wanted
from roundhouse.core.turns import max_wait, place_in_queue, rank, tenure, want_of, wanted_since
from tests.core.story import Story, crash, done, gone, grant, nothing, ready, start, stop

SIX = {"gpu0": 6}


def two(policy: Policy | None = None, **fields: object) -> Story:
    specs = [ModelSpec("alpha", claim=SIX, **fields), ModelSpec("beta", claim=SIX), ModelSpec("gamma", claim=SIX)]  # type: ignore[arg-type]
    return Story(Fleet(specs, [Device("gpu0", 10)], policy))


def loaded(story: Story, slots: int = 2, load: float = 10.0) -> Story:
    """alpha is instance 1, ready since 0 s, and answers ticket 900."""
    story.asks(900, "alpha", session="s") << start(1, "alpha")
    return story >> ready(1, slots, seconds=load) << grant(900, 1)


def idle(story: Story, load: float = 10.0) -> Story:
    return loaded(story, load=load) >> done(900) << nothing


def thinks(story: Story, *gaps: float, session: str = "s") -> Story:
    """alpha's session asks and is answered at once, with these think times; the story ends with its last answer."""
    for number, gap in enumerate(gaps, 800):
        story.after(gap) << nothing
        story.asks(number, "alpha", session=session) << grant(number, 1)
        story >> done(number) << nothing
    return story


# --- max_wait and the quantum ---


def test_d4_a_busy_model_goes_on_answering_until_somebody_has_waited_for_max_wait():
    story = loaded(two())
    story.asks(1, "beta") << nothing
    story.after(59.0) << nothing
    story.asks(2, "alpha") << grant(2, 1)
    story >> done(900) << nothing
    story.at_next_wakeup() << nothing
    assert story.now == 60.0
    assert story.phase("alpha") is Phase.DRAINING
    story.asks(3, "alpha") << nothing
    story >> done(2) << stop(1, "alpha", "room for beta")
    story >> gone(1) << start(2, "beta")
    story >> ready(2) << grant(1, 2)


def test_d4_after_its_turn_it_gets_the_next_one():
    story = loaded(two())
    story.asks(1, "beta") << nothing
    story.after(60.0) << nothing
    story.asks(3, "alpha") << nothing
    story >> done(900) << stop(1, "alpha", "room for beta")
    story >> gone(1) << start(2, "beta")
    story >> ready(2, seconds=10.0) << grant(1, 2)
    story >> done(1) << stop(2, "beta", "room for alpha")
    story >> gone(2) << start(3, "alpha")


def test_d4_who_left_does_not_come_back_before_those_it_left_for():
    story = loaded(two(), slots=1)
    story.asks(1, "alpha") << nothing
    story.now = 5.0
    story.asks(2, "beta") << nothing
    story.after(60.0) << nothing
    story >> done(900) << stop(1, "alpha", "room for beta")
    story.asks(3, "gamma") << nothing
    story.now = 66.0
    story >> gone(1) << start(2, "beta")
    story.now = 67.0
    story >> ready(2, 1, seconds=1.0) << grant(2, 2)
    story >> done(2) << stop(2, "beta", "room for gamma")


def test_d4_a_turn_lasts_its_quantum_however_long_others_have_waited():
    story = two()
    story.asks(1, "alpha") << start(1, "alpha")
    story.asks(2, "beta") << nothing
    story.now = 200.0
    story >> ready(1, 1, seconds=140.0) << grant(1, 1)
    story.now = 300.0
    story.asks(3, "alpha") << nothing
    story >> done(1) << grant(3, 1)
    assert story.phase("alpha") is Phase.READY
    story.at_next_wakeup() << nothing
    assert story.now == 200.0 + 2 * 140.0
    assert story.phase("alpha") is Phase.DRAINING


def test_d4_a_turn_leaves_those_who_wait_their_time():
    story = two()
    story.asks(1, "alpha") << start(1, "alpha")
    story.asks(2, "beta") << nothing
    story.now = 200.0
    story >> ready(1, 1, seconds=200.0) << grant(1, 1)
    story.at_next_wakeup() << nothing
    assert story.now == 200.0 + 600.0 / 2
    assert story.phase("alpha") is Phase.DRAINING


def test_d4_a_model_without_work_leaves_at_once_for_who_waits():
    story = idle(two())
    story.asks(1, "beta") << stop(1, "alpha", "room for beta")


def test_d4_a_model_that_falls_idle_leaves_then():
    story = loaded(two())
    story.asks(1, "beta") << nothing
    story >> done(900) << stop(1, "alpha", "room for beta")


def test_d4_every_turn_serves_a_batch_even_if_all_have_waited_for_too_long():
    story = loaded(two(), slots=2)
    for number in (1, 2, 3):
        story.asks(number, "beta") << nothing
    story.after(60.0) << nothing
    for number in (4, 5):
        story.asks(number, "alpha") << nothing
    story >> done(900) << stop(1, "alpha", "room for beta")
    story.now = 500.0
    story >> gone(1) << start(2, "beta")
    story.now = 590.0
    story >> ready(2, 2, seconds=0.0) << (grant(1, 2), grant(2, 2))
    assert story.phase("beta") is Phase.DRAINING  # no quantum, and alpha's are overdue: but a batch was served
    story >> done(1) << nothing
    story >> done(2) << stop(2, "beta", "room for alpha")


def test_d4_one_model_alone_is_never_made_to_leave():
    story = loaded(two(), slots=1)
    story.asks(1, "alpha") << nothing
    story.after(500.0) << nothing
    assert story.phase("alpha") is Phase.READY


@pytest.mark.parametrize(("load", "timeout", "wait"), [(1, 600, 60), (30, 600, 150), (200, 600, 300), (200, 60, 60)])
def test_d4_max_wait_is_five_loads_at_least_a_minute_and_leaves_the_queue_its_time(load, timeout, wait):
    state = ModelState(ModelSpec("m"), {}, load_seconds=float(load))
    assert max_wait(state, Policy(queue_timeout=timeout)) == wait


def test_d4_max_wait_is_a_setting():
    story = loaded(two(Policy(max_wait=7.0)), load=1.0)
    story.asks(1, "beta") << nothing
    story.after(7.0) << nothing
    assert story.phase("alpha") is Phase.DRAINING


def test_d4_without_max_wait_whoever_is_loaded_runs_first():
    story = loaded(two(Policy(max_wait=math.inf)))
    story.asks(1, "beta") << nothing
    story.after(500.0) << nothing
    assert story.phase("alpha") is Phase.READY


def test_d4_max_wait_of_zero_is_the_order_of_arrival():
    story = loaded(two(Policy(max_wait=0.0)), slots=1)
    for number, model in enumerate(("alpha", "beta", "alpha"), 1):
        story.now += 1.0
        story.asks(number, model) << nothing
    story >> done(900) << grant(1, 1)
    assert story.phase("alpha") is Phase.DRAINING
    story >> done(1) << stop(1, "alpha", "room for beta")


def test_d4_what_an_operator_asks_for_comes_at_once():
    story = loaded(two())
    story >> Asked("beta", Want.LOAD) << nothing
    assert story.phase("alpha") is Phase.DRAINING
    story >> done(900) << stop(1, "alpha", "room for beta")


def test_d7_background_tasks_do_not_keep_a_model_its_place():
    story = idle(two())
    story.asks(1, "alpha", task=True) << grant(1, 1)
    story.asks(2, "beta") << nothing
    assert story.phase("alpha") is Phase.DRAINING
    story >> done(1) << stop(1, "alpha", "room for beta")


# --- linger ---


def test_d4_a_model_lingers_for_a_live_session_that_thinks_shorter_than_half_a_reload():
    story = thinks(idle(two()), 3.0, 3.0, 3.0)
    story.asks(1, "beta") << nothing
    story.after(2.0) << nothing
    story.asks(2, "alpha", session="s") << grant(2, 1)
    story.asks(3, "alpha", session="s") << grant(3, 1)


def test_d4_it_lingers_no_longer_than_the_think_time():
    story = thinks(idle(two()), 3.0, 3.0, 3.0)
    story.asks(1, "beta") << nothing
    story.at_next_wakeup() << stop(1, "alpha", "room for beta")
    assert story.now == 9.0 + 3.0


def test_d4_it_does_not_linger_where_a_reload_is_quicker():
    story = thinks(idle(two()), 6.0, 6.0, 6.0)
    story.asks(1, "beta") << stop(1, "alpha", "room for beta")


def test_d4_it_does_not_linger_for_a_session_that_it_does_not_know_yet():
    story = thinks(idle(two()), 3.0, 3.0)
    story.asks(1, "beta") << stop(1, "alpha", "room for beta")


def test_d4_it_lingers_no_longer_than_its_quantum():
    story = thinks(idle(two()), 4.0, 4.0, 4.0, 4.0, 3.0)
    story.asks(1, "beta") << nothing
    story.at_next_wakeup() << stop(1, "alpha", "room for beta")
    assert story.now == 20.0


def test_d4_nor_beyond_max_wait():
    story = two(Policy(max_wait=1.5))
    thinks(idle(story), 3.0, 3.0, 3.0)
    story.asks(1, "beta") << nothing
    story.at_next_wakeup() << stop(1, "alpha", "room for beta")
    assert story.now == 10.5


def test_d4_linger_off_and_a_fixed_time():
    thinks(idle(two(Policy(linger=0.0))), 3.0, 3.0, 3.0).asks(1, "beta") << stop(1, "alpha", "room for beta")
    story = idle(two(Policy(linger=4.0)))
    story.asks(1, "beta") << nothing
    story.at_next_wakeup() << stop(1, "alpha", "room for beta")
    assert story.now == 4.0


def test_d4_a_sessions_think_time_is_not_confused_by_its_background_tasks():
    story = thinks(idle(two()), 3.0, 3.0, 3.0)
    story.asks(1, "alpha", session="s", task=True) << grant(1, 1)
    story >> done(1) << nothing
    story.after(1.0) << nothing
    story.asks(2, "beta") << nothing
    story.at_next_wakeup() << stop(1, "alpha", "room for beta")
    assert story.now == 9.0 + 3.0


# --- whose turn is next ---


def test_d5_a_model_with_a_higher_priority_is_next_though_it_came_later():
    story = loaded(two())
    story.asks(1, "beta") << nothing
    story.asks(2, "gamma", priority=5) << nothing
    story >> done(900) << stop(1, "alpha", "room for gamma")


def test_d5_but_who_has_waited_for_max_wait_comes_before_any_priority():
    story = loaded(two())
    story.asks(1, "beta") << nothing
    story.now = 59.0
    story.asks(2, "gamma", priority=5) << nothing
    story.at_next_wakeup() << nothing
    story >> done(900) << stop(1, "alpha", "room for beta")


def test_d5_rank_is_due_by_age_then_priority_then_age():
    wants = [Wanted(5.0, 15.0, 9), Wanted(3.0, 103.0, 0), Wanted(4.0, 104.0, 1), Wanted(2.0, 16.0, 0)]
    assert sorted(wants, key=lambda want: rank(want, 20.0)) == [wants[3], wants[0], wants[2], wants[1]]


def test_d4_a_want_counts_from_the_oldest_interactive_request():
    tickets = (
        Ticket(1, "m", 5.0, task=True, priority=7),
        Ticket(2, "m", 6.0, priority=2),
        Ticket(3, "m", 7.0, priority=3),
    )
    state = ModelState(ModelSpec("m"), {}).queued(tickets)
    assert want_of(state, Policy()) == Wanted(6.0, 66.0, 3)
    assert want_of(replace(state, asked=8.0), Policy()) == Wanted(6.0, 6.0, 3, asked=True)
    assert want_of(state.queued(tickets[:1]), Policy()) is None


# --- inside a turn ---


def ask(number: int, key: str = "", **more: object) -> Ticket:
    return Ticket(number, "m", float(number), key, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("oldest", "asked", "since"),
    [(None, None, None), (3.0, None, 3.0), (None, 4.0, 4.0), (3.0, 4.0, 3.0), (5.0, 4.0, 4.0)],
)
def test_d4_a_model_is_wanted_since_somebody_waits_or_an_operator_asked(oldest, asked, since):
    state = ModelState(ModelSpec("m"), {}, oldest=oldest, asked=asked)
    assert wanted_since(state) == since


def test_d4_who_made_room_waits_for_its_next_turn_from_then_on_unless_the_order_is_strict():
    state = ModelState(ModelSpec("m"), {}, oldest=3.0, made_room=8.0)
    for policy, since in (
        (Policy(), 8.0),
        (Policy(max_wait=5.0), 8.0),
        (Policy(max_wait=1.0), 8.0),
        (Policy(max_wait=0.0), 3.0),
    ):
        want = want_of(state, policy)
        assert want is not None
        assert want.since == since


def draining(policy: Policy) -> tuple[Fleet, Instance]:
    """alpha has just become ready, has work and requests waiting, and makes room already."""
    story = loaded(two(policy), slots=1)
    story.asks(901, "alpha") << nothing
    instance = story.fleet.models["alpha"].instance
    assert instance is not None
    return story.fleet, replace(instance, phase=Phase.DRAINING, for_room=True)


def test_d4_who_makes_room_already_goes_on_doing_so():
    fleet, instance = draining(Policy())
    later = Wanted(1e6, 1e6 + 60)
    kept, leaves = tenure(fleet, replace(instance, phase=Phase.READY, for_room=False)), tenure(fleet, instance)
    assert kept is not None
    assert leaves is not None
    assert kept.until(later) == later.due
    assert leaves.until(later) == leaves.earliest() == -math.inf


def test_d4_unless_the_order_of_arrival_is_strict_and_speaks_for_it():
    fleet, instance = draining(Policy(max_wait=0.0))
    leaves = tenure(fleet, instance)
    assert leaves is not None
    assert leaves.until(Wanted(1e6, 1e6)) == math.inf
    assert leaves.until(Wanted(-1.0, -1.0)) == -math.inf


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.STOPPING, Phase.DRAINING])
def test_d4_who_is_not_loaded_or_leaves_for_another_reason_has_no_turn(phase):
    fleet, instance = draining(Policy())
    assert tenure(fleet, replace(instance, phase=phase, for_room=False)) is None


def test_d8_a_pinned_model_is_not_asked_to_leave():
    fleet, instance = draining(Policy())
    fleet.models["alpha"] = replace(fleet.models["alpha"], spec=replace(fleet.models["alpha"].spec, pinned=True))
    for phase in (Phase.READY, Phase.DRAINING):
        assert tenure(fleet, replace(instance, phase=phase)) is None


def test_d5_interactive_then_priority_then_share_then_arrival():
    tickets = [
        ask(1, task=True, priority=9), ask(2, "greedy"), ask(3, "modest"), ask(4, "modest"), ask(5, "greedy", priority=1),
    ]  # fmt: skip
    state = ModelState(ModelSpec("m"), {}, shares=Shares({("greedy", ""): 10.0, ("modest", ""): 2.0}))
    assert [t.id for t in sorted(tickets, key=lambda ticket: place_in_queue(state, ticket))] == [5, 3, 4, 2, 1]


def test_d5_users_of_one_key_share_as_keys_do():
    shares = Shares({("webui", "ann"): 3.0, ("webui", "bob"): 1.0})
    state = ModelState(ModelSpec("m"), {}, shares=shares)
    assert place_in_queue(state, ask(2, "webui", user="bob")) < place_in_queue(state, ask(1, "webui", user="ann"))


# --- failures in between (spec D10) ---


def test_d10_a_load_that_found_too_little_memory_is_tried_once_more_with_more_room():
    story = Story(
        Fleet([ModelSpec("alpha", claim={"gpu0": 4}), ModelSpec("beta", claim={"gpu0": 4})], [Device("gpu0", 9)])
    )
    story.asks(900, "alpha") << start(1, "alpha", gpu0=4)
    story >> ready(1) << grant(900, 1)
    story >> done(900) << nothing
    story.asks(1, "beta") << start(2, "beta", gpu0=4)
    story >> crash(2, "out of memory", short=True) << start(3, "beta", gpu0=5)
    story >> crash(3, "out of memory", short=True)
    (refusal,) = story.hears()
    assert "out of memory" in refusal.error.message
    assert story.fleet.models["beta"].claim == {"gpu0": 5}


def test_d10_the_second_try_has_others_leave_where_it_needs_them_to():
    story = Story(
        Fleet([ModelSpec("alpha", claim={"gpu0": 4}), ModelSpec("beta", claim={"gpu0": 5})], [Device("gpu0", 9)])
    )
    story.asks(900, "alpha") << start(1, "alpha", gpu0=4)
    story >> ready(1) << grant(900, 1)
    story >> done(900) << nothing
    story.asks(1, "beta") << start(2, "beta", gpu0=5)
    story >> crash(2, "out of memory", short=True) << stop(1, "alpha", "room for beta")
    story >> gone(1) << start(3, "beta", gpu0=6)
    story >> ready(3) << grant(1, 3)
    assert not story.fleet.models["beta"].grown


def test_d10_who_had_the_whole_device_is_not_tried_again():
    story = Story(Fleet([ModelSpec("alpha", claim={"gpu0": 9})], [Device("gpu0", 9)]))
    story.asks(1, "alpha") << start(1, "alpha", gpu0=9)
    story >> crash(1, "out of memory", short=True)
    assert len(story.hears()) == 1


def test_d10_an_operators_load_is_tried_once_more_too():
    story = Story(Fleet([ModelSpec("alpha", claim={"gpu0": 4})], [Device("gpu0", 9)]))
    story >> Asked("alpha", Want.LOAD) << start(1, "alpha", gpu0=4)
    story >> crash(1, "out of memory", short=True) << start(2, "alpha", gpu0=5)
    story >> ready(2) << nothing


def test_d10_a_loaded_model_that_runs_out_of_memory_needs_more_next_time():
    story = Story(Fleet([ModelSpec("alpha", claim={"gpu0": 4})], [Device("gpu0", 9)]))
    story.asks(1, "alpha") << start(1, "alpha", gpu0=4)
    story >> ready(1) << grant(1, 1)
    story >> crash(1, "out of memory", short=True) << nothing
    story.asks(2, "alpha") << start(2, "alpha", gpu0=5)


def test_d10_the_evicted_model_returns_when_the_load_failed_and_its_clients_wait():
    story = loaded(two())
    story.asks(1, "beta") << nothing
    story.after(60.0) << nothing
    story.asks(2, "alpha") << nothing
    story >> done(900) << stop(1, "alpha", "room for beta")
    story >> gone(1) << start(2, "beta")
    story >> crash(2)
    refusal, again = story.hears()
    assert refusal.ticket.id == 1
    assert again == start(3, "alpha")


def test_d1_where_engines_grew_beyond_the_budget_who_is_missed_least_leaves():
    specs = [ModelSpec(name, claim={"gpu0": 3}) for name in ("alpha", "beta", "gamma")]
    story = Story(Fleet(specs, [Device("gpu0", 10)]))
    for number, spec in enumerate(specs, 1):
        story.asks(number, spec.id) << start(number, spec.id, gpu0=3)
        story >> ready(number, 1) << grant(number, number)
        if spec.id != "alpha":
            story >> done(number) << nothing
        story.now += 5.0
    story >> Measured(3, {"gpu0": 5}, {"gpu0": 5}) << stop(2, "beta", "more is held on gpu0 than it may give")
    assert story.phase("alpha") is story.phase("gamma") is Phase.READY


def test_d1_but_never_the_last_one_that_is_there():
    story = loaded(two())
    story >> Measured(1, {"gpu0": 11}, {"gpu0": 11}) << nothing
    assert story.phase("alpha") is Phase.READY


def test_d1_figures_of_one_place_hold_for_those_like_it():
    told = {"gpu0": 8}
    spec = ModelSpec("m", claim={"gpu0": 4, "port:1": 1}, elsewhere=({"gpu1": 4}, {"gpu0": 2, "gpu1": 2}), told=told)
    story = Story(Fleet([spec], [Device("gpu0", 10), Device("gpu1", 6), Device("port:1", 1)]))
    story.asks(1, "m") << start(1, "m", **{"gpu0": 4, "port:1": 1})
    story >> Measured(1, {"gpu0": 7}, {"gpu0": 7}) << nothing
    state = story.fleet.models["m"]
    assert state.claim == {"gpu0": 8, "port:1": 1}  # what its engine is told to take is promised to it
    assert state.elsewhere == ({"gpu1": 6}, {"gpu0": 2, "gpu1": 2})  # no more than there is; a divided one is another


# --- several places (spec D1) ---


def places(*free: int) -> Story:
    """Two models that may run on either of two GPUs, which have that much; `other` holds some of each."""
    specs = [ModelSpec(n, claim={"gpu0": 6}, elsewhere=({"gpu1": 6},)) for n in ("alpha", "beta", "gamma")]
    return Story(Fleet(specs, [Device("gpu0", free[0]), Device("gpu1", free[1])]))


def test_d1_a_model_runs_on_the_first_of_its_places_that_is_free():
    story = places(10, 10)
    story.asks(1, "alpha") << start(1, "alpha", gpu0=6)
    story.asks(2, "beta") << start(2, "beta", gpu1=6)


def test_d1_and_where_none_is_free_on_the_one_that_costs_least():
    story = places(10, 10)
    story.asks(1, "alpha") << start(1, "alpha", gpu0=6)
    story >> ready(1, 1) << grant(1, 1)
    story.asks(2, "beta") << start(2, "beta", gpu1=6)
    story >> ready(2, 1) << grant(2, 2)
    story >> done(1) << nothing
    story.now = 5.0
    story >> done(2) << nothing
    story.asks(3, "alpha") << grant(3, 1)  # alpha is asked for more often
    story >> done(3) << nothing
    story.asks(4, "gamma") << stop(2, "beta", "room for gamma")
    story >> gone(2) << start(3, "gamma", gpu1=6)


def test_d1_a_place_that_can_never_hold_it_is_passed_over():
    places(4, 10).asks(1, "alpha") << start(1, "alpha", gpu1=6)


def test_d2_two_loads_go_on_at_the_same_time_on_two_devices():
    story = places(20, 10)
    story.asks(1, "alpha") << start(1, "alpha", gpu0=6)
    story.asks(2, "beta") << start(2, "beta", gpu1=6)  # not on gpu0, where alpha is being loaded
