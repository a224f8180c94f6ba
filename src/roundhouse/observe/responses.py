"""Responses that later requests may go on from (`previous_response_id`): what was said and what was answered.

A file of its own beside the history, as it holds texts and is bounded by their size. Each is its key's alone.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from roundhouse.observe import log
from roundhouse.observe.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

DAYS, MOST, MOST_BYTES = 30, 2000, 64 << 20
"""Retention: the oldest go first."""
MIGRATIONS = (
    (
        """CREATE TABLE responses (
            id TEXT PRIMARY KEY, key TEXT NOT NULL, at REAL NOT NULL, said BLOB NOT NULL, told BLOB NOT NULL)""",
        "CREATE INDEX responses_by_time ON responses (at)",
    ),
)
_KEEP = "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?)"
_FIND = "SELECT said, told FROM responses WHERE id = ? AND key = ?"
_FORGET = "DELETE FROM responses WHERE id = ? AND key = ?"
_PRUNE = """DELETE FROM responses WHERE at < ? OR id IN (SELECT id FROM (
    SELECT id, row_number() OVER newest AS place, sum(length(said) + length(told)) OVER newest AS size
    FROM responses WINDOW newest AS (ORDER BY at DESC, id)) WHERE place > ? OR size > ?)"""


class Kept(NamedTuple):
    """A response: all messages of its conversation, its answer last, and the object that was answered."""

    said: list[dict[str, Any]]
    told: dict[str, Any]


class Responses:
    """An async context manager around `responses.db`."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, MIGRATIONS)

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.__aexit__(kind, error, trace)

    def keep(self, number: str, key: str, at: float, said: Sequence[dict[str, Any]], told: dict[str, Any]) -> None:
        """Remembers one (`at` seconds since the epoch); never blocks, never fails."""
        self._database.write(_KEEP, (number, key, at, orjson.dumps(said), orjson.dumps(told)))
        self._database.write(_PRUNE, (at - DAYS * 86_400, MOST, MOST_BYTES))

    async def find(self, number: str, key: str) -> Kept | None:
        """One of that key's, None if there is none (any more)."""
        try:
            rows = await self._database.run(lambda connection: connection.execute(_FIND, (number, key)).fetchall())
        except sqlite3.Error as error:
            log.get(__name__).warning("responses_not_read", reason=str(error))
            return None
        return Kept(orjson.loads(rows[0][0]), orjson.loads(rows[0][1])) if rows else None

    async def forget(self, number: str, key: str) -> bool:
        """Removes one of that key's; false if there was none."""
        if await self.find(number, key) is None:
            return False
        self._database.write(_FORGET, (number, key))
        await self._database.run(lambda _: None)
        return True
