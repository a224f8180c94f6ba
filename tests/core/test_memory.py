"""The ledger, held against brute force."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.memory import fits, free, give, lacking, say, smallest_set, take, usable, wanted
from roundhouse.core.model import Device, Fleet, Found, ModelSpec
from roundhouse.core.planner import step

CLAIMS = st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), st.integers(0, 6), max_size=2)
ROOMS = st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), st.integers(-3, 6), max_size=2)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device("gpu0", 10), 10),
        (Device("gpu0", 10, physical=0, foreign=3), 7),
        (Device("gpu0", 10, physical=12, foreign=2), 10),
        (Device("gpu0", 10, physical=12, foreign=3), 9),
        (Device("gpu0", 10, physical=10, foreign=4), 6),
    ],
)
def test_d1_others_use_what_is_outside_the_budget_first(device, expected):
    assert usable(device) == expected


@pytest.mark.parametrize(
    ("claim", "foreign", "expected"),
    [
        ({"gpu0": 10}, 3, {"gpu0": 7}),
        ({"gpu0": 9}, 3, {"gpu0": 9}),
        ({"gpu0": 10, "port:1": 1}, 0, {"gpu0": 10, "port:1": 1}),
        ({"gpu0": 11}, 3, {"gpu0": 11}),
        ({"gpu0": 10}, 10, {"gpu0": 10}),
        ({"nowhere": 10}, 0, {"nowhere": 10}),
    ],
)
def test_d1_a_claim_of_a_whole_device_is_for_what_others_leave(claim, foreign, expected):
    fleet = Fleet([], [Device("gpu0", 10, foreign=foreign), Device("port:1", 1)])
    assert wanted(fleet, claim) == expected


def test_free_counts_everything_that_lives():
    fleet = Fleet(
        [ModelSpec("a", claim={"gpu0": 3}), ModelSpec("b", claim={"gpu0": 4, "gpu1": 1})],
        [Device("gpu0", 10), Device("gpu1", 2)],
    )
    step(fleet, Found(1, "a", None, 1, ready=True), 0.0)
    step(fleet, Found(2, "b", None, 1, ready=False), 0.0)
    assert free(fleet) == {"gpu0": 3, "gpu1": 1}


@given(CLAIMS, ROOMS)
def test_take_and_give_are_each_others_reverse(claim, room):
    after = dict(room)
    take(after, claim)
    assert all(after[d] == room.get(d, 0) - size for d, size in claim.items())
    give(after, claim)
    assert {d: s for d, s in after.items() if s} == {d: s for d, s in room.items() if s}


@given(CLAIMS, ROOMS, ROOMS)
def test_fits_and_lacking_agree(claim, room, other):
    assert fits(claim, room) == (not lacking(claim, room))
    assert fits(claim, room, other) == (fits(claim, room) and fits(claim, other))
    assert all(size == claim[d] - room.get(d, 0) > 0 for d, size in lacking(claim, room).items())


def _with(room, offers):
    have = dict(room)
    for _, held in offers:
        give(have, held)
    return have


@given(CLAIMS, ROOMS, st.lists(CLAIMS, max_size=6))
def test_smallest_set_is_sufficient_minimal_and_prefers_the_first(claim, room, held):
    offers = list(enumerate(held))
    before = dict(room)
    found = smallest_set(claim, room, offers)
    assert room == before, "the room was changed"
    if found is None:
        assert not fits(claim, _with(room, offers))
        return
    chosen = [offers[key] for key in found]
    assert fits(claim, _with(room, chosen))
    for one in chosen:
        assert not fits(claim, _with(room, [o for o in chosen if o is not one])), "one leaves without need"
    assert found == _brute_force(claim, room, offers)


def _brute_force(claim, room, offers):
    """Of the shortest prefix that suffices, the sufficient part that spares the least preferred first."""
    enough = next(n for n in range(len(offers) + 1) if fits(claim, _with(room, offers[:n])))
    choices = [
        mask
        for mask in product((False, True), repeat=enough)
        if fits(claim, _with(room, [o for o, m in zip(offers, mask, strict=False) if m]))
    ]
    best = min(choices, key=lambda mask: mask[::-1])
    return [key for (key, _), taken in zip(offers, best, strict=False) if taken]


def test_smallest_set_gives_back_the_small_when_the_large_had_to_go():
    offers = [(1, {"gpu0": 2}), (2, {"gpu0": 8}), (3, {"gpu0": 8})]
    assert smallest_set({"gpu0": 7}, {"gpu0": 0}, offers) == [2]
    assert smallest_set({"gpu0": 10}, {"gpu0": 0}, offers) == [1, 2]
    assert smallest_set({"gpu0": 2}, {"gpu0": 0}, offers) == [1]
    assert smallest_set({"gpu0": 2}, {"gpu0": 2}, offers) == []
    assert smallest_set({"gpu0": 19}, {"gpu0": 0}, offers) is None


def test_smallest_set_passes_over_who_holds_nothing_that_is_missing():
    offers = [(1, {"gpu1": 8}), (2, {"gpu0": 2}), (3, {"gpu0": 3})]
    assert smallest_set({"gpu0": 2, "gpu1": 1}, {"gpu0": 0, "gpu1": 1}, offers) == [2]


def test_smallest_set_spares_the_most_recently_preferred_of_equals():
    sizes = [3, 3, 3, 3]
    offers = [(n, {"gpu0": s}) for n, s in enumerate(sizes)]
    for need in product(range(13), repeat=1):
        assert smallest_set({"gpu0": need[0]}, {}, offers) == list(range(-(-need[0] // 3)))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**20 // 2, "1.5 MiB"),
        (3328599654, "3.1 GiB"),
        (-(2**30), "-1.0 GiB"),
    ],
)
def test_sizes_for_people(size, text):
    assert say(size) == text
