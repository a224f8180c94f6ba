from __future__ import annotations

import math

from roundhouse.simulate.compare import compare
from roundhouse.simulate.report import figures, mean
from roundhouse.simulate.scenarios import SCENARIOS
from roundhouse.simulate.world import play

AGENTS = SCENARIOS["agents"]


def traffic(seed):
    return AGENTS.traffic(600.0, seed)


def test_every_box_is_played_under_every_policy_with_the_same_traffic():
    boxes = {"slow": AGENTS.setup, "quick": AGENTS.setup.with_load(1.0)}
    results = compare(boxes, ["fifo", "run-first"], traffic, seeds=2, until=600.0)
    assert [(r.box, r.policy) for r in results] == [
        ("slow", "fifo"),
        ("slow", "run-first"),
        ("quick", "fifo"),
        ("quick", "run-first"),
    ]
    alone = [figures(play(AGENTS.setup.with_policy("fifo"), traffic(seed), 600.0)) for seed in (0, 1)]
    assert results[0].figures == mean(alone)
    assert results[2].figures.done > results[0].figures.done


def test_each_policy_is_played_by_its_settings(monkeypatch):
    seen = []

    def noted(setup, workload, until, watch):
        seen.append((setup.policy.max_wait, setup.policy.linger))
        return play(setup, workload, until, watch)

    monkeypatch.setattr("roundhouse.simulate.compare.play", noted)
    compare({"box": AGENTS.setup}, ["turns", "fifo", "run-first"], traffic, until=60.0)
    assert seen == [(None, None), (0.0, 0.0), (math.inf, 0.0)]


def test_whoever_watches_hears_what_has_ended():
    told = []
    compare({"box": AGENTS.setup}, ["fifo"], traffic, 3, 600.0, lambda ended, now: told.append((ended, now)))
    assert [ended for ended, now in told if now == 0.0] == [1, 2, 3]
