"""Who listens on a TCP port of this machine, and whose engine that is: as /proc tells it (proc(5)).

Reads files and nothing else; it takes milliseconds, so call it from a thread. Of Roundhouse it knows only the marker
that engines carry in their environment. It ends nobody.
"""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARKER = "ROUNDHOUSE_ENGINE"
"""Environment variable of every engine: `<installation>:<model>` (spec H)."""
LONGEST_COMMAND = 120
"""Characters of a command line in a message."""
MOST_NAMED = 3

_PROC = Path("/proc")
_LISTEN = "0A"  # TCP_LISTEN of net/tcp_states.h
_SECRET = re.compile(r"(?i)(--?[\w-]*(?:key|token|secret|password))(?:(=)| )\S+")


@dataclass(frozen=True, slots=True)
class Mark:
    """What an engine's environment says: the installation that started it, and for which model."""

    install: str
    model: str


@dataclass(frozen=True, slots=True)
class Occupant:
    """A process that listens.

    Attributes:
        pid: None where it is another user's and we are not root.
        command: its command line, shortened, keys hidden; '' where it can't be read.
        user: whose socket it is.
        mark: of an engine that some Roundhouse started.
    """

    pid: int | None
    command: str
    user: str
    mark: Mark | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of user {self.user} (only that user and root can see its pid)"
        told = f"; engine of model {self.mark.model}" if self.mark else ""
        return f"pid {self.pid} ({self.command or 'command unknown'}; user {self.user}{told})"


def listeners(port: int, proc: Path = _PROC) -> list[Occupant]:
    """Everyone who listens on `port` at any address of this network namespace, by pid; [] when nobody does.

    Several share one socket where a server forked its workers, or systemd handed it over.
    """
    sockets = dict(_listening(port, proc))
    if not sockets:
        return []
    holders = list(_holders(set(sockets), proc))
    seen = {inode for _, inode in holders}
    known = {pid: _occupant(pid, sockets[inode], proc) for pid, inode in holders}
    hidden = {uid for inode, uid in sockets.items() if inode not in seen}
    return [*(known[pid] for pid in sorted(known)), *(Occupant(None, "", _user(uid)) for uid in sorted(hidden))]


def words(occupants: Sequence[Occupant]) -> str:
    """For a message, as in 'port 30000 is taken by …': 'pid 12 (llama-server -m x; user ivan)'. '' for none."""
    named = [str(occupant) for occupant in occupants[:MOST_NAMED]]
    more = len(occupants) - MOST_NAMED
    return " and ".join(named) + (f" and {more} more" if more > 0 else "")


def marked(proc: Path = _PROC) -> dict[int, Mark]:
    """Every engine process that carries a marker and that we may look into, by pid."""
    pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()]
    marks = {pid: mark_of(pid, proc) for pid in pids if pid != os.getpid()}
    return {pid: mark for pid, mark in marks.items() if mark is not None}


def mark_of(pid: int, proc: Path = _PROC) -> Mark | None:
    """The marker in a process' environment; None without one, or if it is not ours to read."""
    prefix = f"{MARKER}=".encode()
    for variable in _read(proc / str(pid) / "environ").split(b"\0"):
        if variable.startswith(prefix):
            install, _, model = variable.removeprefix(prefix).decode("utf-8", "replace").partition(":")
            return Mark(install, model)
    return None


def command_of(pid: int, proc: Path = _PROC) -> str:
    """A process' command line for a message: shortened, control characters and keys hidden; '' if it has ended."""
    line = _read(proc / str(pid) / "cmdline").decode("utf-8", "replace").replace("\0", " ").strip()
    line = line or _read(proc / str(pid) / "comm").decode("utf-8", "replace").strip()
    shown = _SECRET.sub(lambda found: f"{found[1]}{found[2] or ' '}[hidden]", line)
    return "".join(char if char.isprintable() else " " for char in shown)[:LONGEST_COMMAND]


def user_of(pid: int, proc: Path = _PROC) -> str:
    """The name of a process' user; '' if it has ended."""
    try:
        return _user((proc / str(pid)).stat().st_uid)
    except OSError:
        return ""


def unit_of(pid: int, proc: Path = _PROC) -> str | None:
    """The innermost systemd service whose control group a process is in."""
    for line in reversed(_read(proc / str(pid) / "cgroup").decode("utf-8", "replace").splitlines()):
        services = [part for part in line.split("/") if part.endswith(".service")]
        if services:
            return services[-1]
    return None


def _occupant(pid: int, uid: int, proc: Path) -> Occupant:
    return Occupant(pid, command_of(pid, proc), user_of(pid, proc) or _user(uid), mark_of(pid, proc))


def _listening(port: int, proc: Path) -> Iterator[tuple[str, int]]:
    """Inode and user id of the sockets that listen there."""
    for table in ("tcp", "tcp6"):
        for line in _read(proc / "net" / table).decode("ascii", "replace").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9], int(fields[7])


def _holders(inodes: set[str], proc: Path) -> Iterator[tuple[int, str]]:
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            for link in _links(entry / "fd"):
                if link in wanted:
                    yield int(entry.name), wanted[link]


def _links(folder: Path) -> Iterator[str]:
    """What the open files of a process are; nothing when it has ended or is not ours to look into."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 -- thousands of files: strings, no Path for each
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"{folder}/{name}")  # noqa: PTH115 -- as above
        except OSError:
            continue  # closed meanwhile


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has ended, or is another user's
