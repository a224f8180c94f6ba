"""Who runs on this machine, whose child it is and what memory it holds: one pass over /proc (proc(5)).

Reads files and nothing else; call it from a thread. It knows no instances and no devices.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Process:
    """One process as /proc/PID/stat tells it. `rss` is bytes, shared pages included."""

    pid: int
    parent: int
    name: str
    rss: int


@dataclass(frozen=True, slots=True)
class Resident:
    """A process's own share of memory, in bytes; `file` is the part that is cached file, such as mapped weights."""

    total: int
    file: int = 0


def scan(proc: Path) -> dict[int, Process]:
    """Every process, by pid. Those that end while it reads are left out."""
    page = os.sysconf("SC_PAGE_SIZE")
    found = {}
    for entry in os.scandir(proc):
        if entry.name.isdecimal() and (line := _read(f"{entry.path}/stat")):
            # The name is in brackets and may hold brackets and spaces itself.
            head, _, tail = line.rpartition(")")
            fields = tail.split()
            name = head.partition("(")[2]
            pid = int(entry.name)
            found[pid] = Process(pid, int(fields[1]), name, int(fields[21]) * page)
    return found


def tree(root: int, processes: Mapping[int, Process]) -> set[int]:
    """The pids of `root` and all its descendants that still live."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    members: set[int] = set()
    todo = [root] if root in processes else []
    while todo:
        pid = todo.pop()
        members.add(pid)
        todo += [child for child in children.get(pid, ()) if child not in members]
    return members


def resident(process: Process, proc: Path) -> Resident:
    """Its proportional share (PSS): a page that several map counts once over all of them.

    Of another user's process that is secret. Then it is all that it has in memory (RSS), shared or not: weights that
    two such engines share count twice, which is too much, never too little.
    """
    sizes = _sizes(_read(f"{proc}/{process.pid}/smaps_rollup"))
    if "Pss" in sizes:
        return Resident(sizes["Pss"], sizes.get("Pss_File", 0))
    return Resident(process.rss, _sizes(_read(f"{proc}/{process.pid}/status")).get("RssFile", 0))


def _sizes(text: str) -> dict[str, int]:
    """Bytes by name, of the lines of a file of /proc that tell one: `RssFile:      9432 kB`."""
    rows = (line.partition(":") for line in text.splitlines() if line.endswith(" kB"))
    return {key: int(size.removesuffix("kB")) * 1024 for key, _, size in rows}


def largest(sizes: Iterable[tuple[int, int]], processes: Mapping[int, Process], count: int = 3) -> tuple[str, ...]:
    """The biggest of (pid, bytes), in words: 'name (pid 123, 3.1 GiB)'."""
    ranked = sorted((pair for pair in sizes if pair[1] > 0), key=lambda pair: pair[1], reverse=True)
    return tuple(
        f"{processes[pid].name if pid in processes else 'unknown'} (pid {pid}, {size / _GIB:.1f} GiB)"
        for pid, size in ranked[:count]
    )


def _read(path: str) -> str:
    """A file of /proc; '' when the process has ended or isn't ours to look into. Plain calls: there are many."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, 16384).decode(errors="replace")
        finally:
            os.close(file)
    except OSError:
        return ""
