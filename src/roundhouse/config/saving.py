"""A configuration file read to be changed, and written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from roundhouse.errors import RouterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOM: Final = b"\xef\xbb\xbf"


class SaveError(RouterError):
    """The file could not be read or written; it is as it was."""


@dataclass(frozen=True, slots=True)
class Original:
    """A file as it was read.

    Attributes:
        path: as it was named.
        raw: all its bytes.
        text: without a byte order mark, line ends as they are.
    """

    path: Path
    raw: bytes
    text: str


def read(path: Path) -> Original:
    """Raises SaveError where it can't be read, or is not UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SaveError(f"{path} can't be read: {_reason(error)}.") from None
    try:
        return Original(path, raw, raw.removeprefix(BOM).decode())
    except UnicodeDecodeError:
        raise SaveError(f"{path} is not UTF-8; save the file as UTF-8.") from None


def write(original: Original, text: str) -> None:
    """Puts a text in its place in one step; mode and owner stay, links are followed to the file itself.

    Raises SaveError: the file has changed since it was read, or nothing can be written there.
    """
    path = original.path.resolve()
    mark = BOM if original.raw.startswith(BOM) else b""
    try:
        with _alone(path.parent):
            if path.read_bytes() != original.raw:
                raise SaveError(f"{path} has been changed by someone else meanwhile; it was left so. Try again.")
            _replace(path, mark + text.encode())
    except OSError as error:
        raise SaveError(f"{path} can't be written: {_reason(error)}. It is as it was.") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One of us at a time, so that of two edits none is lost between the look and the writing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes) -> None:
    found = path.stat()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                # Refused to all but root and the group's members: better than a file that has changed hands.
                os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, found.st_mode & 0o7777)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)  # noqa: PTH105 -- names, as mkstemp gives them
    except BaseException:
        os.unlink(name)  # noqa: PTH108 -- as above
        raise


def _reason(error: OSError) -> str:
    return (error.strerror or "it failed").lower()
