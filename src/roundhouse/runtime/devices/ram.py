"""The machine's RAM as a device: what the kernel could give to new programs within the limits of our control groups."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from roundhouse.ports import Reading
from roundhouse.runtime.processes import largest, resident, scan, tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.core.model import DeviceId, InstanceId

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
RAM: DeviceId = "ram"


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
        total, available = room(self._proc, self._cgroups)
        foreign = [(p.pid, p.rss) for p in processes.values() if p.pid not in sizes and p.pid != os.getpid()]
        return Reading(
            total={RAM: total},
            used={RAM: min(total, total - available + mapped)},
            ours={instance: {RAM: sum(sizes[pid].total for pid in pids)} for instance, pids in members.items()},
            holders={RAM: largest(foreign, processes)},
        )


def room(proc: Path = PROC, cgroups: Path = CGROUPS) -> tuple[int, int]:
    """Total and available bytes: of the machine, or of the tightest control group that we are in."""
    machine = _meminfo(proc)
    total, available = machine["MemTotal"], machine["MemAvailable"]
    for group in _limits(proc, cgroups):
        if group.limit < machine["MemTotal"]:
            total = min(total, group.limit)
            available = min(available, group.available)
    return total, available


def unmapped(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Bytes that files could fill in the page cache and stay: what is available, less what some program has mapped.

    What lies in the page cache already counts too, as nobody needs it there.
    """
    machine = _meminfo(proc)
    within = [g.available - g.mapped for g in _limits(proc, cgroups) if g.limit < machine["MemTotal"]]
    return max(0, min([machine["MemAvailable"] - machine.get("Mapped", 0), *within]))


def pressure(proc: Path = PROC) -> float:
    """Per cent of the last 10 s in which some program waited for memory (accounting/psi.rst); 0 if it is not told."""
    try:
        fields = (proc / "pressure/memory").read_text().split()
        return next(float(field.partition("=")[2]) for field in fields if field.startswith("avg10="))
    except (OSError, StopIteration):  # built without it, or switched off
        return 0.0


def _meminfo(proc: Path) -> dict[str, int]:
    lines = (proc / "meminfo").read_text().splitlines()
    return {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)}


class _Group(NamedTuple):
    """Bytes of a control group: use without page cache, which can be dropped, and what is mapped of that cache."""

    limit: int
    used: int
    mapped: int

    @property
    def available(self) -> int:
        return max(0, self.limit - self.used)


def _limits(proc: Path, cgroups: Path) -> list[_Group]:
    """Those of our control group and of each one above it that have a limit."""
    found: list[_Group] = []
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


def _limit(folder: Path, names: tuple[str, str], cache: str) -> _Group | None:
    """One control group (cgroup-v2.rst, cgroup-v1/memory.rst); None where there is no limit."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in names)
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None  # the root group has no such files; in a container the path may lie outside what is mounted
    if limit == "max":
        return None
    shared = int(stat.get("total_shmem", stat.get("shmem", 0)))  # counted as cache, but can't be dropped
    mapped = int(stat.get("total_mapped_file", stat.get("file_mapped", 0)))
    return _Group(int(limit), int(used) - (int(stat.get(cache, 0)) - shared), mapped)
