"""Idle engines that burn a core, as processes that really do: of two it is told which one, never how much."""

from __future__ import annotations

import pytest

from roundhouse.app.doctor import idle
from roundhouse.app.doctor.idle import check
from tests.app.doctor.conftest import WAITS, told

BURNS = "print('up', flush=True)\nwhile True: pass"


@pytest.fixture(autouse=True)
def crowded(monkeypatch):
    """On a busy machine who burns all that it gets may get little; who waits gets nothing at all."""
    monkeypatch.setattr(idle, "TOO_MUCH", 0.02)


def state(**models):
    return lambda path: {"models": models} if path == "/api/v1/state" else {}


def model(word="ready", active=0):
    return {"state": word, "active": active}


def test_g4_an_idle_engine_that_burns_more_than_half_a_core(box):
    burner, _ = box.run(BURNS, mark=f"{box.install}:hot")
    box.run(WAITS, mark=f"{box.install}:cool")
    found = list(check(box.installed().visit(ask=state(hot=model(), cool=model()))))
    (hot,) = told(found, "warning")
    assert hot.startswith("hot: Its engine is idle and uses")
    assert f"pid {burner.pid}" in hot
    assert "--sleep-on-idle" in hot
    assert told(found, "ok")[0].startswith("cool: ")


@pytest.mark.parametrize("busy", [model(active=1), model("loading"), model("draining")])
def test_g4_a_busy_engine_may_burn_what_it_likes(box, busy):
    box.run(BURNS, mark=f"{box.install}:hot")
    assert list(check(box.installed().visit(ask=state(hot=busy)))) == []


def test_g4_an_engine_that_became_busy_meanwhile_is_not_accused(box):
    box.run(BURNS, mark=f"{box.install}:hot")
    answers = iter([model(), model(active=1)])
    visit = box.installed().visit(ask=lambda _path: {"models": {"hot": next(answers)}})
    assert list(check(visit)) == []


def test_without_roundhouse_nobody_can_say_it_is_idle(box):
    box.run(BURNS, mark=f"{box.install}:hot")
    (found,) = check(box.installed().visit())
    assert found.severity == "note"
    assert "if no request runs" in found.what


def test_without_engines_nothing_is_measured(box):
    assert list(check(box.installed().visit())) == []
