"""Whether a loading engine still moves (spec C5): bytes read, memory growth, or its tree's CPU at a tenth of a core."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psutil

BUSY_SHARE = 0.1
"""Share of one core from which on a silent engine counts as working (compilers are silent for minutes)."""
GROWTH = 1 << 20
"""Bytes of memory or reads that count as movement."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process tree at one instant: CPU seconds, bytes read from files or devices, resident bytes."""

    cpu: float
    read: int
    resident: int


def sample(pid: int) -> Sample:
    """Adds up a process tree; processes that end meanwhile count as nothing."""
    cpu, read, resident = 0.0, 0, 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                cpu += times.user + times.system
                resident += process.memory_info().rss
                read += process.io_counters().read_chars
    return Sample(cpu, read, resident)


def moved(before: Sample, after: Sample, seconds: float) -> bool:
    """Whether the tree did anything in the `seconds` between two samples."""
    return (
        after.cpu - before.cpu >= BUSY_SHARE * seconds
        or after.read - before.read >= GROWTH
        or after.resident - before.resident >= GROWTH
    )
