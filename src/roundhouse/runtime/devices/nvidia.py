"""NVIDIA GPUs through `nvidia-smi`, where NVML's Python package is missing or the library fails.

Its fields are told by `nvidia-smi --help-query-gpu` and `--help-query-compute-apps`. A figure that it can't tell is
written as `[N/A]`, `[Not Supported]`, `[Insufficient Permissions]` or `[GPU is lost]`.
"""

from __future__ import annotations

from roundhouse.runtime.devices.aside import LIMIT, Program
from roundhouse.runtime.devices.gpu import Card, Unreadable

GPUS = "pci.bus_id,uuid,memory.total,memory.used,mig.mode.current"
PROCESSES = "pid,gpu_uuid,used_memory"
FORMAT = "--format=csv,noheader,nounits"
WITHOUT_MEMORY = {"[N/A]", "N/A", "[Not Supported]"}
MIB = 1024**2
FOLDERS = ("/usr/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib", "/opt/bin")


class NvidiaSmi:
    """A source. Divided GPUs (MIG) are left out: it tells nothing of their slices' memory."""

    vendor = "nvidia"

    def __init__(self, limit: float = LIMIT) -> None:
        self._program = Program("nvidia-smi", FOLDERS, limit)

    async def cards(self) -> list[Card]:
        """As `Source`."""
        gpus = await self._program.run(f"--query-gpu={GPUS}", FORMAT)
        return parse(gpus, await self._program.run(f"--query-compute-apps={PROCESSES}", FORMAT))


def parse(gpus: str, processes: str) -> list[Card]:
    """The cards, from its lines of GPUS and PROCESSES. Raises Unreadable where the first are none.

    Without a working driver it writes a sentence instead ("NVIDIA-SMI has failed because …", "No devices were found").
    """
    rows = [row for row in _rows(gpus) if len(row) == 5]
    if not rows:
        raise Unreadable(gpus.strip()[:200] or "nvidia-smi says nothing")
    users: dict[str, dict[int, int | None]] = {}
    for row in _rows(processes):
        if len(row) == 3 and row[0].isdecimal():
            users.setdefault(row[1], {})[int(row[0])] = _bytes(row[2])
    return [
        card
        for place, uuid, total, used, mig in rows
        if mig != "Enabled" and (card := _card(place, uuid, total, used, users.get(uuid, {}))) is not None
    ]


def _card(place: str, uuid: str, total: str, used: str, users: dict[int, int | None]) -> Card | None:
    """None where it is lost."""
    if total in WITHOUT_MEMORY:
        return Card(uuid, place.lower(), None, users=users)
    all_of_it, taken = _bytes(total), _bytes(used)
    return Card(uuid, place.lower(), all_of_it, taken, users) if all_of_it and taken is not None else None


def _rows(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.split(",")] for line in text.splitlines()]


def _bytes(mib: str) -> int | None:
    return int(mib) * MIB if mib.isdecimal() else None
