"""The ledger: what is free on each device, counting what our engines hold or were promised and what others use.

An instance's claim counts from the decision to start it until its processes are gone and its memory is back (spec D2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.core.model import Claim, Device, DeviceId, Fleet

Room = dict[str, int]
"""Bytes per device; negative = promised to somebody already."""


def usable(device: Device) -> int:
    """Bytes that our engines may hold together: the budget, less what others use of it.

    Others are first taken to use what lies outside the budget (physical - total); only the rest is ours to miss.
    """
    outside = max(0, device.physical - device.total)
    return device.total - max(0, device.foreign - outside)


def wanted(fleet: Fleet, claim: Claim) -> Claim:
    """What a claim comes to now: that of a whole device is for all that others leave of it, so it runs alone there."""
    for device, size in claim.items():
        found = fleet.devices.get(device)
        if found is not None and size == found.total and found.foreign and 0 < (left := usable(found)) != size:
            claim = {**claim, device: left}
    return claim


def free(fleet: Fleet) -> Room:
    """What is left on each device beside everything that lives."""
    room = {device.id: usable(device) for device in fleet.devices.values()}
    for instance in fleet.live():
        take(room, instance.claim)
    return room


def take(room: Room, claim: Claim) -> None:
    """Writes a claim down."""
    for device, size in claim.items():
        room[device] = room.get(device, 0) - size


def give(room: Room, claim: Claim) -> None:
    """Crosses a claim out."""
    for device, size in claim.items():
        room[device] = room.get(device, 0) + size


def fits(claim: Claim, *rooms: Mapping[DeviceId, int]) -> bool:
    """Whether a claim fits into every one of the rooms."""
    for room in rooms:  # loops, as this is asked more often than anything else
        for device, size in claim.items():
            if size > room.get(device, 0):
                return False
    return True


def lacking(claim: Claim, room: Mapping[DeviceId, int]) -> dict[DeviceId, int]:
    """Bytes missing per device."""
    return {device: size - room.get(device, 0) for device, size in claim.items() if size > room.get(device, 0)}


Regret = tuple[int, int, float]
"""What is lost when somebody leaves: how many of them are protected, how many are busy, what coming back would cost.
Compared in this order, so that the first two are lost only for want of another way."""
NO_REGRET: Regret = (0, 0, 0.0)
MOST_TRIALS = 500
"""Sets looked at: all there are of up to eight offers, the most promising ones of more."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A place that somebody would leave: whose, what it frees, and with what regret (none of its figures negative)."""

    key: int
    claim: Claim
    regret: Regret


def least_regret_set(claim: Claim, room: Room, offers: Sequence[Offer]) -> tuple[list[Offer], Regret] | None:
    """Who must leave so that `claim` fits, and the regret in all; None if all of them together are not enough.

    The set of the least regret, of which none could stay. Found by branch and bound from a first good guess; with very
    many offers, the best of those looked at.
    """
    missing = lacking(claim, room)
    for device, size in missing.items():
        if sum([offer.claim.get(device, 0) for offer in offers]) < size:
            return None
    useful = [offer for offer in offers if any(size and device in missing for device, size in offer.claim.items())]
    useful.sort(key=lambda offer: (*_density(offer, missing), offer.key))
    search = _Search(claim, useful)
    search.guess(room)
    if search.best is None:
        return None
    search.run(room, 0, [], NO_REGRET)
    return search.best, search.regret


def _density(offer: Offer, missing: Mapping[DeviceId, int]) -> Regret:
    """Regret for each part of what is missing that it frees: the small ones are taken first."""
    part = sum(min(offer.claim.get(device, 0), size) / size for device, size in missing.items())
    protected, busy, cost = offer.regret
    return (protected, busy, cost / part)


def add_regret(one: Regret, other: Regret) -> Regret:
    """Both together."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])


class _Search:
    """The best set so far, and how many were looked at."""

    def __init__(self, claim: Claim, offers: Sequence[Offer]) -> None:
        self._claim = claim
        self._offers = offers
        self._trials = 0
        self.best: list[Offer] | None = None
        self.regret = NO_REGRET

    def guess(self, room: Room) -> None:
        """Takes offers in their order until it fits, and gives back what turned out to be needless, the worst first."""
        have, chosen = dict(room), []
        for offer in self._offers:
            if fits(self._claim, have):
                break
            if any(device in lacking(self._claim, have) for device in offer.claim):
                chosen.append(offer)
                give(have, offer.claim)
        if fits(self._claim, have):
            self._keep(self._needed(have, chosen))

    def run(self, room: Room, start: int, chosen: list[Offer], regret: Regret) -> None:
        """Tries every set of the offers from `start` on beside those chosen, as long as it can be better."""
        self._trials += 1
        if self.best is not None and regret >= self.regret:
            return
        if fits(self._claim, room):
            self._keep(self._needed(room, chosen))
            return
        for number in range(start, len(self._offers)):
            if self._trials > MOST_TRIALS:
                return
            offer = self._offers[number]
            have = dict(room)
            give(have, offer.claim)
            self.run(have, number + 1, [*chosen, offer], add_regret(regret, offer.regret))

    def _needed(self, after: Room, chosen: list[Offer]) -> list[Offer]:
        """Of those whose leaving makes it this room, the ones who can't stay; who is regretted most may stay first."""
        have, kept = dict(after), list(chosen)
        for offer in sorted(chosen, key=lambda offer: (offer.regret, offer.key), reverse=True):
            without = dict(have)
            take(without, offer.claim)
            if fits(self._claim, without):
                kept.remove(offer)
                have = without
        return kept

    def _keep(self, chosen: list[Offer]) -> None:
        regret = NO_REGRET
        for offer in chosen:
            regret = add_regret(regret, offer.regret)
        if self.best is None or regret < self.regret:
            self.best, self.regret = chosen, regret


def say(size: int) -> str:
    """A size for people: '3.1 GiB'."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(size) >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
