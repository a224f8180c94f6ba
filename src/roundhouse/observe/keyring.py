"""Keys that were made while Roundhouse runs, and what each key has used by day: `keys.db` in the state folder.

Beside those of the configuration file. Only hashes are kept. Use is written in batches, off the hot path; keys at once.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import orjson

from roundhouse.errors import NotKept
from roundhouse.observe import log
from roundhouse.observe.database import Database

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

FILE = "keys.db"
MIGRATIONS = (
    (
        """CREATE TABLE keys (
            name TEXT PRIMARY KEY, settings TEXT NOT NULL, hash TEXT NOT NULL, created REAL NOT NULL,
            old_hash TEXT NOT NULL DEFAULT '', old_until REAL NOT NULL DEFAULT 0)""",
        """CREATE TABLE used (
            name TEXT NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL, prompt INTEGER NOT NULL,
            completion INTEGER NOT NULL, last REAL NOT NULL, PRIMARY KEY (name, day)) WITHOUT ROWID""",
    ),
)
_PUT = "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)"
_REPLACE = "UPDATE keys SET hash = ?, old_hash = ?, old_until = ? WHERE name = ?"
_REMOVE = "DELETE FROM keys WHERE name = ?"
_ALL = "SELECT name, settings, hash, created, old_hash, old_until FROM keys ORDER BY created, name"
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


@dataclass(slots=True)
class Keyring:
    """An async context manager around the file."""

    path: Path
    _database: Database = field(init=False)

    def __post_init__(self) -> None:
        self._database = Database(self.path, MIGRATIONS)

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.__aexit__(kind, error, trace)

    async def keys(self) -> list[StoredKey]:
        """All of them, oldest first. What can't be read is left out, and said in the log."""
        try:
            rows = await self._database.run(lambda connection: connection.execute(_ALL).fetchall())
        except sqlite3.Error as error:
            log.get(__name__).error("keys_not_read", reason=str(error))
            return []
        return [StoredKey(name, orjson.loads(settings), *rest) for name, settings, *rest in rows]

    async def put(self, key: StoredKey) -> bool:
        """Keeps a new one; false if there is one of that name. Raises NotKept."""
        values = (key.name, orjson.dumps(key.settings).decode(), key.hash, key.created, key.old_hash, key.old_until)
        try:
            await self._change(_PUT, values)
        except sqlite3.IntegrityError:
            return False
        return True

    async def rotate(self, name: str, new_hash: str, old_hash: str, old_until: float) -> None:
        """Gives a key another secret. Raises NotKept."""
        await self._change(_REPLACE, (new_hash, old_hash, old_until, name))

    async def remove(self, name: str) -> None:
        """Forgets a key. What it used stays. Raises NotKept."""
        await self._change(_REMOVE, (name,))

    async def _change(self, sql: str, values: tuple[Any, ...]) -> None:
        """At once, and told if it fails: who is given a secret has to be able to rely on it."""

        def run(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute(sql, values)

        try:
            await self._database.run(run)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise NotKept(f"Keys can't be written to {self.path}: {error}. Nothing has changed.") from None

    def note(self, name: str, day: str, use: Use) -> None:
        """Adds what was used on a day; never blocks, never fails."""
        self._database.write(_USE, (name, day, use.requests, use.prompt, use.completion, use.last))

    async def used(self, day: str | None = None) -> dict[str, Use]:
        """What each key has used, on one day or on all that are remembered."""
        try:
            rows = await self._database.run(lambda connection: connection.execute(_USED, (day,)).fetchall())
        except sqlite3.Error as error:
            log.get(__name__).warning("use_not_read", reason=str(error))
            return {}
        return {name: Use(*figures) for name, *figures in rows}

    def forget_before(self, day: str) -> None:
        """Lets older days go."""
        self._database.write(_PRUNE, (day,))
