"""How fast this machine reads weights: from a disk, and from memory. Blocking: call it from a thread.

A disk's rate is that of one of the model's own files, read past the page cache (O_DIRECT) for at most a second; that of
memory comes from reading the same bytes again. Measured once a month for each file system, and kept with its date.
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_BYTES, MOST_SECONDS = 256 << 20, 1.0
PIECE = 4 << 20
LEAST_BYTES = 8 << 20
"""Fewer say nothing."""
FRESH = 30 * 86_400.0
"""Seconds for which a measurement stands."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second of a disk (0: it can't be read past the cache) and of memory, and when that was measured."""

    disk: float
    cache: float
    at: float


class Links:
    """What was measured, by file system.

    Args:
        path: the file that keeps it.
    """

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._known: dict[str, Rates] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            told: dict[str, dict[str, Any]] = orjson.loads(path.read_bytes())
            self._known = {name: Rates(**rates) for name, rates in told.items()}

    def of(self, file: Path) -> Rates:
        """The rates for a file, measured if that is not known or too old. Raises OSError where it can't be read."""
        name = str(file.stat().st_dev)
        known = self._known.get(name)
        if known is None or self._wall() - known.at > FRESH:
            known = self._known[name] = measure(file, self._wall())
            self._write()
        return known

    def _write(self) -> None:
        with suppress(OSError):  # it is measured again then
            part = self._path.with_suffix(".part")
            part.write_bytes(orjson.dumps({name: asdict(rates) for name, rates in self._known.items()}))
            part.replace(self._path)


def measure(file: Path, at: float) -> Rates:
    """Reads some of a file. Raises OSError."""
    disk = 0.0
    with suppress(OSError):  # tmpfs and some others know no O_DIRECT
        disk = _rate(file, os.O_DIRECT)
    _rate(file, 0)  # into the cache, where it is not
    cache = _rate(file, 0)
    return Rates(disk or cache, cache, at)


def _rate(file: Path, flags: int) -> float:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | flags)
    done, began = 0, time.monotonic()
    try:
        with mmap.mmap(-1, PIECE) as buffer:  # O_DIRECT wants a page's alignment
            while done < MOST_BYTES and time.monotonic() - began < MOST_SECONDS:
                got = os.preadv(descriptor, [buffer], done)
                done += got
                if got < PIECE:
                    break
    finally:
        os.close(descriptor)
    spent = time.monotonic() - began
    return done / max(spent, 1e-6) if done >= LEAST_BYTES else 0.0
