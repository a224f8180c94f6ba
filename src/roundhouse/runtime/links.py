"""How fast this machine moves weights: from a disk, from memory, to a GPU. Blocking: call it from a thread.

A disk's rate is that of one of the model's own files, read past the page cache (O_DIRECT) for at most a second; that of
memory comes from reading the same bytes again. Measured once a month for each file system, and kept with its date.

The way to a GPU is not measured, as nothing of ours runs there: it is the most that its PCIe link can carry.
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from roundhouse.core.model import DeviceId
    from roundhouse.ports import Gpu

MOST_BYTES, MOST_SECONDS = 256 << 20, 1.0
PIECE = 4 << 20
LEAST_BYTES = 8 << 20
"""Fewer say nothing."""
FRESH = 30 * 86_400.0
"""Seconds for which a measurement stands."""
PCI = Path("/sys/bus/pci/devices")
_LANE: Final = {"2.5": 0.25e9, "5.0": 0.5e9, "8.0": 0.985e9, "16.0": 1.969e9, "32.0": 3.938e9, "64.0": 7.563e9}
"""Bytes per second of one lane by GT/s, after its line code (PCI Express Base Specification: 8b/10b, 128b/130b)."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second of a disk (0: it can't be read past the cache) and of memory, and when that was measured."""

    disk: float
    cache: float
    at: float


class Links:
    """What was measured, by file system; and the ways to GPUs.

    Args:
        path: the file that keeps it.
        gpus: the machine's.
    """

    def __init__(
        self, path: Path, gpus: Mapping[DeviceId, Gpu] | None = None, wall: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._gpus = gpus or {}
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

    def to(self, devices: Iterable[DeviceId]) -> float:
        """Bytes per second to all the GPUs among `devices` at once; 0 where none is, or one's way is not known."""
        # Slices of one GPU share its link.
        addresses = {self._gpus[device].address.partition("/")[0] for device in devices if device in self._gpus}
        rates = [bus(address) for address in addresses]
        return sum(rates) if all(rates) else 0.0

    def _write(self) -> None:
        with suppress(OSError):  # it is measured again then
            part = self._path.with_suffix(".part")
            part.write_bytes(orjson.dumps({name: asdict(rates) for name, rates in self._known.items()}))
            part.replace(self._path)


def bus(address: str, devices: Path = PCI) -> float:
    """The most bytes per second that go to a GPU: of its link and those before it, the narrowest. 0: not known.

    Args:
        address: on the PCI bus, as a driver writes it, the domain in four or eight digits.
        devices: where the kernel lists them (Documentation/ABI/testing/sysfs-bus-pci).
    """
    domain, _, rest = address.lower().partition(":")
    place = devices / f"{domain[-4:]}:{rest}"
    if not rest or not place.exists():
        return 0.0
    rates = []
    for part in (real := place.resolve(), *real.parents):
        # What it can do: what it does now falls while the GPU is idle.
        with suppress(OSError, ValueError):
            lanes = int((part / "max_link_width").read_text())
            rates.append(_LANE.get((part / "max_link_speed").read_text().split()[0], 0.0) * lanes)
    return min((rate for rate in rates if rate), default=0.0)


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
