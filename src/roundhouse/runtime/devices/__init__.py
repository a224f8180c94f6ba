"""Reads memory: the machine's RAM and its GPUs. All sizes are bytes.

Knows where the figures are and what they mean; whose room it is, is the planner's business. No reading blocks the loop:
files are read in a thread, drivers, which may hang, in a thread of their own or by a command, both with a time limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.ports import Reading
from roundhouse.runtime.devices.amd import RocmSmi
from roundhouse.runtime.devices.gpu import GpuReader
from roundhouse.runtime.devices.nvidia import NvidiaSmi
from roundhouse.runtime.devices.nvml import Nvml
from roundhouse.runtime.devices.ram import RAM, RamReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.core.model import DeviceId, InstanceId
    from roundhouse.ports import DeviceReader, Gpu

__all__ = ["RAM", "combine", "detect"]


async def detect() -> list[DeviceReader]:
    """What this machine has: RAM always; NVIDIA GPUs, then AMD ones, where a driver answers."""
    found: list[DeviceReader] = [RamReader()]
    nvidia = await GpuReader.find([Nvml(), NvidiaSmi()])
    if nvidia is not None:
        found.append(nvidia)
    amd = await GpuReader.find([RocmSmi()], first=nvidia.count if nvidia is not None else 0)
    if amd is not None:
        found.append(amd)
    return found


def combine(readers: Sequence[DeviceReader]) -> DeviceReader:
    """Several readers as one."""
    return _Combined(tuple(readers))


@dataclass(frozen=True, slots=True)
class _Combined:
    readers: tuple[DeviceReader, ...]

    async def read(self, trees: Mapping[InstanceId, int]) -> Reading:
        """All readings as one. A device belongs to one reader; what we hold there may come in parts from several."""
        total: dict[DeviceId, int] = {}
        used: dict[DeviceId, int] = {}
        ours: dict[InstanceId, dict[DeviceId, int]] = {}
        holders: dict[DeviceId, tuple[str, ...]] = {}
        gpus: dict[DeviceId, Gpu] = {}
        opaque: frozenset[DeviceId] = frozenset()
        for reader in self.readers:
            reading = await reader.read(trees)
            total.update(reading.total)
            used.update(reading.used)
            holders.update(reading.holders)
            gpus.update(reading.gpus)
            opaque |= reading.opaque
            for instance, sizes in reading.ours.items():
                held = ours.setdefault(instance, {})
                for device, size in sizes.items():
                    held[device] = held.get(device, 0) + size
        return Reading(total, used, ours, holders, gpus, opaque)
