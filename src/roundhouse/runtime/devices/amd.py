"""AMD GPUs through `rocm-smi`, and what the kernel says of each process (amdkfd's files in /sys).

rocm-smi (ROCm 5 to 7) prints one JSON object: `card0` … with the figures of each card as texts, and `system` with
`"PID1234": "llama-server, 1, 15053770752, 0, unknown"` for a process: its name, on how many GPUs it is, the bytes it
holds on all of them together, and two figures that don't matter here. Warnings may stand before it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roundhouse.runtime.devices.aside import LIMIT, Program
from roundhouse.runtime.devices.gpu import Card, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDERS = ("/opt/rocm/bin", "/usr/bin")
ARGUMENTS = ("--showmeminfo", "vram", "--showbus", "--showuniqueid", "--showid", "--showpids", "--json")
TOTAL, USED = "VRAM Total Memory (B)", "VRAM Total Used Memory (B)"
KFD = Path("/sys/class/kfd/kfd/proc")
PROCESS = re.compile(r"PID\s*(?P<pid>\d+)")
HOLDS = re.compile(r"(?P<gpus>\d+|UNKNOWN), (?P<bytes>\d+|UNKNOWN), [^,]*, [^,]*$")
"""The end of a process's line: its name may have commas."""


class RocmSmi:
    """A source."""

    vendor = "amd"

    def __init__(self, limit: float = LIMIT, kfd: Path = KFD) -> None:
        self._program = Program("rocm-smi", FOLDERS, limit)
        self._kfd = kfd

    async def cards(self) -> list[Card]:
        """As `Source`."""
        return parse(await self._program.run(*ARGUMENTS), self._kfd)


def parse(text: str, kfd: Path = KFD) -> list[Card]:
    """The cards that it tells the memory of. Raises Unreadable where there is no JSON, as without a driver."""
    start = text.find("{")
    try:
        told = json.loads(text[start:]) if start >= 0 else None
    except ValueError as error:
        raise Unreadable("rocm-smi's answer is no JSON") from error
    if not isinstance(told, dict):
        raise Unreadable(text.strip()[:200] or "rocm-smi says nothing")
    system = told.get("system")
    holders = _holders(system if isinstance(system, dict) else {})
    cards = {
        key.removeprefix("card"): card
        for key, card in told.items()
        if key.startswith("card") and isinstance(card, dict) and str(card.get(TOTAL, "")).isdecimal()
    }
    return [_card(index, card, holders, len(cards), kfd) for index, card in cards.items()]


def _card(
    index: str, card: Mapping[str, Any], holders: Mapping[int, tuple[int, int | None]], count: int, kfd: Path
) -> Card:
    users: dict[int, int | None] = {}
    for pid, (gpus, size) in holders.items():
        part = _part(kfd / str(pid), str(card.get("GUID", "")))
        if part is None and (count == 1 or gpus == 0):
            part = size
        # On one of several GPUs, and nothing tells on which: it may be this one.
        if part != 0:
            users[pid] = part
    place = str(card.get("PCI Bus", f"~{index:0>4}")).lower()
    return Card(_uuid(card.get("Unique ID"), index), place, int(card[TOTAL]), int(card.get(USED, 0)), users)


def _holders(system: Mapping[str, Any]) -> dict[int, tuple[int, int | None]]:
    """On how many GPUs each process is, and the bytes that it holds on all of them, None where that isn't told."""
    found: dict[int, tuple[int, int | None]] = {}
    for key, value in system.items():
        process, holds = PROCESS.fullmatch(key), HOLDS.search(str(value))
        if process and holds:
            gpus, size = holds["gpus"], holds["bytes"]
            found[int(process["pid"])] = (
                int(gpus) if gpus.isdecimal() else 1,
                int(size) if size.isdecimal() else None,
            )
    return found


def _part(folder: Path, guid: str) -> int | None:
    """Bytes of a process on the GPU of this id (rocm-smi's GUID is amdkfd's gpu_id), None where that isn't told."""
    try:
        return int((folder / f"vram_{guid}").read_text())
    except (OSError, ValueError):
        return None


def _uuid(unique: object, index: str) -> str:
    """As ROCR_VISIBLE_DEVICES takes it: `GPU-` and 16 hex digits; processors' own graphics have none, but an index."""
    try:
        number = int(str(unique), 16)
    except ValueError:
        return index
    return f"GPU-{number:016x}"
