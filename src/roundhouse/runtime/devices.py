"""Reads memory: the machine's RAM, and NVIDIA GPUs through NVML. All sizes are bytes.

Knows where the figures are and what they mean; whose room it is, is the planner's business. Every reading is made in a
thread, so the loop never waits for the kernel or a driver.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roundhouse import ports
from roundhouse.ports import Reading
from roundhouse.runtime.processes import largest, resident, scan, tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from roundhouse.core.model import DeviceId, InstanceId
    from roundhouse.ports import DeviceReader

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
RAM: DeviceId = "ram"


def detect() -> list[DeviceReader]:
    """What this machine has: RAM always, GPUs where the library and the driver are. Blocks; call it from a thread."""
    gpus = NvmlReader.find()
    return [RamReader(), gpus] if gpus is not None else [RamReader()]


def combine(readers: Sequence[DeviceReader]) -> DeviceReader:
    """Several readers as one."""
    return _Combined(tuple(readers))


class RamReader:
    """The device `ram`: what the kernel could give to new programs, within the limits of our control groups.

    Mapped weights are page cache, which the kernel calls available although engines that lose it crawl. So what our
    trees map counts as used: `used` less `ours` then is what others use.
    """

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._proc = proc
        self._cgroups = cgroups

    async def read(self, trees: Mapping[InstanceId, int]) -> Reading:
        """As `DeviceReader`."""
        return await asyncio.to_thread(self._read, trees)

    def _read(self, trees: Mapping[InstanceId, int]) -> Reading:
        processes = scan(self._proc)
        members = {instance: tree(root, processes) for instance, root in trees.items()}
        sizes = {pid: resident(processes[pid], self._proc) for pids in members.values() for pid in pids}
        mapped = sum(size.file for size in sizes.values())
        total, available = self._room()
        foreign = [(p.pid, p.rss) for p in processes.values() if p.pid not in sizes and p.pid != os.getpid()]
        return Reading(
            total={RAM: total},
            used={RAM: min(total, total - available + mapped)},
            ours={instance: {RAM: sum(sizes[pid].total for pid in pids)} for instance, pids in members.items()},
            holders={RAM: largest(foreign, processes)},
        )

    def _room(self) -> tuple[int, int]:
        """Total and available bytes: of the machine, or of the tightest control group that we are in."""
        lines = (self._proc / "meminfo").read_text().splitlines()
        machine = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)}
        total, available = machine["MemTotal"], machine["MemAvailable"]
        for limit, used in _limits(self._proc, self._cgroups):
            if limit < machine["MemTotal"]:
                total = min(total, limit)
                available = min(available, max(0, limit - used))
        return total, available


def _limits(proc: Path, cgroups: Path) -> list[tuple[int, int]]:
    """Memory limit and use of our control group and each one above it; page cache is not use, as it can be dropped."""
    found: list[tuple[int, int]] = []
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, names, cache = cgroups, ("memory.max", "memory.current"), "file"
        elif "memory" in controllers.split(","):
            mount, names, cache = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_cache"
        else:
            continue
        group = mount / path.strip("/")
        folders = [folder for folder in (group, *group.parents) if folder.is_relative_to(mount)]
        found += [limit for folder in folders if (limit := _limit(folder, names, cache)) is not None]
    return found


def _limit(folder: Path, names: tuple[str, str], cache: str) -> tuple[int, int] | None:
    """Limit and use of one control group (cgroup-v2.rst, cgroup-v1/memory.rst); None where there is no limit."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in names)
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None  # the root group has no such files; in a container the path may lie outside what is mounted
    if limit == "max":
        return None
    shared = int(stat.get("total_shmem", stat.get("shmem", 0)))  # counted as cache, but can't be dropped
    return int(limit), int(used) - (int(stat.get(cache, 0)) - shared)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `uuid` names the same one to engines (CUDA_VISIBLE_DEVICES) whatever their own order is."""

    id: DeviceId
    uuid: str
    handle: Any


class NvmlReader:
    """NVIDIA GPUs, named gpu0, gpu1 … in the order of their PCI addresses. `nvml` is the module of nvidia-ml-py."""

    def __init__(self, nvml: ModuleType, gpus: Sequence[Gpu], proc: Path = PROC) -> None:
        self.gpus = tuple(gpus)
        self._nvml = nvml
        self._proc = proc

    @classmethod
    def find(cls, proc: Path = PROC) -> NvmlReader | None:
        """The GPUs of this machine with memory of their own; None if there is none, or no library or no driver."""
        try:
            import pynvml  # noqa: PLC0415  an extra; and loading a driver is not for machines that have none
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            handles.sort(key=lambda handle: _text(pynvml.nvmlDeviceGetPciInfo(handle).busId))
            uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        except pynvml.NVMLError:
            return None
        gpus = [Gpu(f"gpu{i}", uuid, handle) for i, (uuid, handle) in enumerate(zip(uuids, handles, strict=True))]
        reader = cls(pynvml, [gpu for gpu in gpus if _memory(pynvml, gpu) is not None], proc)
        return reader if reader.gpus else None

    async def read(self, trees: Mapping[InstanceId, int]) -> Reading:
        """As `DeviceReader`. A GPU that doesn't answer is left out."""
        return await asyncio.to_thread(self._read, trees)

    def _read(self, trees: Mapping[InstanceId, int]) -> Reading:
        processes = scan(self._proc)
        members = {instance: tree(root, processes) for instance, root in trees.items()}
        known = set().union(*members.values())
        total, used, holders = {}, {}, {}
        ours: dict[InstanceId, dict[DeviceId, int]] = {instance: {} for instance in trees}
        for gpu in self.gpus:
            memory = _memory(self._nvml, gpu)
            if memory is None:
                continue
            total[gpu.id], used[gpu.id] = memory
            by_pid = self._users(gpu)
            for instance, pids in members.items():
                ours[instance][gpu.id] = sum(size for pid, size in by_pid.items() if pid in pids)
            holders[gpu.id] = largest(((p, size) for p, size in by_pid.items() if p not in known), processes)
        names = {gpu.id: ports.Gpu(gpu.uuid, "nvidia", int(gpu.id.removeprefix("gpu"))) for gpu in self.gpus}
        return Reading(total, used, ours, holders, names)

    def _users(self, gpu: Gpu) -> dict[int, int]:
        """Bytes by pid. A process that computes and draws is in both lists with the same figure."""
        users: dict[int, int] = {}
        for ask in (self._nvml.nvmlDeviceGetComputeRunningProcesses, self._nvml.nvmlDeviceGetGraphicsRunningProcesses):
            try:
                found = ask(gpu.handle)
            except self._nvml.NVMLError:
                continue  # not for this kind of GPU
            for process in found:
                # None where the driver keeps it to itself (WSL, some containers).
                users[process.pid] = max(users.get(process.pid, 0), process.usedGpuMemory or 0)
        return users


def _memory(nvml: ModuleType, gpu: Gpu) -> tuple[int, int] | None:
    """Total and used; None where the GPU has no memory of its own (unified memory) or is lost."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu.handle)
    except nvml.NVMLError:
        return None
    return memory.total, memory.used


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # older releases of the library answer in bytes


@dataclass(frozen=True, slots=True)
class _Combined:
    readers: tuple[DeviceReader, ...]

    async def read(self, trees: Mapping[InstanceId, int]) -> Reading:
        """All readings as one; each device belongs to one reader."""
        total: dict[DeviceId, int] = {}
        used: dict[DeviceId, int] = {}
        ours: dict[InstanceId, dict[DeviceId, int]] = {}
        holders: dict[DeviceId, tuple[str, ...]] = {}
        names: dict[DeviceId, ports.Gpu] = {}
        for reader in self.readers:
            reading = await reader.read(trees)
            total.update(reading.total)
            used.update(reading.used)
            holders.update(reading.holders)
            names.update(reading.gpus)
            for instance, sizes in reading.ours.items():
                ours.setdefault(instance, {}).update(sizes)
        return Reading(total, used, ours, holders, names)
