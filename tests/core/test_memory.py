"""The ledger, held against brute force."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.memory import Offer, fits, free, give, lacking, least_regret_set, say, take, usable, wanted
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
    for offer in offers:
        give(have, offer.claim)
    return have


def _regret(offers):
    return tuple(sum(offer.regret[part] for offer in offers) for part in range(3))


REGRETS = st.tuples(st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, 1]), st.integers(0, 9))


@given(CLAIMS, ROOMS, st.lists(st.tuples(CLAIMS, REGRETS), max_size=6))
def test_d9_the_least_regret_set_is_sufficient_minimal_and_the_least_of_all(claim, room, held):
    offers = [Offer(key, size, regret) for key, (size, regret) in enumerate(held)]
    before = dict(room)
    found = least_regret_set(claim, room, offers)
    assert room == before, "the room was changed"
    if found is None:
        assert not fits(claim, _with(room, offers))
        return
    chosen, regret = found
    assert fits(claim, _with(room, chosen))
    for one in chosen:
        assert not fits(claim, _with(room, [o for o in chosen if o is not one])), "one leaves without need"
    assert regret == _regret(chosen) == _brute_force(claim, room, offers)


@pytest.mark.parametrize("seed", range(400))
def test_d9_the_least_regretted_set_leaves_and_nobody_without_need(seed):
    """Boxes with several ways to make room, of which some are regretted not at all."""
    rnd = random.Random(seed)
    devices = ["gpu0", "gpu1"][: rnd.randint(1, 2)]
    offers = [
        Offer(n, {d: rnd.randint(0, 6) for d in devices}, (rnd.choice((0, 0, 1)), rnd.choice((0, 0, 1)), rnd.choice((0.0, 1.0, 1.5, 4.0))))
        for n in range(rnd.randint(4, 8))
    ]  # fmt: skip
    claim, room = {d: rnd.randint(4, 16) for d in devices}, {d: rnd.randint(-2, 3) for d in devices}
    found = least_regret_set(claim, room, offers)
    if found is None:
        assert not fits(claim, _with(room, offers))
        return
    chosen, regret = found
    assert regret == _regret(chosen) == _brute_force(claim, room, offers)
    for one in chosen:
        assert not fits(claim, _with(room, [o for o in chosen if o is not one])), "one leaves without need"


def _brute_force(claim, room, offers):
    sets = ([o for o, m in zip(offers, mask, strict=True) if m] for mask in product((False, True), repeat=len(offers)))
    return min(_regret(chosen) for chosen in sets if fits(claim, _with(room, chosen)))


def keys(found):
    return sorted(offer.key for offer in found[0])


def test_d9_a_small_one_stays_when_the_large_one_has_to_go():
    offers = [
        Offer(1, {"gpu0": 2}, (0, 0, 1.0)),
        Offer(2, {"gpu0": 8}, (0, 0, 2.0)),
        Offer(3, {"gpu0": 8}, (0, 0, 3.0)),
    ]

    def leaving(need, room=0):
        found = least_regret_set({"gpu0": need}, {"gpu0": room}, offers)
        return keys(found) if found is not None else None

    assert leaving(7) == [2]
    assert leaving(10) == [1, 2]
    assert leaving(2) == [1]
    assert leaving(2, room=2) == []
    assert leaving(19) is None


def test_d9_several_cheap_ones_go_before_a_dear_one_and_a_dear_one_before_many():
    cheap = [Offer(n, {"gpu0": 2}, (0, 0, 1.0)) for n in range(4)]
    assert keys(least_regret_set({"gpu0": 6}, {}, [*cheap, Offer(9, {"gpu0": 6}, (0, 0, 3.5))])) == [0, 1, 2]
    assert keys(least_regret_set({"gpu0": 6}, {}, [*cheap, Offer(9, {"gpu0": 6}, (0, 0, 2.5))])) == [9]


def test_d9_protected_and_busy_ones_go_last_whatever_they_cost():
    protected, busy = Offer(1, {"gpu0": 6}, (1, 0, 0.0)), Offer(2, {"gpu0": 6}, (0, 1, 0.0))
    idle = [Offer(n, {"gpu0": 2}, (0, 0, 100.0)) for n in (3, 4, 5)]
    assert keys(least_regret_set({"gpu0": 6}, {}, [protected, busy, *idle])) == [3, 4, 5]
    assert keys(least_regret_set({"gpu0": 6}, {}, [protected, busy, *idle[1:]])) == [2]
    assert keys(least_regret_set({"gpu0": 6}, {}, [protected, *idle[1:]])) == [1]


def test_d9_who_holds_nothing_that_is_missing_is_passed_over():
    offers = [Offer(1, {"gpu1": 8}, (0, 0, 0.0)), Offer(2, {"gpu0": 2}, (0, 0, 1.0))]
    assert keys(least_regret_set({"gpu0": 2, "gpu1": 1}, {"gpu0": 0, "gpu1": 1}, offers)) == [2]


def test_d9_with_very_many_offers_the_set_is_still_sufficient_and_minimal():
    offers = [Offer(n, {"gpu0": 1 + n * 7 % 5}, (0, 0, 1.0 + n * 11 % 13)) for n in range(60)]
    chosen = least_regret_set({"gpu0": 97}, {}, offers)[0]
    assert fits({"gpu0": 97}, _with({}, chosen))
    for one in chosen:
        assert not fits({"gpu0": 97}, _with({}, [o for o in chosen if o is not one]))


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
