from __future__ import annotations

from dataclasses import replace

import pytest

from roundhouse.simulate.report import against, figures, mean, spell, what_if
from roundhouse.simulate.world import Fate, Outcome, Request, Stay


def fate(at, began, ended, model="a", error=""):
    return Fate(Request(at, model, 1.0), model, began, ended, error)


OUTCOME = Outcome(
    (
        fate(0.0, 10.0, 12.0),
        fate(1.0, 11.0, 21.0),
        fate(2.0, None, 32.0, "b", "queue_timeout"),
        fate(40.0, 90.0, None, "b"),
        fate(60.0, None, None, "b"),
    ),
    (Stay("a", 0.0, 10.0, 50.0, for_room=True), Stay("b", 5.0, 20.0), Stay("c", 50.0, None, 70.0), Stay("c", 95.0)),
    100.0,
)


def test_figures_of_an_outcome():
    found = figures(OUTCOME)
    assert (found.done, found.refused, found.unfinished) == (2, 1, 2)
    assert found.mean == (12 + 20) / 2
    assert found.p95 == 20.0
    assert found.worst_wait == 50.0
    assert found.waiting == 10 + 10 + 30 + 50 + 40
    assert (found.switches, found.loads) == (1, 4)
    assert found.loading == pytest.approx((20 + 20 + 5) / 100), "the first two loads overlap"
    assert {name: (m.done, m.mean_wait, m.worst_wait) for name, m in found.models.items()} == {
        "a": (2, 10.0, 10.0),
        "b": (0, 40.0, 50.0),
    }


def test_figures_of_nothing():
    assert figures(Outcome((), (), 0.0)).done == 0


def test_p95_is_what_19_of_20_did_not_exceed():
    outcome = Outcome(tuple(fate(0.0, 0.0, float(n)) for n in range(1, 41)), (), 50.0)
    assert figures(outcome).p95 == 38.0


def test_the_mean_of_several_keeps_the_worst_wait():
    one = figures(OUTCOME)
    other = replace(one, done=4.0, mean=20.0, worst_wait=70.0, models={"c": one.models["b"]})
    found = mean([one, other])
    assert (found.done, found.mean, found.worst_wait) == (3.0, 18.0, 70.0)
    assert found.models == {**one.models, "c": one.models["b"]}
    third = replace(one, models={"a": replace(one.models["a"], done=0.0, mean_wait=20.0, worst_wait=5.0)})
    a = mean([one, third]).models["a"]
    assert (a.done, a.mean_wait, a.worst_wait) == (1.0, 15.0, 10.0)


def test_one_policy_beside_another_in_words():
    slow = figures(OUTCOME)
    quick = replace(slow, done=3.0, mean=8.0, worst_wait=60.0)
    assert against("turns", quick, "fifo", slow) == (
        "turns answered 1.50 × the requests of fifo; from question to answer 50% shorter on average (8 s instead of 16 s), "
        "and the worst wait was 60 s instead of 50 s."
    )
    assert "0.67 × the requests of turns" in against("fifo", slow, "turns", quick)
    assert "100% longer" in against("fifo", slow, "turns", quick)
    assert against("turns", slow, "fifo", slow) == "turns and fifo come to the same here."
    assert against("turns", replace(slow, done=0.0), "fifo", slow) == "turns answered 0 requests, fifo 2."
    assert "as many as fifo" in against("turns", replace(slow, worst_wait=1.0), "fifo", slow)


def test_what_other_devices_would_have_brought():
    before = replace(figures(OUTCOME), waiting=6900.0, switches=30.0)
    after = replace(before, waiting=4440.0, switches=4.0)
    assert what_if("With gpu1 of 24.0 GiB", before, after) == (
        "With gpu1 of 24.0 GiB: 41 min less waiting (74 min in all, not 115 min); 2 requests answered instead of 2, "
        "4 switches instead of 30."
    )
    assert ": 41 min more waiting" in what_if("With less", after, before)
    assert "no less waiting (115 min in all)" in what_if("With more", before, replace(before, waiting=6900.5))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.1234, "0.123 s"), (35.25, "35.2 s"), (285.4, "285 s"), (2460, "41 min"), (7200, "2.0 h")],
)
def test_times_for_people(seconds, words):
    assert spell(seconds) == words
