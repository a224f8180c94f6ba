"""Files of the hub on this disk: begun ones go on where they ended, whole ones are checked before they count.

A file is `NAME.DIGEST.part` until it and all that belong to it are whole; a name with its content's digest can't be
taken for another version's beginning. Only then do they get their names, so that nobody lists half a model.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from roundhouse.app.hub.problems import HubProblem, HubRefusal
from roundhouse.config import discover
from roundhouse.formats import gguf
from roundhouse.formats.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from roundhouse.app.hub.offers import HubFile
    from roundhouse.app.hub.source import Hub, Listing

    Told = Callable[[str, int], None]

PIECE: Final = 4 << 20
MARK: Final = 12
"""Digits of a digest in a part's name."""


@dataclass(frozen=True, slots=True)
class Step:
    """One file to get: where it will stand, where it grows until then, and how much of it is there.

    Attributes:
        done: whether a file of this name and size stands there already (its content is still to be checked).
        begun: bytes of its part.
    """

    file: HubFile
    path: Path
    part: Path
    done: bool
    begun: int

    @property
    def missing(self) -> int:
        """Bytes that have to come."""
        return 0 if self.done else self.file.size - self.begun


def plan(files: Sequence[HubFile], folder: Path) -> tuple[Step, ...]:
    """What is to be got. Raises HubRefusal where another file has its name."""
    steps = []
    for file in files:
        path = folder / file.path.rpartition("/")[2]
        digest = (file.sha256 or file.git or "unknown")[:MARK]
        part = path.with_name(f"{path.name}.{digest}.part")
        size = _size(path)
        if size not in {None, file.size}:
            raise HubRefusal(f"{path} is there, but is not this file (its size differs); move it away, or give --to.")
        steps.append(Step(file, path, part, size is not None, min(_size(part) or 0, file.size)))
    return tuple(steps)


def check_space(steps: Sequence[Step], folder: Path) -> None:
    """Raises HubProblem if the disk can't take what is missing."""
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        missing, free = sum(step.missing for step in steps), shutil.disk_usage(there).free
    except OSError as error:
        raise _disk(error, folder) from None
    if missing > free:
        raise HubProblem(
            f"The disk of {folder} has {_mib(free)} MiB free, and {_mib(missing)} MiB are to come; make room,"
            " or give another folder with --to."
        )


def carry_out(hub: Hub, listing: Listing, steps: Sequence[Step], told: Told) -> None:
    """Gets, checks and names all files.

    Args:
        hub: where they come from.
        listing: the commit that they are of.
        steps: what is to be got, in the order in which they get their names.
        told: called with a file's name and how many of its bytes are here and checked.

    Raises:
        HubProblem, HubRefusal: nothing got its name; what has come is kept for the next try, unless it was wrong.
    """
    folder = steps[0].path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for step in steps:
            if step.done:
                _check_there(step, told)
            else:
                _get(hub, listing, step, told)
        _readable(steps)
        for step in steps:
            if not step.done:
                step.part.replace(step.path)
    except OSError as error:
        raise _disk(error, folder) from None


def _get(hub: Hub, listing: Listing, step: Step, told: Told) -> None:
    with _held(step.part) as file:
        receiving = Receiving(file, step.file, lambda count: told(step.path.name, count))
        if receiving.count < step.file.size:
            hub.read(listing, step.file, cast("BinaryIO", receiving), receiving.count)
        file.flush()
        os.fsync(file.fileno())
        if not receiving.is_right():
            step.part.unlink()
            raise HubProblem(
                f"{step.path.name} came, but not as the hub says that it is (its hash differs); it was removed,"
                " and comes anew with the next try."
            )


@contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    """The part, open at its end, and ours alone."""
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HubRefusal(f"{part.name} is being pulled already, by another process.") from None
        yield file


class Receiving:
    """A file that grows, with its hash. What is in it already is read for that first.

    Attributes:
        count: bytes that are in it.
    """

    def __init__(self, file: BinaryIO, wanted: HubFile, told: Callable[[int], None]) -> None:
        self._file = file
        self._wanted = wanted
        self._told = told
        self.count = 0
        self._hash = _hash_for(wanted)
        while piece := file.read(PIECE):
            self._take(piece)
        if self.count > wanted.size:
            self.truncate(self.seek(0))

    def write(self, piece: bytes) -> int:
        """Adds a piece."""
        self._file.write(piece)
        self._take(piece)
        return len(piece)

    def tell(self) -> int:
        """Where the next piece goes."""
        return self._file.tell()

    def seek(self, place: int) -> int:
        """To another place; only the start makes sense."""
        return self._file.seek(place)

    def truncate(self, size: int | None = None) -> int:
        """Begins anew: the hub could not go on in the middle. Raises OSError for another place than the start."""
        if (size if size is not None else self._file.tell()) != 0:
            raise OSError(errno.EINVAL, "only the whole file can be begun anew")
        self.count, self._hash = 0, _hash_for(self._wanted)
        return self._file.truncate(0)

    def is_right(self) -> bool:
        """Whether it is the file that was wanted: by SHA-256, a small one by git's hash, else by size."""
        told = self._wanted.sha256 or self._wanted.git
        return self.count == self._wanted.size and (not told or self._hash.hexdigest() == told)

    def _take(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.count += len(piece)
        self._told(self.count)


def _hash_for(file: HubFile) -> hashlib._Hash:
    if file.sha256 or not file.git:
        return hashlib.sha256()
    # git's name for a file's content; the hub has no other for those that it keeps in git itself.
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def _check_there(step: Step, told: Told) -> None:
    with step.path.open("rb") as file:
        receiving = Receiving(file, step.file, lambda count: told(step.path.name, count))
    if not receiving.is_right():
        raise HubRefusal(f"{step.path} is there, but is not this file (its hash differs); move it away, or give --to.")


def _readable(steps: Sequence[Step]) -> None:
    """Raises HubProblem where the header of a GGUF file can't be read: as the hub has it, but for no engine."""
    for step in steps:
        if not discover.is_gguf(step.path):
            continue
        place = step.path if step.done else step.part
        try:
            with place.open("rb") as file:
                gguf.read(file, step.file.size)
        except FormatError as error:
            raise HubProblem(f"{step.path.name} is as the hub has it, but is no usable GGUF file: {error}.") from None


def _disk(error: OSError, folder: Path) -> HubProblem:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return HubProblem(
            f"The disk of {folder} is full. What has come is kept: make room, and the same command goes on from there."
        )
    return HubProblem(f"{error.filename or folder} can't be written: {error.strerror or error}.")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _mib(count: int) -> int:
    return -(-count >> 20) if count >= 0 else 0
