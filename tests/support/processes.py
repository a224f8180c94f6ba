"""Real processes in tests: pinned by pidfd, waited for, and looked up by what only ours can have."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

ROLES = ("main", "child", "setsid", "daemon")  # of tests/support/tree.py


class Watched:
    """A process that is or was, immune to its pid being reused."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = -1

    def gone(self, within: float = 0.0) -> bool:
        """Whether it ends within so many seconds."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def signal(self, number: int = signal.SIGKILL) -> None:
        if self._pidfd >= 0 and not self.gone():
            signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)


def survivors(processes: dict[str, Watched], within: float = 15.0) -> list[str]:
    """Names of those that have not ended in time."""
    deadline = time.monotonic() + within
    return [name for name, process in processes.items() if not process.gone(max(0.0, deadline - time.monotonic()))]


def all_of(install: str) -> dict[str, Watched]:
    """Keepers and engines of an installation, by command line and environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            marks = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        keeper = install.encode() in words and any(word.endswith(b"keeper.py") for word in words)
        if keeper or any(mark.startswith(b"ROUNDHOUSE_ENGINE=" + install.encode() + b":") for mark in marks):
            found[f"{'keeper' if keeper else 'engine'} {entry.name}"] = Watched(int(entry.name))
    return found


def none_left(install: str, within: float = 20.0) -> list[str]:
    """Waits until nothing of the installation runs; what is left otherwise. Also catches what is born meanwhile."""
    deadline = time.monotonic() + within
    while found := all_of(install):
        left = survivors(found, max(0.0, deadline - time.monotonic()))
        for process in found.values():
            process.close()
        if left:
            return left
    return []
