"""Copies of bodies of requests and answers, when the operator asks for them (spec E6, G5).

Off by default. Each is cut to a size, all together are bounded by size and age, secrets are hidden before anything is
written, and the file is for its owner alone. The request's way only notes references to bytes that are there anyway.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from roundhouse.observe import log
from roundhouse.observe.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from types import TracebackType

    from roundhouse.config.captures import Captures as Settings

MIGRATIONS = (
    (
        """CREATE TABLE captures (
            row INTEGER PRIMARY KEY, id TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, at REAL NOT NULL,
            status INTEGER NOT NULL, request_bytes INTEGER NOT NULL, answer_bytes INTEGER NOT NULL,
            request TEXT NOT NULL, answer TEXT NOT NULL, size INTEGER NOT NULL)""",
        "CREATE INDEX captures_by_id ON captures (id)",
    ),
)
_KEEP = """
    INSERT INTO captures (id, key, model, at, status, request_bytes, answer_bytes, request, answer, size)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_LIST = "SELECT id, key, model, at, status, request_bytes, answer_bytes FROM captures ORDER BY row DESC LIMIT ?"
_FIND = """
    SELECT id, key, model, at, status, request_bytes, answer_bytes, request, answer FROM captures
    WHERE id = ? ORDER BY row DESC LIMIT 1"""
_PRUNE = """DELETE FROM captures WHERE at < ? OR row IN (SELECT row FROM (
    SELECT row, sum(size) OVER (ORDER BY row DESC) AS size FROM captures) WHERE size > ?)"""
_NAMES = ("id", "key", "model", "at", "status", "request_bytes", "answer_bytes", "request", "answer")
MORE = 4096
"""Bytes beyond the limit that are looked at, so that a secret which lies across it is hidden before the cut."""
PENDING = 64
"""Copies that may wait for being written; more are dropped."""
PRUNE_EVERY, PRUNE_SHARE = 1000, 1 / 32
"""Copies, or part of the budget, after which it is looked what has to go: that reads the sizes of all."""

_Work = tuple["About", "Copy", "Copy"]


class Copy:
    """Bytes as they pass, up to a limit; `size` counts them all."""

    __slots__ = ("_limit", "_parts", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        """Some more of them."""
        if self.size < self._limit:
            self._parts.append(data[: self._limit - self.size])
        self.size += len(data)

    def data(self) -> bytes:
        """What was kept."""
        return b"".join(self._parts)


class About(NamedTuple):
    """Of which request a copy is; `at` seconds since the epoch."""

    id: str
    key: str
    model: str
    at: float
    status: int


class Captures:
    """An async context manager around the file.

    Args:
        path: of the file.
        settings: how much is kept.
        hide: hides the secrets in a text; called in another thread.
        spawn: runs a task in the background.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        hide: Callable[[str], str],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self.dropped = 0
        self._settings = settings
        self._hide = hide
        self._spawn = spawn
        self._database = Database(path, MIGRATIONS)
        self._waiting: list[_Work] = []
        self._pending = 0
        self._writing = False
        self._kept, self._size = 0, 0  # since it was last looked what has to go

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        self._prune()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.__aexit__(kind, error, trace)

    def copy(self) -> Copy:
        """For an answer that begins."""
        return Copy(self._settings.body + MORE)

    def keep(self, about: About, request: bytes, answer: Copy) -> None:
        """Takes a request that has ended; never blocks, never fails."""
        if self._settings.store == "errors" and about.status < 400:
            return
        if self._pending >= PENDING:
            self.dropped += 1
            return
        begun = Copy(self._settings.body + MORE)
        begun.add(request)
        self._waiting.append((about, begun, answer))
        self._pending += 1
        if not self._writing:  # else it is taken next
            self._writing = True
            self._spawn(self._write(), "copies of bodies")

    async def _write(self) -> None:
        """Writes what waits until nothing does: under load many at once, as each way to another thread costs."""
        try:
            while self._waiting:
                work, self._waiting = self._waiting, []
                try:
                    rows = await asyncio.to_thread(self._rows_of, work)
                finally:
                    self._pending -= len(work)
                for row in rows:
                    self._database.write(_KEEP, row)
                    self._kept, self._size = self._kept + 1, self._size + row[-1]
                if self._kept >= PRUNE_EVERY or self._size >= self._settings.budget * PRUNE_SHARE:
                    self._prune()
        finally:
            self._writing = False

    def _rows_of(self, work: list[_Work]) -> list[tuple[Any, ...]]:
        rows = []
        for about, request, answer in work:
            texts = self._text(request), self._text(answer)
            size = sum(len(text.encode()) for text in texts)
            rows.append((*about, request.size, answer.size, *texts, size))
        return rows

    def _text(self, copy: Copy) -> str:
        """What is written: secrets hidden, then cut."""
        text = self._hide(copy.data().decode("utf-8", "backslashreplace"))
        return text.encode()[: self._settings.body].decode("utf-8", "ignore")

    def _prune(self) -> None:
        self._kept, self._size = 0, 0
        self._database.write(_PRUNE, (time.time() - self._settings.keep, self._settings.budget))

    async def listed(self, limit: int) -> list[dict[str, Any]]:
        """The newest first, without their texts."""
        return [dict(zip(_NAMES, row, strict=False)) for row in await self._rows(_LIST, (limit,))]

    async def find(self, request: str) -> dict[str, Any] | None:
        """That of a request, None if there is none."""
        rows = await self._rows(_FIND, (request,))
        return dict(zip(_NAMES, rows[0], strict=True)) if rows else None

    async def _rows(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return await self._database.run(lambda connection: connection.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            log.get(__name__).warning("captures_not_read", reason=str(error))
            return []
