from __future__ import annotations

from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.margins import RECENT, next_claim, run_at

PEAKS = st.lists(st.integers(1, 1 << 40), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("peaks", "claim"),
    [
        ([1000], 1040),
        ([1000, 1000], 1020),
        ([1000, 1000, 1000, 1001], 1021),
        ([1000, 950, 1000, 950], 1000 + round(2 * stdev([1000, 950, 1000, 950]))),
        ([1000, 400], 1100),
        ([400, 1000], 1100),
    ],
    ids=["one", "the same twice", "hardly a spread", "some spread", "a wide one", "the highest counts, not the newest"],
)
def test_d1_margin_follows_the_observed_spread(peaks, claim):
    assert next_claim(peaks) == claim


def test_d1_a_figure_that_was_once_too_high_is_forgotten():
    """After as many loads as are looked at; then nothing but the margin is above what they hold."""
    assert next_claim([600] * (RECENT - 1) + [1000]) == 1100
    assert next_claim([600] * RECENT + [1000] * 50) == 612


@given(PEAKS)
def test_d1_claims_hold_the_latest_loads_and_a_tenth_more_at_most(peaks):
    claim, highest = next_claim(peaks), max(peaks[:RECENT])
    assert highest <= claim <= highest * 1.1 + 1


@given(st.integers(1 << 20, 1 << 40), st.integers(1, 20))
def test_d1_after_a_measured_load_estimates_are_within_five_percent(size, loads):
    assert abs(next_claim([size] * loads) - size) <= 0.05 * size + 1


@given(PEAKS, st.floats(0.5, 2))
def test_d1_it_is_the_same_share_at_every_size(peaks, factor):
    scaled = [max(1, round(peak * factor)) for peak in peaks]
    assert next_claim(scaled) == pytest.approx(next_claim(peaks) * factor, rel=0.01, abs=6)


def test_d1_figures_are_remembered_by_what_ran_on_which_devices_together():
    assert run_at("s", {"gpu1": 1, "gpu0": 2, "port:1": 1}) == run_at("s", {"gpu0": 9, "gpu1": 9})
    assert len({run_at("s", claim) for claim in ({"gpu0": 1}, {"gpu1": 1}, {"gpu0": 1, "gpu1": 1})}) == 3
