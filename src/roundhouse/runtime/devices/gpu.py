"""GPUs as devices: named, counted per process tree, read from whichever source answers.

A source (NVML, a vendor's program) says what each card holds and for whom; here that becomes a `Reading`. A card that
can't be read now is left out of it: the planner then goes on with the last figures that it has, and nobody waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from roundhouse.ports import Gpu, Reading
from roundhouse.runtime.devices.ram import PROC, RAM
from roundhouse.runtime.processes import largest, scan, tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from roundhouse.core.model import DeviceId, InstanceId
    from roundhouse.runtime.processes import Process

SCARCE = 2 * 1024**3
"""Bytes below which a card is no place for models: what firmware sets aside for a processor's own graphics."""


class Unreadable(Exception):
    """A source doesn't answer: no library, no program, no driver, or it hangs."""


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU, or one slice of it (MIG), as just read.

    Attributes:
        uuid: names the same one to engines, whatever their own order is.
        place: sorts cards by their PCI address.
        total, used: bytes; `total` is None where it has no memory of its own, but shares the machine's.
        users: bytes by pid, None where the driver keeps them to itself (WSL, some containers).
    """

    uuid: str
    place: str
    total: int | None
    used: int = 0
    users: Mapping[int, int | None] = field(default_factory=dict)


class Source(Protocol):
    """Where figures of GPUs come from. `vendor` is whose GPUs they are: nvidia or amd."""

    vendor: str

    async def cards(self) -> list[Card]:
        """All that answer, in any order. Raises Unreadable within a few seconds where none does."""
        ...


class GpuReader:
    """Cards named gpu0, gpu1 … in the order of their PCI addresses, as they were found at the start.

    Each reading asks the first source that answers, so a library that fails later is replaced by the program.
    """

    def __init__(self, sources: Sequence[Source], names: Mapping[str, DeviceId], proc: Path = PROC) -> None:
        """`names` is the device by the card's UUID; cards that came later have none and are left out."""
        self._sources = tuple(sources)
        self._names = dict(names)
        self._proc = proc
        self.count = len(names)

    @classmethod
    async def find(cls, sources: Sequence[Source], *, first: int = 0, proc: Path = PROC) -> GpuReader | None:
        """The GPUs of this machine, numbered from `first` on; None if no source knows any."""
        _, cards = await _ask(sources)
        if not cards:
            return None
        places = [
            card for card in sorted(cards, key=lambda card: card.place) if card.total is None or card.total >= SCARCE
        ]
        return cls(sources, {card.uuid: f"gpu{first + n}" for n, card in enumerate(places)}, proc)

    async def read(self, trees: Mapping[InstanceId, int]) -> Reading:
        """As `DeviceReader`. Empty when no source answers."""
        vendor, cards = await _ask(self._sources)
        named = {name: card for card in cards if (name := self._names.get(card.uuid)) is not None}
        if not named:
            return Reading({}, {})
        processes = await asyncio.to_thread(scan, self._proc)
        members = {instance: tree(root, processes) for instance, root in trees.items()}
        return _reading(named, vendor, members, processes)


async def _ask(sources: Sequence[Source]) -> tuple[str, list[Card]]:
    for source in sources:
        try:
            return source.vendor, await source.cards()
        except Unreadable:
            continue
    return "", []


def _reading(
    cards: Mapping[DeviceId, Card],
    vendor: str,
    members: Mapping[InstanceId, set[int]],
    processes: Mapping[int, Process],
) -> Reading:
    known = set().union(*members.values())
    own = {name: card for name, card in cards.items() if card.total is not None}
    ours: dict[InstanceId, dict[DeviceId, int]] = {instance: {} for instance in members}
    for name, card in cards.items():
        # What is taken of memory that a GPU shares with the machine is in no process's resident pages.
        device = name if name in own else RAM
        for instance, pids in members.items():
            size = sum(size or 0 for pid, size in card.users.items() if pid in pids)
            if name in own or size:
                ours[instance][device] = ours[instance].get(device, 0) + size
    foreign = {
        name: [(pid, size or 0) for pid, size in card.users.items() if pid not in known] for name, card in own.items()
    }
    return Reading(
        total={name: card.total for name, card in own.items() if card.total is not None},
        used={name: card.used for name, card in own.items()},
        ours=ours,
        holders={name: largest(sizes, processes) for name, sizes in foreign.items()},
        gpus={name: Gpu(card.uuid, vendor, address=card.place) for name, card in own.items()},
        opaque=frozenset(name for name, card in own.items() if _keeps_to_itself(card, processes)),
    )


def _keeps_to_itself(card: Card, processes: Mapping[int, Process]) -> bool:
    """Whether a process that is not listed may hold something all the same: sizes or pids are not told, or not ours."""
    return not card.users or any(size is None or pid not in processes for pid, size in card.users.items())
