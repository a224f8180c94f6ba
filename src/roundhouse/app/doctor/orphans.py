"""What was left behind: engines without keeper, files of dead keepers; and engines of others (spec E3, B10)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from roundhouse.app.doctor import whose
from roundhouse.app.doctor.finding import note, ok, warning
from roundhouse.engines import ENGINES
from roundhouse.runtime import occupants
from roundhouse.runtime.processes import scan, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.runtime.processes import Process

ENGINE_NAMES = re.compile(r"llama-server|sglang::\S+|VLLM::\S+")
"""Process names (15 bytes of them) under which engines run: sglang and vllm name their workers so."""
FIX = "roundhouse doctor --fix"


def check(visit: Visit) -> Iterator[Finding]:
    """Ours, then files, then others'."""
    try:
        strays = whose.without_keeper(visit)
        files = leftovers(visit)
    except OSError as problem:
        yield warning("keepers", f"It can't be told which keepers live: {problem}.", "look at it as the same user")
        return
    ours = {pid: mark for pid, mark in strays.items() if mark.install == visit.install}
    for pid, mark in ours.items():
        command = occupants.command_of(pid, visit.proc)
        yield warning(mark.model, f"An engine process was left without its keeper: pid {pid} ({command}).", FIX)
    for path in files:
        yield note(str(path), "A dead keeper left it.", f"{FIX}, or the next start of Roundhouse, removes it")
    if not ours and not files:
        yield ok("orphans", "Nothing of ours was left behind.")
    yield from _others(visit)


def leftovers(visit: Visit) -> list[Path]:
    """Sockets that nobody listens on, and logs without a socket. Raises OSError as `keepers` does."""
    sockets = whose.keepers(visit)
    stems = {path.stem for path in sockets}
    logs = [
        path
        for path in sorted((visit.config.state_dir / "logs").glob("*.log*"))
        if re.fullmatch("[0-9a-f]{8}", path.name.partition(".")[0]) and path.name.partition(".")[0] not in stems
    ]
    return [*(path for path, pid in sockets.items() if pid is None), *logs]


def _others(visit: Visit) -> Iterator[Finding]:
    """Engines that run here and are not ours: told, as they hold memory, and left alone."""
    marks, processes = occupants.marked(visit.proc), scan(visit.proc)
    mine = tree(os.getpid(), processes)  # another check may be trying an engine's program just now
    for pid, process in sorted(processes.items()):
        mark = marks.get(pid)
        if mark is not None and mark.install != visit.install:
            what = f"It is an engine of another Roundhouse ({mark.install}, model {mark.model}): left alone."
            yield note(f"pid {pid}", what)
        elif mark is None and pid not in mine and _is_engine(process.name) and not whose.in_our_unit(visit, pid):
            yield _foreign(visit, process)


def _foreign(visit: Visit, process: Process) -> Finding:
    user, command = occupants.user_of(process.pid, visit.proc), occupants.command_of(process.pid, visit.proc)
    return note(
        f"pid {process.pid}",
        f"An engine that Roundhouse did not start runs: {command} (user {user}, {process.rss >> 20} MiB).",
        f"if nobody needs it: kill {process.pid}",
    )


def _is_engine(name: str) -> bool:
    known = {binary[:15] for engine in ENGINES.values() for binary in engine.binaries}
    return name in known or ENGINE_NAMES.match(name) is not None
