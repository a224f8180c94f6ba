"""All checks together: side by side, bounded, and one that fails hides no other."""

from __future__ import annotations

import threading

from roundhouse.app.doctor import CHECKS, examine
from roundhouse.app.doctor.finding import note, ok
from tests.app.doctor.conftest import told


def test_g4_a_check_that_fails_or_hangs_is_a_finding_itself(box):
    never = threading.Event()

    def broken(_visit):
        yield ok("", "so far")
        raise ValueError("a bug")

    def hangs(_visit):
        never.wait(60)
        return []

    try:
        found = examine(
            box.visit(), {"hangs": hangs, "broken": broken, "good": lambda _visit: [note("x", "y")]}, limit=0.5
        )
    finally:
        never.set()
    assert [finding.check for finding in found] == ["hangs", "broken", "good"]
    assert "was not done" in found[0].what
    assert "ValueError: a bug" in found[1].what
    assert told(found[2:]) == ["x: y → "]


def test_checks_run_side_by_side(box):
    both = threading.Barrier(2)

    def meets(_visit):
        both.wait(30)
        return [ok("", "met")]

    assert [finding.what for finding in examine(box.visit(), {"a": meets, "b": meets})] == ["met", "met"]


def test_g4_every_check_says_something_of_an_empty_box(box):
    found = examine(box.visit())
    assert {finding.check for finding in found} <= CHECKS.keys()
    assert not [finding for finding in found if "This check" in finding.what]
    assert not [finding for finding in found if finding.severity in {"warning", "error"} and not finding.remedy]
