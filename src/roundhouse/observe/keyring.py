"""Keys that were made while Roundhouse runs (`keys.json`) and what each key has used by day (`use.db`), in `state_dir`.

Only hashes are kept. A keys file that can't be understood is an error and never an empty one: without any key everybody
may do everything. Use is another matter: it is written in batches, off the hot path, and may be lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from roundhouse.errors import ConfigError, NotKept
from roundhouse.observe import log
from roundhouse.observe.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

VERSION = 1
MIGRATIONS = (
    (
        """CREATE TABLE used (
            name TEXT NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL, prompt INTEGER NOT NULL,
            completion INTEGER NOT NULL, last REAL NOT NULL, PRIMARY KEY (name, day)) WITHOUT ROWID""",
    ),
)
_USE = """INSERT INTO used VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name, day) DO UPDATE SET
    requests = requests + excluded.requests, prompt = prompt + excluded.prompt,
    completion = completion + excluded.completion, last = max(last, excluded.last)"""
_USED = """SELECT name, sum(requests), sum(prompt), sum(completion), max(last) FROM used
    WHERE ?1 IS NULL OR day = ?1 GROUP BY name"""
_PRUNE = "DELETE FROM used WHERE day < ?"
DAYS_KEPT = 400


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key as it is kept.

    Attributes:
        settings: what the configuration would say of it, but for name and hash.
        created: seconds since the epoch.
        old_hash, old_until: of the secret before the last rotation, and until when that is good (since the epoch).
    """

    name: str
    settings: Mapping[str, Any]
    hash: str
    created: float
    old_hash: str = ""
    old_until: float = 0.0


NOTED_FOR = 1.0
"""Seconds for which use is added up before it is written: a crash loses no more, and no request pays for a write."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a key has used; `last`: when, in seconds since the epoch, 0 for never."""

    requests: int = 0
    prompt: int = 0
    completion: int = 0
    last: float = 0.0

    @property
    def tokens(self) -> int:
        """Of prompts and answers together."""
        return self.prompt + self.completion

    def __add__(self, other: Use) -> Use:
        """Both, `other` being the later one."""
        requests, prompt = self.requests + other.requests, self.prompt + other.prompt
        return Use(requests, prompt, self.completion + other.completion, other.last)


@dataclass(slots=True)
class Keyring:
    """An async context manager around both files, in `folder`."""

    folder: Path
    _database: Database = field(init=False)
    _noted: dict[tuple[str, str], Use] = field(default_factory=dict)
    _writing: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self._database = Database(self.folder / "use.db", MIGRATIONS)

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write_noted()
        await self._database.__aexit__(kind, error, trace)

    @property
    def path(self) -> Path:
        """Where the keys are."""
        return self.folder / "keys.json"

    def read(self) -> list[StoredKey]:
        """All of them, oldest first. Raises ConfigError where there is a file that is not understood."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        try:
            told = json.loads(text)
            if told["version"] != VERSION:
                raise self._unreadable(f"it is of version {told['version']}, and this Roundhouse knows {VERSION}")
            return [_stored(one) for one in told["keys"]]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._unreadable(f"it is damaged: {error}") from None

    def _unreadable(self, reason: str) -> ConfigError:
        return ConfigError(
            f"The API keys in {self.path} can't be read: {reason}. Without them it is not known who may do what, so"
            " Roundhouse does not start. Restore the file; or move it away, and only the configuration's keys count."
        )

    async def write(self, keys: Iterable[StoredKey]) -> None:
        """Keeps these instead of those before, all or nothing. Raises NotKept."""
        told = json.dumps({"version": VERSION, "keys": [asdict(key) for key in keys]}, indent=1)
        try:
            await asyncio.to_thread(_replace, self.path, told.encode())
        except OSError as error:
            why = error.strerror or str(error)
            raise NotKept(f"Keys can't be written to {self.path}: {why}. Nothing has changed.") from None

    def note(self, name: str, day: str, use: Use) -> None:
        """Adds what was used on a day; never blocks, never fails. It is on the disk a second later."""
        self._noted[name, day] = self._noted.get((name, day), Use()) + use
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(NOTED_FOR, self._write_noted)

    def _write_noted(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        noted, self._noted = self._noted, {}
        for (name, day), use in noted.items():
            self._database.write(_USE, (name, day, use.requests, use.prompt, use.completion, use.last))

    async def used(self, day: str | None = None) -> dict[str, Use]:
        """What each key has used, on one day or on all that are remembered."""
        self._write_noted()
        try:
            rows = await self._database.run(lambda connection: connection.execute(_USED, (day,)).fetchall())
        except sqlite3.Error as error:
            log.get(__name__).warning("use_not_read", reason=str(error))
            return {}
        return {name: Use(*figures) for name, *figures in rows}

    def forget_before(self, day: str) -> None:
        """Lets older days go."""
        self._database.write(_PRUNE, (day,))


def _stored(told: Mapping[str, Any]) -> StoredKey:
    settings = told["settings"]
    if not isinstance(settings, dict):
        raise TypeError("settings that are none")
    name, digest, old = (str(told[field]) for field in ("name", "hash", "old_hash"))
    return StoredKey(name, settings, digest, float(told["created"]), old, float(told["old_until"]))


def _replace(path: Path, data: bytes) -> None:
    """Written whole and to the disk before it takes the old one's place."""
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
