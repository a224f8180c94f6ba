"""What Roundhouse keeps on disk for a unit while it runs: start file, FIFO, drop-in, and a record to know it by.

Everything lies below /run (or the runtime folder of a user), so nothing outlives the machine's next boot. Knows files
and who may read them; not D-Bus.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd.startfile import drop_in_text, exec_word, folder_name
from roundhouse.ports import Tag

if TYPE_CHECKING:
    from collections.abc import Iterator

DROP_IN = "50-roundhouse.conf"


@dataclass(frozen=True, slots=True)
class Record:
    """A run of a unit that is ours: `invocation` as systemd numbers it, `user` if under the user manager."""

    tag: Tag
    unit: str
    invocation: str
    user: bool


@dataclass(frozen=True, slots=True)
class Places:
    """Where all of it lies.

    Attributes:
        records: folder of the records, ours alone.
        starts: folder of the start files. Root's own can be searched by all, as a unit may run as anyone.
        drop_ins: the manager's folder for units of this boot; None where we may not write there.
        public: whether the start files lie in a folder that others may search.
    """

    records: Path
    starts: Path
    drop_ins: Path | None
    public: bool

    def of(self, unit: str) -> Place:
        """One unit's."""
        name = folder_name(unit)
        drop_in = self.drop_ins / f"{unit}.d" / DROP_IN if self.drop_ins is not None else None
        return Place(self.records / name / "tag.json", self.starts / name, drop_in, self.public)

    def recorded(self) -> Iterator[Record]:
        """The records there are; a damaged one is removed."""
        for path in sorted(self.records.glob("*/tag.json")):
            if (record := _read(path)) is not None:
                yield record
            else:
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Place:
    """One unit's files."""

    record: Path
    folder: Path
    drop_in: Path | None
    public: bool

    @property
    def start(self) -> Path:
        """The script that becomes the engine."""
        return self.folder / "start"

    @property
    def pipe(self) -> Path:
        """The FIFO that its output goes through."""
        return self.folder / "output"

    def lay(self, text: str, user: str) -> None:
        """Writes start file and FIFO, readable by `user` alone ('' for ourselves). Raises OSError, LoadFailed."""
        owner = _account(user)
        _private(self.folder.parent, public=self.public)
        _private(self.folder, public=self.public)
        self.pipe.unlink(missing_ok=True)
        os.mkfifo(self.pipe, 0o600)
        _write(self.start, text)
        for path in (self.pipe, self.start):
            if owner is not None and owner.pw_uid != os.geteuid():
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def lay_drop_in(self) -> None:
        """Has the unit run the start file; counts from the manager's next reload. Raises OSError."""
        assert self.drop_in is not None
        self.drop_in.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        _write(self.drop_in, drop_in_text(exec_word(str(self.start))), 0o644)

    def keep(self, record: Record) -> None:
        """Remembers a run. Raises OSError."""
        _private(self.record.parent.parent, public=False)
        _private(self.record.parent, public=False)
        _write(self.record, json.dumps(asdict(record)))

    def remove(self) -> bool:
        """Removes everything, as far as it is there. Returns whether that changed the unit (it must be reloaded)."""
        for path in (self.record, self.start, self.pipe):
            path.unlink(missing_ok=True)
        for folder in {self.record.parent, self.folder}:
            _remove_empty(folder)
        if self.drop_in is None or not self.drop_in.exists():
            return False
        self.drop_in.unlink(missing_ok=True)
        _remove_empty(self.drop_in.parent)
        return True


def _private(folder: Path, *, public: bool) -> None:
    """A folder of ours; others may at most pass. Raises OSError when it is another user's: it may be planted."""
    mode = 0o711 if public else 0o700
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder of this user; remove it")
    if stat.S_IMODE(found.st_mode) != mode:
        folder.chmod(mode)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # not there, or somebody keeps something in it
        folder.rmdir()


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """In one step: whoever reads it sees the old text or the new one. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.fsencode(text))
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _account(user: str) -> pwd.struct_passwd | None:
    """None for ourselves. Raises LoadFailed for a user that does not exist."""
    if not user:
        return None
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise LoadFailed(f"its unit says User={user}, but there is no such user; correct the unit") from None


def is_us(user: str) -> bool:
    """Whether a unit's `User=` means the user that we are."""
    try:
        account = _account(user)
    except LoadFailed:
        return False
    return (account.pw_uid if account is not None else 0) == os.geteuid()


def _read(path: Path) -> Record | None:
    try:
        fields = json.loads(path.read_text("utf-8"))
        tag = fields["tag"]
        claim = {str(device): int(size) for device, size in tag.get("claim", {}).items()}
        return Record(
            Tag(str(tag["model"]), str(tag["settings"]), int(tag["port"]), float(tag["started"]), claim),
            str(fields["unit"]),
            str(fields["invocation"]),
            bool(fields["user"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
