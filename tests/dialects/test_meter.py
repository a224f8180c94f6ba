from typing import Any

import pytest

from roundhouse.dialects.meter import EXTRA_KEYS, Meter
from tests.dialects.streams import usage

TIMINGS = {"cache_n": 39, "prompt_n": 5, "predicted_n": 8, "predicted_ms": 267.7, "predicted_per_second": 26.148}


def _meter(*times: Any, arrived=0.0, queue_s=0.0, load_s=0.0):
    meter = Meter(arrived, queue_s, load_s)
    for time in times:
        meter.token(time)
    return meter


def test_b3_tokens_by_usage_over_first_to_last_token():
    meter = _meter(11.0, 12.0, 13.83, arrived=10.0)
    meter.note({"usage": usage(128)})
    assert meter.line(20.0) == "[Performance: 45.2 tok/s | 128 tokens in 2.83s]"
    assert meter.rate(20.0) == pytest.approx(45.2, abs=0.05)


def test_b3_the_engines_own_rate_comes_first():
    meter = _meter(1.0, 2.0)
    meter.note({"usage": usage(8), "timings": TIMINGS})
    assert meter.rate(9.0) == pytest.approx(26.148)
    assert meter.line(9.0) == "[Performance: 26.1 tok/s | 8 tokens in 0.31s]"


def test_b3_timings_of_one_slot_do_not_stand_for_two_choices():
    meter = _meter(1.0, 3.0)
    meter.note({"usage": usage(16), "timings": TIMINGS})
    assert meter.rate(9.0) == pytest.approx(8.0)


def test_b3_timings_alone_make_usage():
    meter = _meter(1.0, 2.0)
    meter.note({"timings": TIMINGS})
    assert meter.usage == {"prompt_tokens": 44, "completion_tokens": 8, "total_tokens": 52}
    assert meter.tokens == 8


def test_b3_no_figures_no_line():
    meter = _meter(1.0, 2.0)
    assert (meter.usage, meter.tokens, meter.rate(3.0), meter.line(3.0), meter.extended_usage(3.0)) == (None,) * 5
    meter.note({"usage": usage(0)})
    assert meter.line(3.0) is None
    meter.note({"usage": {"completion_tokens": None}})
    assert meter.line(3.0) is None


def test_b3_one_token_is_measured_from_the_request():
    meter = _meter(3.0, arrived=0.0, queue_s=1.0, load_s=1.0)
    meter.note({"usage": usage(1), "timings": {**TIMINGS, "predicted_n": 1, "predicted_per_second": 1e6}})
    assert meter.line(4.0) == "[Performance: 0.5 tok/s | 1 tokens in 2.00s]"


def test_b3_our_keys_of_usage_add_up():
    meter = _meter(107.5, 109.5, arrived=100.0, queue_s=2.0, load_s=5.0)
    meter.note({"usage": usage(10)})
    assert meter.extended_usage(110.0) == {
        **usage(10), "response_token/s": 5.0, "total_s": 10.0, "load_s": 5.0, "queue_s": 2.0, "ttft_s": 0.5
    }  # fmt: skip
    assert set(meter.extended_usage(110.0)) - set(usage(10)) == set(EXTRA_KEYS)


def test_b3_keys_without_a_figure_are_left_out():
    meter = _meter()
    meter.note({"usage": usage(0)})
    assert set(meter.extended_usage(1.0)) - set(usage(0)) == {"total_s", "load_s", "queue_s"}
    assert meter.ttft is None
