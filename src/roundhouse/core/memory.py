"""The ledger: what is free on each device, counting what our engines hold or were promised and what others use.

An instance's claim counts from the decision to start it until its processes are gone and its memory is back (spec D2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    whole = {d: usable(fleet.devices[d]) for d, size in claim.items() if _is_whole(fleet, d, size)}
    return {**claim, **whole} if whole else claim


def _is_whole(fleet: Fleet, device: DeviceId, size: int) -> bool:
    return device in fleet.devices and size == fleet.devices[device].total and usable(fleet.devices[device]) > 0


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
    return all(size <= room.get(device, 0) for room in rooms for device, size in claim.items())


def lacking(claim: Claim, room: Mapping[DeviceId, int]) -> dict[DeviceId, int]:
    """Bytes missing per device."""
    return {device: size - room.get(device, 0) for device, size in claim.items() if size > room.get(device, 0)}


def smallest_set(claim: Claim, room: Room, offers: Iterable[tuple[int, Claim]]) -> list[int] | None:
    """The offers (in order of preference) that must leave so that `claim` fits; None if all of them are not enough.

    Taken in order until it fits; then every one that is not needed after all is given back, the least preferred first
    (a small early one may be needless once a large later one had to go).
    """
    chosen: list[tuple[int, Claim]] = []
    have = dict(room)
    for key, held in offers:
        if fits(claim, have):
            break
        missing = lacking(claim, have)
        if any(device in missing for device in held):
            chosen.append((key, held))
            give(have, held)
    if not fits(claim, have):
        return None
    for item in list(reversed(chosen)):
        without = dict(have)
        take(without, item[1])
        if fits(claim, without):
            chosen.remove(item)
            have = without
    return [key for key, _ in chosen]


def say(size: int) -> str:
    """A size for people: '3.1 GiB'."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(size) >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
