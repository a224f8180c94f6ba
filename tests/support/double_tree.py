"""Processes of a double: children with the titles that the real ones have, tied to their parent or not, and what leaks.

Titles are set as setproctitle does it: over the memory of the command line, and over the environment behind it, which
/proc/PID/environ then no longer shows, unless SPT_NOENV is set. Knows no engine and no HTTP.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h
ARG_START = 48 - 3  # proc_pid_stat(5): fields 48 to 51, counted behind the name


def start_tracker() -> None:
    """The real thing: it ends when every process that has its pipe has."""
    resource_tracker.ensure_running()


def fork(work: Callable[[], None]) -> int:
    """A child that does its work, then waits for ever; its pid. SIGTERM ends it."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        rest()
    except SystemExit as ending:
        os._exit(int(ending.code or 0))
    except BaseException as error:  # a forked child must not return into its parent's code
        os.write(2, f"{error!r}\n".encode())
    os._exit(1)


def rest() -> None:
    while True:
        signal.pause()


def retitle(title: str) -> None:
    """What the real ones do when they have imported all they need, which takes them 15 s."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    arg_start, arg_end, env_start, env_end = (int(word) for word in stat[ARG_START : ARG_START + 4])
    room = arg_end - arg_start
    ctypes.memmove(arg_start, title.encode()[: room - 1].ljust(room, b"\0"), room)
    if not os.environ.get("SPT_NOENV"):
        ctypes.memset(env_start, 0, env_end - env_start)
    ctypes.CDLL(None).prctl(PR_SET_NAME, title.encode()[:15], 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """SIGKILL from when the parent ends on. As with the real ones, that comes too late for a parent that is gone."""
    if os.getppid() == parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def leak() -> int:
    """A daemon: twice forked, in a session of its own, our output still open in it. Returns its pid."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
        os.execv(sys.executable, [sys.executable, "-S", "-c", "import signal\nwhile True: signal.pause()"])
    os.close(writer)
    os.wait()
    with os.fdopen(reader) as said:
        return int(said.read())


def kill(*pids: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself


def end_tree(pid: int) -> None:
    """Ends a child of ours and its children: SIGKILL, from the top."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        below = []  # it has ended
    kill(pid, *map(int, below))
