"""What makes `state_dir` ours: a lock that one Roundhouse holds at a time, and the id of this installation.

Knows nothing of what else lies in the folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ID = re.compile(r"[0-9a-f]{8,16}\Z")


@contextmanager
def state_lock(state_dir: Path) -> Iterator[None]:
    """Holds the folder for this process, which makes it (mode 0700) if need be; the kernel lets go when we die.

    Raises:
        ConfigError: another Roundhouse holds it (its pid is named), or the folder can't be used.
    """
    descriptor = _opened(state_dir)
    try:
        _take(descriptor, state_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone is not enough while a child is between fork and exec
    finally:
        # The file stays: removing it would let two hold a lock on files of the same name.
        os.close(descriptor)


def install_id(state_dir: Path) -> str:
    """The id (16 hex digits) by which engines of this installation are known: made once, then the same for ever.

    Raises:
        ConfigError: the folder can't be used.
    """
    path = state_dir / "install-id"
    try:
        return _read_id(path) or _new_id(path)
    except OSError as error:
        raise _unusable(state_dir, error) from error


def _opened(state_dir: Path) -> int:
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(state_dir, error) from error


def _take(descriptor: int, state_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        holder = f"pid {pid}" if pid.isdecimal() else "pid unknown"
        raise ConfigError(
            f"Another Roundhouse ({holder}) uses {state_dir}; stop it, or give this one a `state_dir` of its own."
        ) from error
    except OSError as error:  # a network file system without locks
        raise _unusable(state_dir, error) from error


def _unusable(state_dir: Path, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(f"The state folder {state_dir} can't be used: {reason}. Set `state_dir` to one that can.")


def _read_id(path: Path) -> str:
    """'' if there is none, or it is damaged."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""
    return text if _ID.match(text) else ""


def _new_id(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(8)}\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)  # unlike a rename it never replaces an id that another has just made
    except FileExistsError:
        if not _read_id(path):  # damaged
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return _read_id(path)
