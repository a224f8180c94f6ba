"""GPUs: driver well, memory free, library there. Asked is `nvidia-smi`, as a person would; no GPU is no fault.

Built and tested against stand-ins of nvidia-smi: no GPU was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from roundhouse.app.doctor import whose
from roundhouse.app.doctor.finding import error, note, ok, warning
from roundhouse.runtime import occupants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit

FIELDS = ("pci.bus_id", "uuid", "name", "driver_version", "compute_cap", "memory.total", "memory.used")
MUCH = 0.05
"""Share of a GPU's memory from which it matters that others hold it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One, as nvidia-smi tells it; sizes in MiB. `id` as Roundhouse names it: in the order of PCI addresses."""

    id: str
    uuid: str
    name: str
    driver: str
    capability: str
    total: int
    used: int


def check(visit: Visit) -> Iterator[Finding]:
    """Driver and memory of every GPU."""
    program = visit.program("nvidia-smi")
    if program is None:
        yield from _without(visit)
        return
    ran = visit.run([program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"])
    if ran.code != 0:
        yield error(
            "GPU", f"The NVIDIA driver does not work: {ran.said}", "reboot after a driver update; `dmesg | grep NVRM`"
        )
        return
    found = parse(ran.text)
    for gpu in found:
        yield ok(gpu.id, f"{gpu.name}, {gpu.total / 1024:.0f} GiB, driver {gpu.driver}, compute {gpu.capability}.")
    if find_spec("pynvml") is None:
        yield warning(
            "GPU",
            "GPU memory is read by running nvidia-smi every two seconds: the NVML package for Python is missing.",
            "pip install nvidia-ml-py",
        )
    yield from _holders(visit, program, found)


def find(visit: Visit) -> list[Gpu]:
    """The GPUs; [] without any, or with a driver that does not work."""
    program = visit.program("nvidia-smi")
    if program is None:
        return []
    ran = visit.run([program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"])
    return parse(ran.text) if ran.code == 0 else []


def parse(text: str) -> list[Gpu]:
    """nvidia-smi's lines of FIELDS. Figures that it does not tell ('[N/A]') are 0."""
    rows = sorted([part.strip() for part in line.split(",")] for line in text.splitlines() if line.count(",") >= 6)
    return [
        Gpu(f"gpu{index}", uuid, name, driver, capability, _number(total), _number(used))
        for index, (_, uuid, name, driver, capability, total, used, *_) in enumerate(rows)
    ]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _without(visit: Visit) -> Iterator[Finding]:
    if (visit.proc / "driver/nvidia/version").exists():
        yield warning("GPU", "A driver is loaded, but nvidia-smi is not on PATH.", "install the driver's utilities")
    else:
        yield note("GPU", "No NVIDIA GPU is seen: models run on the processor.")


def _holders(visit: Visit, program: str, found: list[Gpu]) -> Iterator[Finding]:
    """Who holds memory of a GPU and is not ours: the first thing to know when a model does not fit."""
    ran = visit.run([program, "--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits"])
    ours = {pid for pids in whose.members(visit).values() for pid in pids}
    users = _users(ran.text) if ran.code == 0 else []
    for gpu in found:
        foreign = [(pid, size) for uuid, pid, size in users if uuid == gpu.uuid and pid not in ours]
        taken, total = sum(size for _, size in foreign), f"{gpu.total / 1024:.0f} GiB"
        if taken > gpu.total * MUCH:
            names = ", ".join(_holder(visit, pid, size) for pid, size in sorted(foreign, key=lambda pair: -pair[1])[:3])
            yield warning(
                gpu.id,
                f"Programs that are not ours hold {taken / 1024:.1f} of its {total}: {names}.",
                f"end what nobody needs, or count it out: `devices: {{{gpu.id}: …}}`",
            )
        elif not ours and gpu.used > gpu.total * MUCH:
            yield note(gpu.id, f"{gpu.used / 1024:.1f} of its {total} are in use, and no engine of ours runs.")


def _users(text: str) -> list[tuple[str, int, int]]:
    """GPU's uuid, pid and MiB of each process that computes."""
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines()]
    return [(row[0], int(row[1]), _number(row[2])) for row in rows if len(row) == 3 and row[1].isdecimal()]


def _holder(visit: Visit, pid: int, size: int) -> str:
    command, user = occupants.command_of(pid, visit.proc), occupants.user_of(pid, visit.proc)
    told = f"{command}, user {user}" if command else "of a container or another machine's namespace"
    return f"pid {pid} ({told}, {size / 1024:.1f} GiB)"
