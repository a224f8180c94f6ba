from __future__ import annotations

from roundhouse.app.doctor.running import check
from roundhouse.errors import RouterError
from tests.app.doctor.conftest import told


def answering(models, **health):
    answers = {"/health": {"version": "9", "status": "healthy"} | health, "/api/v1/state": {"models": models}}
    return answers.__getitem__


def test_g4_a_model_that_failed_is_told_with_its_reason(box):
    models = {
        "bad": {"state": "failed", "error": "out of memory", "active": 0, "waiting": 0},
        "good": {"state": "ready", "error": None, "active": 2, "waiting": 0},
        "slow": {"state": "loading", "progress": {"stage": "weights"}, "waiting": 1},
        "late": {"state": "unloaded", "waiting": 3},
        "off": {"state": "unloaded", "waiting": 0},
    }
    found = list(check(box.visit(ask=answering(models))))
    assert told(found, "error") == ["bad: It failed: out of memory → roundhouse logs bad"]
    assert [finding.about for finding in found] == ["roundhouse", "bad", "good", "slow", "late"]
    assert "(weights)" in told(found, "note")[0]
    assert "3 requests wait" in told(found, "warning")[0]


def test_no_roundhouse_is_no_fault(box):
    (found,) = check(box.visit())
    assert found.severity == "note"
    assert found.what == "Nothing answers."


def test_one_that_does_not_tell_its_state_is_told(box):
    def ask(path):
        if path != "/health":
            raise RouterError("no")
        return {"version": "9", "status": "healthy"}

    assert "give an admin key" in told(check(box.visit(ask=ask)), "note")[0]


def test_another_program_at_its_address_is_none(box):
    (found,) = check(box.visit(ask=lambda _path: ["hello"]))
    assert "no Roundhouse" in found.what
