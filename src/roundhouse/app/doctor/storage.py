"""The folders Roundhouse writes: writable, private, with room left."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from roundhouse.app.doctor.finding import error, note, ok, warning
from roundhouse.launchers.process import LONGEST_SOCKET_PATH, default_runtime_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit

LEAST_FREE = 1 << 30
"""Bytes on the disk of `state_dir`, for history and logs."""
NAME = len("/00000000.sock")
GIB = 1024**3


def check(visit: Visit) -> Iterator[Finding]:
    """State and runtime folder."""
    yield from _state(visit)
    yield from _runtime(default_runtime_dir(visit.environ))


def _state(visit: Visit) -> Iterator[Finding]:
    folder = visit.config.state_dir
    there = _existing(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield error("state_dir", f"{folder} can't be written by this user.", "set `state_dir`, or correct its owner")
        return
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE:
        yield warning(
            "state_dir",
            f"{free >> 20} MiB are free on the disk of {folder}.",
            "make room: history and logs are dropped",
        )
        return
    yield ok("state_dir", f"{folder} can be written; {free / GIB:.0f} GiB are free.")
    budget = visit.config.sessions.budget
    if visit.config.sessions.store == "disk" and free < budget and "sessions" in visit.config.model_fields_set:
        yield note(
            "state_dir", f"sessions.budget is {budget / GIB:.0f} GiB, more than is free.", "set `sessions.budget`"
        )


def _runtime(folder: Path) -> Iterator[Finding]:
    there = _existing(folder)
    if folder.exists() and folder.stat().st_uid != os.getuid():
        yield error("runtime folder", f"{folder} is another user's.", "run as that user, or set XDG_RUNTIME_DIR")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield error("runtime folder", f"{folder} can't be made by this user.", "set XDG_RUNTIME_DIR")
    elif len(os.fsencode(folder.absolute())) + NAME > LONGEST_SOCKET_PATH:
        yield error(
            "runtime folder", f"{folder} is too long for a socket's path.", "set XDG_RUNTIME_DIR to a shorter one"
        )
    else:
        yield ok("runtime folder", f"{folder} can be used.")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    return next((path for path in (folder, *folder.parents) if path.exists()), folder)
