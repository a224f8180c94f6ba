"""Durations, sizes and rates as people write them (spec C1): a number with a unit, never a bare number.

Results are plain figures: seconds, bytes, events per seconds. Errors are `ValueError` with the remedy in the message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DURATIONS = MappingProxyType({"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})
SIZES: Mapping[str, int] = MappingProxyType(
    {
        "B": 1,
        **{prefix + "iB": 1024**power for power, prefix in enumerate("KMGT", 1)},
        **{prefix + "B": 1000**power for power, prefix in enumerate("kMGT", 1)},
    }
)
COUNTS = MappingProxyType({"": 1, "k": 1000, "M": 1_000_000, "G": 1_000_000_000})

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]?)\s*/\s*([a-z]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `seconds`."""

    count: int
    seconds: float

    def __str__(self) -> str:
        """As a file has it: `60/m`."""
        unit = next((name for name, seconds in DURATIONS.items() if seconds == self.seconds), f"{self.seconds:g}s")
        return f"{self.count}/{unit}"


def duration(text: object) -> float:
    """Seconds of `30s`, `1.5h`, `250ms`. Raises ValueError for anything else, a bare number included."""
    number, unit = _quantity(text, "a duration", "10s, 5m or 250ms")
    if unit not in DURATIONS:
        raise ValueError(_unknown_unit(text, unit, "a duration", tuple(DURATIONS), example=f"{number:g}s"))
    return number * DURATIONS[unit]


def size(text: object) -> int:
    """Bytes of `64MiB` (binary) or `20GB` (decimal). Raises ValueError for anything else, a bare number included."""
    number, unit = _quantity(text, "a size", "512MiB, 8GiB or 20GB")
    if unit not in SIZES:
        raise ValueError(_unknown_unit(text, unit, "a size", tuple(SIZES), example=f"{number:g}GiB"))
    return round(number * SIZES[unit])


def rate(text: object) -> Rate:
    """A rate as in `60/m` or `1M/d`. Raises ValueError for anything else."""
    matched = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if matched is None or matched[2] not in COUNTS or matched[3] not in DURATIONS:
        raise ValueError(f"{text!r} is not a rate; write a number per time, such as 60/m or 1M/d")
    count = round(float(matched[1]) * COUNTS[matched[2]])
    if count < 1:
        raise ValueError(f"{text!r} allows nothing; write at least 1 per time, such as 1/d")
    return Rate(count, DURATIONS[matched[3]])


def spell_duration(seconds: float) -> str:
    """As a file has it, in the largest unit that needs no fraction: `5m`, `1500ms`."""
    milliseconds = round(seconds * 1000)
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % length == 0 and (milliseconds or unit == "s"):
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"


def spell_size(count: int) -> str:
    """As a file has it, in the largest binary unit that needs no fraction: `64MiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count >= SIZES[unit] and count % SIZES[unit] == 0:
            return f"{count // SIZES[unit]}{unit}"
    return f"{count}B"


def _quantity(text: object, what: str, examples: str) -> tuple[float, str]:
    matched = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if isinstance(text, int | float) and not isinstance(text, bool):
        matched = _QUANTITY.fullmatch(repr(text))
    if matched is None:
        raise ValueError(f"{text!r} is not {what}; write {examples}")
    return float(matched[1]), matched[2]


def _unknown_unit(text: object, unit: str, what: str, units: tuple[str, ...], example: str) -> str:
    known = ", ".join(units)
    if not unit:
        return f"{text!r} has no unit, so it is not {what}; write for example {example} (units: {known})"
    near = next((name for name in units if name.lower() == unit.lower()), None)
    remedy = f"did you mean {near!r}?" if near else f"write for example {example}"
    return f"{text!r} has the unknown unit {unit!r}; {remedy} (units: {known})"
