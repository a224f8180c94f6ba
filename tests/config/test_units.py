"""Durations, sizes and rates (spec C1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.config import units

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip


@given(st.integers(0, 10**6), st.sampled_from(sorted(SECONDS)), st.sampled_from(["", " "]))
def test_c1_duration_is_its_number_times_its_unit(number, unit, gap):
    assert units.duration(f"{number}{gap}{unit}") == pytest.approx(number * SECONDS[unit])


@given(st.integers(0, 10**6), st.sampled_from(sorted(BYTES)))
def test_c1_size_is_its_number_times_its_unit(number, unit):
    assert units.size(f"{number}{unit}") == number * BYTES[unit]


@given(st.integers(0, 10**9))
def test_what_is_spelled_reads_back(number):
    assert units.size(units.spell_size(number)) == number
    assert units.duration(units.spell_duration(number / 1000)) == pytest.approx(number / 1000)


def test_spelling_takes_the_largest_whole_unit():
    assert [units.spell_duration(s) for s in (0.0, 0.25, 10.0, 90.0, 120.0, 86400.0)] == [
        "0s", "250ms", "10s", "90s", "2m", "1d",
    ]  # fmt: skip
    assert [units.spell_size(n) for n in (5, 64 * 1024**2, 20 * 1024**3)] == ["5B", "64MiB", "20GiB"]


def test_fractions_are_allowed_and_rounded_to_bytes():
    assert units.duration("1.5h") == 5400
    assert units.size("4.35GB") == 4_350_000_000


@pytest.mark.parametrize("value", [30, 2.5, "30", "1e3"])
def test_c1_bare_number_is_an_error_with_a_remedy(value):
    with pytest.raises(ValueError, match="write") as duration:
        units.duration(value)
    with pytest.raises(ValueError, match="write"):
        units.size(value)
    if value == 30:
        assert "30s" in str(duration.value)


@pytest.mark.parametrize("value", ["", "s", "-1s", "1 s s", "5 minutes", None, True, [], "١s", "1,5s", "1_0s"])
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ValueError, match=r"not a duration|unknown unit"):
        units.duration(value)


@pytest.mark.parametrize(("wrong", "near"), [("4gib", "GiB"), ("4KB", "kB"), ("4tb", "TB")])
def test_a_wrong_case_names_the_right_unit(wrong, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        units.size(wrong)


@pytest.mark.parametrize(
    ("text", "count", "seconds"), [("60/m", 60, 60), ("1M/d", 10**6, 86400), ("1.5k / s", 1500, 1), ("2/h", 2, 3600)]
)
def test_rates(text, count, seconds):
    assert units.rate(text) == units.Rate(count, seconds)
    assert units.rate(str(units.rate(text))) == units.Rate(count, seconds)


@pytest.mark.parametrize("text", [60, "60", "60/", "/m", "60/month", "x/m", "0/m", "-1/m", None, "60X/m"])
def test_what_is_no_rate_is_refused_with_a_remedy(text):
    with pytest.raises(ValueError, match="such as"):
        units.rate(text)
