"""The machine's RAM as a device: what the kernel could give to new programs within the limits of our control groups."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

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
