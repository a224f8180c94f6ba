"""Which processes are engines of this installation: by marker, by named unit; and who has a keeper (spec E3)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from roundhouse.launchers.link import peer_pid
from roundhouse.launchers.process import default_runtime_dir
from roundhouse.runtime import occupants
from roundhouse.runtime.processes import scan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from roundhouse.app.doctor.visit import Visit
    from roundhouse.runtime.occupants import Mark, Occupant

CONNECT_LIMIT = 1.0
"""Seconds for a keeper's socket to take a connection."""


def is_ours(visit: Visit, occupant: Occupant) -> bool:
    """Whether an engine of this installation."""
    if occupant.pid is None:
        return False
    if occupant.mark is not None:
        return occupant.mark.install == visit.install
    return in_our_unit(visit, occupant.pid)


def in_our_unit(visit: Visit, pid: int) -> bool:
    """Whether a process runs in a unit that a model names."""
    return occupants.unit_of(pid, visit.proc) in visit.units


def members(visit: Visit) -> dict[str, set[int]]:
    """The pids of our engines' processes, by model; by unit where a unit runs one of several."""
    found: dict[str, set[int]] = {}
    install = visit.install
    for pid, mark in occupants.marked(visit.proc).items():
        if mark.install == install:
            found.setdefault(mark.model, set()).add(pid)
    if visit.units:
        for pid in scan(visit.proc):
            unit = occupants.unit_of(pid, visit.proc)
            if unit in visit.units:
                models = visit.units[unit]
                found.setdefault(models[0].id if len(models) == 1 else unit, set()).add(pid)
    return found


def keepers(visit: Visit) -> dict[Path, int | None]:
    """The keepers' sockets, each with the pid that listens there; None for one whose keeper is dead.

    Raises OSError when one can be told neither alive nor dead.
    """
    found: dict[Path, int | None] = {}
    for path in sorted(default_runtime_dir(visit.environ).glob("*.sock")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(CONNECT_LIMIT)
            try:
                sock.connect(str(path))
            except ConnectionRefusedError:
                found[path] = None
            except FileNotFoundError:
                continue
            else:
                found[path] = peer_pid(sock)
    return found


def without_keeper(visit: Visit) -> dict[int, Mark]:
    """Engine processes of any installation with no live keeper above them. Raises OSError as `keepers` does.

    The processes are listed first: the keeper of an engine that is younger than the list is then not missed.
    """
    marks, processes = occupants.marked(visit.proc), scan(visit.proc)
    live = {pid for pid in keepers(visit).values() if pid is not None}
    parents = {pid: process.parent for pid, process in processes.items()}
    return {pid: mark for pid, mark in marks.items() if not live & _above(pid, parents)}


def _above(pid: int, parents: Mapping[int, int]) -> set[int]:
    chain = {pid}
    while (pid := parents.get(pid, 0)) and pid not in chain:
        chain.add(pid)
    return chain
