"""Reads the devices again and again and tells the planner what others use, and what each engine occupies (D1, D2).

Between readings nothing runs here. One reading at a time; the loop is never blocked by it (the reader uses a thread).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from roundhouse.core.model import Device, Surveyed, is_seat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.core.model import Claim, DeviceId, Event, Fleet, InstanceId
    from roundhouse.ports import DeviceReader, Reading
    from roundhouse.runtime.peaks import Peaks

BUSY_EVERY, IDLE_EVERY = 2.0, 15.0
"""Seconds between readings while engines live or requests wait, and else."""
SETTLE_LIMIT = 30.0
"""Seconds for which an ended engine's memory is waited for (spec D2)."""
SETTLE_SHARE = 0.75
"""Part of an ended engine's memory that must be back; the rest may be somebody's new use (Ollama's figure)."""


STAYING_SHARE = 0.5
"""The same where the process stays; less than half back means that the unload did not work (seen with TabbyAPI)."""


class Survey:
    """Turns readings into events. `trees` gives the root pid of each instance, `budgets` the configured sizes."""

    def __init__(
        self,
        reader: DeviceReader,
        budgets: Mapping[DeviceId, int],
        fleet: Fleet,
        trees: Callable[[], dict[InstanceId, int]],
        post: Callable[[Event], None],
        peaks: Peaks,
    ) -> None:
        self._reader = reader
        self.budgets = budgets
        self._fleet = fleet
        self._trees = trees
        self._post = post
        self._peaks = peaks
        self._told: dict[InstanceId, int] = {}
        self._lock = asyncio.Lock()
        self.last: Reading | None = None

    async def run(self) -> None:
        """Reads until cancelled."""
        loop, due = asyncio.get_running_loop(), 0.0
        while True:
            if self._is_busy() or loop.time() >= due:
                await self.read()
                due = loop.time() + IDLE_EVERY
            await asyncio.sleep(BUSY_EVERY)

    def _is_busy(self) -> bool:
        """Whether an engine lives, or somebody may be waiting for memory that others hold."""
        return bool(self._fleet.instances or self._fleet.queued)

    async def read(self) -> Reading:
        """One reading, told to the planner."""
        async with self._lock:
            reading = await self._reader.read(self._trees())
            self.last = reading
        self._post(Surveyed(tuple(self._devices(reading))))
        for instance, sizes in reading.ours.items():
            self._measured(instance, sizes)
        for instance in self._told.keys() & self._fleet.instances.keys():
            self._hear(instance)
        self._peaks.forget()
        self._told = {instance: size for instance, size in self._told.items() if instance in self._fleet.instances}
        return reading

    def told(self, instance: InstanceId, size: int) -> None:
        """What an engine says it holds counts where nobody can measure it: on a GPU without per-process figures.

        Whether it can be measured, the next reading shows; without a process here it is known already.
        """
        self._told[instance] = size
        if instance not in self._trees():
            self._hear(instance)

    def _hear(self, instance: InstanceId) -> None:
        devices = [name for name in self._claim(instance) if not is_seat(name)]
        if len(devices) != 1 or self.last is None:
            return
        device = devices[0]
        seen = self.last.ours.get(instance, {})
        if not seen.get(device) and (device in self.last.opaque or device not in seen):
            self._measured(instance, {device: self._told[instance]})

    async def settled(self, instance: InstanceId, *, process_stays: bool = False) -> bool:
        """Waits until the memory of an engine that has ended is back; False if it is not within 30 s.

        What is missing then counts as others' use. A process that stays keeps a part for itself: CUDA's context.
        """
        share = STAYING_SHARE if process_stays else SETTLE_SHARE
        held = {d: size for d, size in self._peaks.of(instance).items() if not _returned_by_kernel(d)}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_LIMIT
        before = dict(self.last.used) if self.last else {}
        delay = 0.02
        while held and loop.time() < deadline:
            reading = await self.read()
            # Of a device that can't be read nothing is known to be back.
            back = (
                d in reading.used and before.get(d, 0) - reading.used[d] >= size * share for d, size in held.items()
            )
            if all(back):
                return True
            await asyncio.sleep(delay)
            delay = min(0.5, delay * 1.5)
        if held:
            return False
        if self.last is not None and any(d in self.last.opaque for d in self._claim(instance)):
            await self.read()  # how much it held is not known, so what is used now is what counts
        return True

    def _devices(self, reading: Reading) -> list[Device]:
        found = []
        for name, total in reading.total.items():
            ours = sum(self._held(instance, name, reading) for instance in reading.ours)
            foreign = max(0, reading.used.get(name, 0) - ours)
            holders = reading.holders.get(name, ())
            found.append(Device(name, self.budgets.get(name, total), total, foreign, holders))
        return found

    def _held(self, instance: InstanceId, device: DeviceId, reading: Reading) -> int:
        """What an instance of ours holds, as measured.

        Where its GPU keeps that to itself, it is what it was promised: else it would count twice, as others' use too.
        """
        size = reading.ours[instance].get(device, 0)
        if not size and device in reading.opaque:
            return self._claim(instance).get(device, 0)
        return size

    def _claim(self, instance: InstanceId) -> Claim:
        model = self._fleet.instances.get(instance)
        found = self._fleet.models[model].instance if model is not None else None
        return found.claim if found is not None else {}

    def _measured(self, instance: InstanceId, sizes: Mapping[DeviceId, int]) -> None:
        event = self._peaks.note(instance, sizes)
        if event is not None:
            self._post(event)


def _returned_by_kernel(device: DeviceId) -> bool:
    """RAM is free when the process is gone; a GPU's driver may take longer."""
    return device == "ram"
