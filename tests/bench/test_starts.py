"""The figures of `make bench-starts`: differences are taken within rounds, and answers compared to the bit."""

from __future__ import annotations

from bench.starts import BASE, Start, Variant, alike, row


def start(ready: float, *tokens: tuple[str, float]) -> Start:
    told = [{"token": token, "logprob": logprob} for token, logprob in tokens or (("a", -0.5),)]
    timings = {"predicted_per_second": 10.0, "prompt_per_second": 100.0, "prompt_n": 5}
    return Start(ready, ready / 2, 0.1, ({"timings": timings, "choices": [{"logprobs": {"content": told}}]},))


def test_a_round_that_was_slow_for_all_is_no_difference():
    other = Variant("other")
    found = row(other, {BASE.name: [start(1), start(5), start(2)], "other": [start(0.9), start(4.9), start(1.9)]})
    assert found["ready_more"] == -0.1
    assert found["ready"] == {"median": 1.9, "min": 0.9}
    assert found["answers"] == "same, to the bit"
    assert (found["speed"], found["prompt_speed"]) == (1, 1)


def test_answers_are_compared_by_token_and_by_probability():
    base = [("a", -0.5), ("b", -0.25)]
    assert alike(base, base) == "same, to the bit"
    assert alike([("a", -0.5), ("b", -0.5)], base) == "same; log probabilities differ by up to 0.2"
    assert alike([("a", -0.5), ("c", -0.25)], base) == "other from token 2 of 2"
    assert alike(base[:1], base) == "other from token 2 of 2"
