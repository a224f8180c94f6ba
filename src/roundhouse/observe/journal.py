"""A journal of every step of the planner, so that decisions can be played again (spec G5), in a file of its own.

The hot path only appends to a list. A task of the loop takes what has gathered; the database's thread encodes it, in
small portions so that the loop never waits long for the interpreter, and writes it. A *segment* begins with the whole
picture: the oldest go when all together are too many or too large, and after a gap (too much gathered, a full disk) a
new one begins.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import sqlite3
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from roundhouse import __version__
from roundhouse.core.codec import VERSION, encode_fleet, encode_step
from roundhouse.observe import log
from roundhouse.observe.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from roundhouse.core.model import Action, Event, Fleet

    Step = tuple[float, Event, list[Action]]

MIGRATIONS = (
    (
        """CREATE TABLE segments (
            id INTEGER PRIMARY KEY, version INTEGER NOT NULL, program TEXT NOT NULL, begun REAL NOT NULL,
            clock REAL NOT NULL, follows INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL,
            picture BLOB NOT NULL)""",
        """CREATE TABLE steps (
            id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, events INTEGER NOT NULL, data BLOB NOT NULL)""",
        "CREATE INDEX steps_of_segment ON steps (segment)",
    ),
)
_BEGIN = """
    INSERT INTO segments (version, program, begun, clock, follows, events, bytes, picture)
    VALUES (?, ?, ?, ?, ?, 0, ?, ?)"""
_TOTALS = "SELECT id, events, bytes FROM segments ORDER BY id DESC"
PORTION = 20
"""Steps that are encoded before the loop may have the interpreter: about half a millisecond."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept.

    Attributes:
        pending: steps that may gather; more are dropped and counted.
        segment: events after which a new picture is written.
        events, bytes: of all segments together, compressed; the oldest go.
        every: seconds between two writings; again: after one that failed.
    """

    pending: int = 50_000
    segment: int = 10_000
    events: int = 1_000_000
    bytes: int = 64 << 20
    every: float = 2.0
    again: float = 60.0


class Journal:
    """An async context manager; entered when the picture is there and before its first step that shall be in it.

    Args:
        path: the file; `fleet`: the picture, which the running loop alone changes.
        clock: the planner's.
    """

    def __init__(self, path: Path, fleet: Fleet, clock: Callable[[], float], bounds: Bounds | None = None) -> None:
        self.dropped = 0
        self._database = Database(path, MIGRATIONS)
        self._fleet = fleet
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._steps: list[Step] = []
        self._segment: int | None = None
        self._written = 0
        self._gap = False
        self._task: asyncio.Task[None] | None = None
        self._salt = secrets.token_bytes(16)  # known to this run alone, as in the history
        self._veils: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        await self.flush()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="journal")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.flush()
        await self._database.__aexit__(kind, error, trace)

    def note(self, event: Event, actions: list[Action], now: float) -> None:
        """Takes down a step; never blocks, never fails."""
        if len(self._steps) >= self._bounds.pending or self._gap:
            self._gap = True
            self.dropped += 1
            return
        self._steps.append((now, event, actions))

    async def flush(self) -> bool:
        """Writes what has gathered; false if the disk did not take it, which the database has told."""
        steps, self._steps = self._steps, []
        segment, follows = self._segment, not self._gap and self._segment is not None
        full = self._written + len(steps) >= self._bounds.segment
        # The picture is taken in the same turn of the loop as the steps that lead to it.
        picture = self._fleet.copy() if self._gap or full or segment is None else None
        clock, self._gap = self._clock(), False
        if not steps and picture is None:
            return True

        def write(connection: sqlite3.Connection) -> int | None:
            data = self._encoded(steps)
            begun = self._picture(picture) if picture is not None else None
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                if segment is not None and steps:
                    self._add(connection, segment, len(steps), data)
                if begun is None:
                    return segment
                row = (VERSION, __version__, time.time(), clock, int(follows), len(begun), begun)
                fresh = connection.execute(_BEGIN, row).lastrowid
                self._prune(connection)
                return fresh

        try:
            self._segment = await self._database.run(write)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody waits or fails for the journal
            if not isinstance(error, sqlite3.Error):
                log.get(__name__).error("journal_not_written", exc_info=error)
            self.dropped += len(steps)
            self._segment = None
            return False
        if segment is None:
            self.dropped += len(steps)
        self._written = 0 if picture is not None else self._written + len(steps)
        return True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._bounds.every)
            # Shielded: a write that was begun is ended, or its steps would be lost at the end of the run.
            writing = asyncio.get_running_loop().create_task(self.flush(), name="journal: write")
            try:
                good = await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                raise
            if not good:
                self._gap = True
                await asyncio.sleep(self._bounds.again)

    # --- below: the database's thread ---

    def _encoded(self, steps: list[Step]) -> bytes:
        lines = []
        for number, (now, event, actions) in enumerate(steps):
            lines.append(json.dumps(encode_step(now, event, actions, self._veil), separators=(",", ":")))
            if number % PORTION == PORTION - 1:
                time.sleep(0)
        return zlib.compress("\n".join(lines).encode(), 3)

    def _picture(self, fleet: Fleet) -> bytes:
        return zlib.compress(json.dumps(encode_fleet(fleet, self._veil), separators=(",", ":")).encode(), 3)

    def _veil(self, name: str) -> str:
        """Tells names apart and nothing else of them."""
        if not name:
            return ""
        if (known := self._veils.get(name)) is None:
            if len(self._veils) > 10_000:
                self._veils.clear()
            digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=6, key=self._salt)
            known = self._veils[name] = digest.hexdigest()
        return known

    def _add(self, connection: sqlite3.Connection, segment: int, events: int, data: bytes) -> None:
        connection.execute("INSERT INTO steps (segment, events, data) VALUES (?, ?, ?)", (segment, events, data))
        connection.execute(
            "UPDATE segments SET events = events + ?, bytes = bytes + ? WHERE id = ?", (events, len(data), segment)
        )

    def _prune(self, connection: sqlite3.Connection) -> None:
        """The newest segments stay that are within the bounds together; of the one that has just begun nobody asks."""
        events = size = 0
        for number, (segment, its_events, its_bytes) in enumerate(connection.execute(_TOTALS).fetchall()):
            events, size = events + its_events, size + its_bytes
            if number and (events > self._bounds.events or size > self._bounds.bytes):
                connection.execute("DELETE FROM steps WHERE segment <= ?", (segment,))
                connection.execute("DELETE FROM segments WHERE id <= ?", (segment,))
                return
