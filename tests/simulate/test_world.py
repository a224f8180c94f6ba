from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse.core.model import Arrived, Device, Exited, Kind, ModelSpec, Start, Stop, Tick, Ticket
from roundhouse.simulate.scenarios import SCENARIOS
from roundhouse.simulate.setup import POLICIES, Setup, Timing
from roundhouse.simulate.trace import Entry, Replay
from roundhouse.simulate.world import SHORTEST, Request, play
from tests.simulate.play import check, setup


class Given:
    """Requests at their times, and followers by the mark of the one that they follow, after a pause."""

    def __init__(self, requests, followers=None):
        self.requests = requests
        self.followers = followers or {}
        self.told = []

    def first(self):
        return self.requests

    def follow(self, request, now):
        self.told.append((request, now))
        return [replace(r, at=now + pause) for r, pause in self.followers.get(request.mark, ())]


def times(outcome):
    return [(f.request.model, f.began, f.ended) for f in outcome.fates]


def test_one_request_waits_for_the_load_and_takes_its_time():
    outcome = play(setup({"a": 20.0}), Given([Request(5.0, "a", 3.0)]))
    assert times(outcome) == [("a", 25.0, 28.0)]
    assert outcome.seconds == 28.0
    assert [(s.model, s.began, s.ready, s.gone) for s in outcome.stays] == [("a", 5.0, 25.0, None)]


def test_another_model_waits_until_the_answer_ended_and_the_memory_is_back():
    asked = Given([Request(0.0, "a", 3.0), Request(1.0, "b", 2.0)])
    outcome = play(setup({"a": 10.0, "b": 20.0}, stop=4.0), asked)
    assert times(outcome) == [("a", 10.0, 13.0), ("b", 13.0 + 4.0 + 20.0, 39.0)]
    assert [(s.model, s.gone, s.for_room) for s in outcome.stays] == [("a", 17.0, True), ("b", None, False)]


def test_models_that_fit_together_stay_together():
    asked = Given([Request(0.0, "a", 3.0), Request(1.0, "b", 2.0), Request(100.0, "a", 1.0)])
    outcome = play(setup({"a": 10.0, "b": 10.0}, size=5), asked)
    assert len(outcome.stays) == 2
    assert times(outcome)[2] == ("a", 100.0, 101.0)


def test_no_more_answers_at_once_than_slots():
    outcome = play(setup({"a": 1.0}, slots=2), Given([Request(0.0, "a", 10.0) for _ in range(3)]))
    assert times(outcome) == [("a", 1.0, 11.0), ("a", 1.0, 11.0), ("a", 11.0, 21.0)]


def test_slots_are_what_the_engine_reports_where_none_are_configured():
    made = setup({"a": 1.0}, slots=3)
    specs = tuple(replace(spec, slots=None) for spec in made.specs)
    reported = replace(made, specs=specs, timing={"a": Timing(1.0, slots=2)})
    assert times(play(reported, Given([Request(0.0, "a", 5.0)] * 3)))[2] == ("a", 6.0, 11.0)


def test_answers_at_the_same_time_slow_one_another():
    asked = [Request(0.0, "a", 10.0), Request(5.0, "a", 10.0)]
    shared = play(setup({"a": 0.0}, slowdown=1.0), Given(asked))
    # 5 s alone, then both at half the speed until the first has its 10 s, then the second alone again.
    assert times(shared) == [("a", 0.0, 15.0), ("a", 5.0, 20.0)]
    half = play(setup({"a": 0.0}, slowdown=0.5), Given(asked))
    assert [ended for _, _, ended in times(half)] == [pytest.approx(12.5), pytest.approx(17.5)]


def test_a_request_follows_the_end_of_another():
    followers = {0: [(Request(0.0, "a", 1.0, mark=1), 7.0)], 1: [(Request(0.0, "a", 1.0, mark=2), 2.0)]}
    outcome = play(setup({"a": 10.0}), Given([Request(0.0, "a", 1.0, mark=0)], followers))
    assert [f.request.at for f in outcome.fates] == [0.0, 18.0, 21.0]


def test_what_is_refused_has_ended_too_and_is_followed():
    made = setup({"a": 10.0}, size=11)  # more than there is
    workload = Given([Request(0.0, "a", 1.0, mark=0)], {0: [(Request(0.0, "a", 1.0, mark=1), 5.0)]})
    outcome = play(made, workload)
    assert [(f.ended, f.error, f.done) for f in outcome.fates] == [
        (0.0, "not_enough_memory", False),
        (5.0, "not_enough_memory", False),
    ]
    assert len(workload.told) == 2


def test_limits_refuse_unless_they_are_lifted():
    made = setup({"a": 700.0, "b": 1.0}, slots=1)
    made = replace(made, policy=replace(made.policy, queue_timeout=30.0, queue_per_key=2))
    asked = [Request(0.0, "a", 100.0), Request(701.0, "b", 1.0), *[Request(702.0, "b", 1.0)] * 2]
    refused = {f.error for f in play(made, Given(asked)).fates}
    assert refused == {"", "queue_timeout", "rate_limit_exceeded"}
    assert all(f.done for f in play(made.without_limits(), Given(asked)).fates)


def test_the_end_leaves_who_waits_waiting():
    outcome = play(
        setup({"a": 10.0}, slots=1), Given([Request(0.0, "a", 10.0)] * 2 + [Request(99.0, "a", 1.0)]), until=15.0
    )
    first, second = outcome.fates
    assert (first.began, first.ended, second.began) == (10.0, None, None)
    assert (first.waited(outcome.seconds), second.waited(outcome.seconds)) == (10.0, 15.0)


def test_preloaded_models_are_there_when_the_first_request_comes():
    made = setup({"a": 10.0})
    made = replace(made, specs=tuple(replace(spec, preload=True) for spec in made.specs))
    assert times(play(made, Given([Request(60.0, "a", 1.0)]))) == [("a", 60.0, 61.0)]


def test_an_idle_model_leaves_and_is_loaded_again():
    made = setup({"a": 10.0})
    made = replace(made, specs=tuple(replace(spec, ttl=30.0) for spec in made.specs))
    outcome = play(made, Given([Request(0.0, "a", 1.0), Request(100.0, "a", 1.0)]))
    assert times(outcome)[1] == ("a", 110.0, 111.0)
    assert outcome.stays[0].gone == pytest.approx(41.0)
    assert not outcome.stays[0].for_room


def test_a_task_is_answered_by_the_model_that_is_loaded():
    asked = Given([Request(0.0, "a", 1.0), Request(12.0, "b", 1.0, task=True)])
    outcome = play(setup({"a": 10.0, "b": 10.0}), asked)
    assert outcome.fates[1].model == "a"
    assert outcome.fates[1].waited(outcome.seconds) < 5.0


def test_an_engine_stopped_at_the_drain_limit_cuts_its_answers():
    made = setup({"a": 0.0, "b": 0.0}, stop=1.0)
    made = replace(made, policy=replace(made.policy, drain_timeout=5.0, max_wait=0.0, linger=0.0))
    outcome = play(made, Given([Request(0.0, "a", 1000.0), Request(10.0, "b", 1.0)]))
    assert (outcome.fates[0].error, outcome.fates[0].done) == ("cut", False)
    assert outcome.fates[0].ended == pytest.approx(outcome.stays[0].gone)
    assert outcome.fates[1].done


def test_a_planner_that_wants_to_be_woken_at_once_for_ever_does_not_stop_the_time(monkeypatch):
    monkeypatch.setattr("roundhouse.simulate.world.next_wakeup", lambda _fleet, now: now)
    outcome = play(setup({"a": 10 * SHORTEST}), Given([Request(0.0, "a", 10 * SHORTEST)]))
    assert outcome.fates[0].done


def planner(monkeypatch, answers):
    """A planner that answers each kind of event with given actions; returns the events that it was told."""
    told = []

    def decide(_fleet, event, _now):
        told.append(event)
        return answers.get(type(event), [])

    monkeypatch.setattr("roundhouse.simulate.world.step", decide)
    return told


def test_a_load_that_is_given_up_never_becomes_ready(monkeypatch):
    told = planner(monkeypatch, {Arrived: [Start(1, "a", {}), Stop(1, "a", "nobody waits for it")]})
    outcome = play(setup({"a": 10.0}, stop=20.0), Given([Request(0.0, "a", 1.0)]))
    assert [type(event) for event in told if not isinstance(event, Tick)] == [Arrived, Exited]
    assert [(stay.ready, stay.gone) for stay in outcome.stays] == [(None, 20.0)]


def test_the_planner_hears_all_that_is_known_of_a_request(monkeypatch):
    told = planner(monkeypatch, {})
    asked = Request(2.0, "a", 1.0, key="k", user="u", session="s", task=True, priority=3)
    play(setup({"a": 10.0}), Given([asked]))
    assert told[0] == Arrived(Ticket(1, "a", 2.0, "k", 3, task=True, user="u", session="s"))


def test_whoever_watches_is_told_the_time():
    seen = []
    play(SCENARIOS["busy"].setup, SCENARIOS["busy"].traffic(3600.0, 0), 3600.0, seen.append)
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] <= 3600.0


@st.composite
def boxes(draw):
    names = [f"m{n}" for n in range(draw(st.integers(1, 4)))]
    devices = (Device("gpu0", 10), Device("gpu1", 6))[: draw(st.integers(1, 2))]
    specs, timing = [], {}
    for name in names:
        device = draw(st.sampled_from(devices))
        specs.append(
            ModelSpec(
                name,
                kind=draw(st.sampled_from([Kind.CHAT, Kind.CHAT, Kind.EMBEDDING])),
                claim={device.id: draw(st.integers(1, device.total))},
                slots=draw(st.sampled_from([None, 1, 3])),
                ttl=draw(st.sampled_from([None, 20.0])),
                preload=draw(st.integers(0, 4)) == 0,
            )
        )
        timing[name] = Timing(
            draw(st.sampled_from([0.0, 1.5, 20.0])),
            draw(st.sampled_from([0.0, 0.7])),
            draw(st.sampled_from([0.0, 0.3, 1.0])),
            draw(st.sampled_from([None, 2])),
        )
    made = Setup(tuple(specs), devices, timing)
    return made if draw(st.booleans()) else made.without_limits()


@st.composite
def entries(draw, names):
    made = [
        Entry(
            at=draw(st.floats(0, 300)),
            model=draw(st.sampled_from(names)),
            seconds=draw(st.floats(0, 20)),
            session=draw(st.sampled_from(["", "s", "t"])),
            task=draw(st.integers(0, 4)) == 0,
            priority=draw(st.integers(0, 2)),
            key=draw(st.sampled_from(["", "k"])),
        )
        for _ in range(draw(st.integers(1, 25)))
    ]
    return sorted(made, key=lambda entry: entry.at)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(POLICIES)), st.booleans())
def test_every_request_ends_once_on_an_engine_that_is_ready_and_the_same_again(data, policy, closed):
    made = data.draw(boxes()).with_policy(policy)
    asked = data.draw(entries([spec.id for spec in made.specs]))
    outcome = play(made, Replay(asked, closed=closed))
    check(outcome, made)
    assert sorted(f.request.mark for f in outcome.fates) == list(range(len(asked))), "each came once"
    assert all(f.ended is not None for f in outcome.fates), "each ended"
    assert play(made, Replay(asked, closed=closed)) == outcome


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(SCENARIOS)), st.integers(0, 99), st.sampled_from(sorted(POLICIES)))
def test_scenarios_keep_the_rules(name, seed, policy):
    scenario = SCENARIOS[name]
    made = scenario.setup.without_limits().with_policy(policy)
    check(play(made, scenario.traffic(1200.0, seed), 1200.0), made)
