"""The figures of `make bench-switching`: what counts, and that who starves a model can't look quick."""

from __future__ import annotations

from bench.play import Record, summary
from bench.workloads import Ask


def record(model: str, sent: float, first: float | None = None, done: float | None = None, failed: str = "") -> Record:
    return Record(Ask(model, 10), sent, first, done, failed)


def test_a_request_without_a_token_counts_with_what_it_has_waited_so_far():
    found = summary([record("a", 10, 11, 12), record("b", 10)], start=0, end=60)
    assert (found["mean_wait_s"], found["worst_wait_s"]) == (25.5, 50)
    assert found["worst_wait_by_model_s"] == {"a": 1, "b": 50}
    assert (found["done"], found["unserved"], found["unserved_by_model"]) == (1, 1, {"a": 0, "b": 1})


def test_the_lead_in_does_not_count_but_a_wait_that_began_in_it_does():
    whole_before = record("a", 1, 2, 4)
    token_before = record("a", 1, 9, 12)  # done counts, the wait was over before
    sent_before = record("a", 7, 13, 14)
    found = summary([whole_before, token_before, sent_before], start=10, end=30)
    assert (found["done"], found["mean_wait_s"], found["seconds"]) == (2, 6, 20)
    assert found["longest_answer_s"] == 3


def test_p95_is_of_the_waits_in_order():
    found = summary([record("a", 0, wait, wait + 1) for wait in range(100, 0, -1)], start=0, end=200)
    assert (found["p95_wait_s"], found["worst_wait_s"]) == (95, 100)


def test_a_failed_request_is_told_and_is_no_wait():
    found = summary([record("a", 1, 2, 3), record("a", 1, failed="503 no room")], start=0, end=60)
    assert (found["failed"], found["failures"], found["unserved"], found["worst_wait_s"]) == (1, ["503 no room"], 0, 1)


def test_nothing_at_all_has_no_waits():
    found = summary([], start=0, end=60)
    assert (found["done"], found["mean_wait_s"], found["worst_wait_by_model_s"]) == (0, None, {})
