"""Strays: engine processes of ours whose keeper is gone, found by the marker in their environment (spec E3).

The one hole of a keeper is its own SIGKILL. Knows /proc and the marker; touches nothing that lacks the marker of this
very installation, however it is named, and nothing that still has a keeper.
"""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

MARKER = "ROUNDHOUSE_ENGINE"
UNIT = "ROUNDHOUSE_UNIT"
"""In the environment of engines that are systemd's to keep and to end, whole control group and all: never strays."""
ROUNDS = 20  # a stray may fork while it is being ended: what it leaves falls to the next round
PATIENCE_MS = 500  # for one round's processes to go after SIGKILL

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stray:
    """A process that was ended; `model` is what its marker names."""

    pid: int
    model: str


def sweep(install: str, keepers: Callable[[], AbstractSet[int]]) -> list[Stray]:
    """Ends every process with the marker of `install` that is not below a keeper. Blocks, as a rule for milliseconds.

    Args:
        install: installation id.
        keepers: gives the pids of all live keepers. Called after the processes were listed, so that an engine whose
            keeper is younger than the list is not taken for a stray.

    Returns:
        What was ended, none twice.
    """
    ended: dict[int, Stray] = {}
    for _ in range(ROUNDS):
        pinned = dict(_marked(install))
        try:
            strays = _without_keeper(pinned, keepers()) if pinned else {}
            for fd in strays:
                _kill(fd)
            _wait(set(strays))
        finally:
            for fd in pinned:
                os.close(fd)
        if not strays:
            break
        ended.update((stray.pid, stray) for stray in strays.values())
    return list(ended.values())


def _marked(install: str) -> Iterator[tuple[int, Stray]]:
    """Processes with our marker, each pinned by a pidfd before its environment counts: its pid can't change hands."""
    prefix = f"{MARKER}={install}:".encode()
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        if prefix not in _environ(entry):  # cheap first look
            continue
        try:
            fd = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        variables = _environ(entry).split(b"\0")
        model = next((v for v in variables if v.startswith(prefix)), None)
        if model is None or any(v.startswith(f"{UNIT}=".encode()) for v in variables):
            os.close(fd)
        else:
            yield fd, Stray(int(entry.name), model.removeprefix(prefix).decode("utf-8", "replace"))


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""  # it ended, or is another user's: not ours to end


def _without_keeper(pinned: dict[int, Stray], keepers: AbstractSet[int]) -> dict[int, Stray]:
    spared = {os.getpid(), *_ancestors(os.getpid())}  # an engine may itself run a Roundhouse of the same installation
    return {
        fd: stray
        for fd, stray in pinned.items()
        if stray.pid not in spared and not keepers & {stray.pid, *_ancestors(stray.pid)}
    }


def _ancestors(pid: int) -> list[int]:
    """Pids above, nearest first. Read again when one ends meanwhile: its children then have another parent."""
    while True:
        chain, complete = _climb(pid)
        if complete:
            return chain


def _climb(pid: int) -> tuple[list[int], bool]:
    chain: list[int] = []
    while (above := _parent(pid)) is not None:
        if not above:
            return chain, True
        chain.append(above)
        pid = above
    return chain, not chain  # the process itself has ended: nothing above it any more


def _parent(pid: int) -> int | None:
    """The parent's pid, 0 above the first process, None when `pid` has ended."""
    try:
        # proc_pid_stat(5): the name in parentheses may hold anything, so what follows is counted from the last ')'.
        return int((_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _kill(fd: int) -> None:
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass  # it has ended by itself, or belongs to another user now: then it can't be ended by us


def _wait(fds: set[int]) -> None:
    """Until all have ended (a pidfd turns readable), or PATIENCE_MS without any ending."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    while fds and (ready := poll.poll(PATIENCE_MS)):
        for fd, _ in ready:
            poll.unregister(fd)
            fds.discard(fd)
