"""The history of this installation in SQLite (spec G5): loads, measured memory, requests.

Owns the tables, their retention and what is asked of them. How and when they are written is `database`'s matter; who
acts on the figures (expected times, estimates) is not known here. `record_*` cost a few microseconds and never fail.
"""

from __future__ import annotations

import math
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from roundhouse.observe import log
from roundhouse.observe.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE loads (
            id INTEGER PRIMARY KEY, model TEXT NOT NULL, settings TEXT NOT NULL, started REAL NOT NULL,
            seconds REAL NOT NULL, ok INTEGER NOT NULL, reason TEXT NOT NULL, stages TEXT NOT NULL)""",
        "CREATE INDEX loads_of_model ON loads (model, settings)",
        """CREATE TABLE measurements (
            id INTEGER PRIMARY KEY, model TEXT NOT NULL, settings TEXT NOT NULL, device TEXT NOT NULL,
            bytes INTEGER NOT NULL, source TEXT NOT NULL, at REAL NOT NULL)""",
        "CREATE INDEX measurements_of_model ON measurements (model, settings, device)",
        """CREATE TABLE requests (
            row INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, model TEXT NOT NULL, key TEXT NOT NULL,
            task TEXT NOT NULL, status INTEGER NOT NULL, queue_s REAL, load_s REAL, ttft_s REAL, total_s REAL,
            prompt_tokens INTEGER, completion_tokens INTEGER, error TEXT NOT NULL)""",
        "CREATE INDEX requests_by_id ON requests (id)",
        "CREATE INDEX requests_by_model ON requests (model)",
        "CREATE INDEX requests_by_time ON requests (at)",
    ),
    (  # One row per load, and not one for each time that it was seen to grow; of old ones the highest is kept.
        "ALTER TABLE measurements ADD COLUMN load REAL NOT NULL DEFAULT 0",
        """DELETE FROM measurements WHERE id NOT IN (SELECT id FROM (
            SELECT id, row_number() OVER (PARTITION BY model, settings, device ORDER BY bytes DESC) AS place
            FROM measurements) WHERE place = 1)""",
        "DROP INDEX measurements_of_model",
        "CREATE UNIQUE INDEX measurements_of_load ON measurements (model, settings, device, load)",
    ),
    (  # what is needed to replay them
        "ALTER TABLE requests ADD COLUMN wanted TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE requests ADD COLUMN service_s REAL",
        "ALTER TABLE requests ADD COLUMN session TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE requests ADD COLUMN user TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE requests ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        """UPDATE requests SET wanted = model, service_s = CASE WHEN status = 200
            THEN max(0, total_s - ifnull(queue_s, 0) - ifnull(load_s, 0)) END""",
    ),
    (
        "CREATE TABLE switches (id INTEGER PRIMARY KEY, at REAL NOT NULL, model TEXT NOT NULL, told TEXT NOT NULL)",
        "CREATE INDEX switches_of_model ON switches (model)",
    ),
    (
        """CREATE TABLE notes (id INTEGER PRIMARY KEY, at REAL NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL,
            beneficiary TEXT NOT NULL, facts TEXT NOT NULL)""",
        "CREATE INDEX notes_of_model ON notes (model, at)",
        "CREATE INDEX notes_for_model ON notes (beneficiary, at)",
        "ALTER TABLE requests ADD COLUMN why TEXT NOT NULL DEFAULT ''",
    ),
)

_INSERT_LOAD = "INSERT INTO loads (model, settings, started, seconds, ok, reason, stages) VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_MEASUREMENT = """
    INSERT INTO measurements (model, settings, device, bytes, source, at, load) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (model, settings, device, load) DO UPDATE SET bytes = max(bytes, excluded.bytes), at = excluded.at"""
_INSERT_REQUEST = """
    INSERT INTO requests (id, at, model, key, task, status, queue_s, load_s, ttft_s, total_s,
        prompt_tokens, completion_tokens, error, wanted, service_s, session, user, priority, why)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
LAST_GOOD_LOADS = """
    SELECT model, settings, seconds FROM (
        SELECT model, settings, seconds, row_number() OVER (PARTITION BY model, settings ORDER BY id DESC) AS place
        FROM loads WHERE ok) WHERE place <= ?"""
LAST_PEAKS = """
    SELECT model, settings, device, bytes FROM (
        SELECT model, settings, device, bytes,
            row_number() OVER (PARTITION BY model, settings, device ORDER BY load DESC) AS place
        FROM measurements) WHERE place <= ? ORDER BY place"""
_RECENT_REQUESTS = """
    SELECT id, at, model, key, task, status, queue_s, load_s, ttft_s, total_s, prompt_tokens, completion_tokens, error,
        wanted, service_s, session, user, priority, why
    FROM requests WHERE ?1 IS NULL OR model = ?1 ORDER BY row DESC LIMIT ?2"""
_FOUND_REQUESTS = """
    SELECT id, at, model, key, task, status, queue_s, load_s, ttft_s, total_s, prompt_tokens, completion_tokens, error,
        wanted, service_s, session, user, priority
    FROM requests WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR key = ?2)
        AND (?3 IS NULL OR (status < 400 AND error = '') = ?3) AND (?4 IS NULL OR at < ?4)
        AND (?5 IS NULL OR ifnull(queue_s, 0) + ifnull(load_s, 0) >= ?5 OR (service_s IS NULL AND total_s >= ?5))
    ORDER BY at DESC, row DESC LIMIT ?6"""

# One model that is loaded or measured often must not push out the others.
_PRUNE_LOADS_OF_MODEL = """
    DELETE FROM loads WHERE id IN (SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY model, settings ORDER BY id DESC) AS place FROM loads)
        WHERE place > ?)"""
_PRUNE_MEASUREMENTS_OF_MODEL = """
    DELETE FROM measurements WHERE id IN (SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY model, settings, device ORDER BY load DESC) AS place
        FROM measurements) WHERE place > ?)"""
_PRUNE_LOADS = "DELETE FROM loads WHERE id NOT IN (SELECT id FROM loads ORDER BY id DESC LIMIT ?)"
_PRUNE_MEASUREMENTS = "DELETE FROM measurements WHERE id NOT IN (SELECT id FROM measurements ORDER BY id DESC LIMIT ?)"
_PRUNE_REQUESTS = "DELETE FROM requests WHERE row <= (SELECT max(row) FROM requests) - ?"
_PRUNE_OLD_REQUESTS = "DELETE FROM requests WHERE at < ?"

_INSERT_SWITCH = "INSERT INTO switches (at, model, told) VALUES (?, ?, ?)"
_RECENT_SWITCHES = "SELECT told FROM switches WHERE ?1 IS NULL OR model = ?1 ORDER BY id DESC LIMIT ?2"
_PRUNE_SWITCHES = "DELETE FROM switches WHERE id <= (SELECT max(id) FROM switches) - ?"

_INSERT_NOTE = "INSERT INTO notes (at, model, kind, beneficiary, facts) VALUES (?, ?, ?, ?, ?)"
REQUEST_BY_ID = """
    SELECT id, at, model, key, task, status, queue_s, load_s, ttft_s, total_s, prompt_tokens, completion_tokens, error,
        wanted, service_s, session, user, priority, why
    FROM requests WHERE id = ? ORDER BY row DESC LIMIT 1"""
NOTES_BETWEEN = """
    SELECT at, model, kind, beneficiary, facts FROM notes
    WHERE (model = ?1 OR beneficiary = ?1) AND at BETWEEN ?2 AND ?3 ORDER BY id DESC LIMIT ?4"""
_PRUNE_NOTES = "DELETE FROM notes WHERE id <= (SELECT max(id) FROM notes) - ?"

LOADS_LOOKED_AT = 8
_TEXT_LIMIT = 2000  # characters
_STAGE_LIMIT = 32
_PRUNE_EVERY = 500  # records


class Load(NamedTuple):
    """One load: `started` seconds since the epoch, `stages` seconds by name, `reason` why it failed or ''."""

    model: str
    settings: str
    started: float
    seconds: float
    ok: bool
    reason: str = ""
    stages: Mapping[str, float] | None = None


class SwitchRow(NamedTuple):
    """One switch: when it ended (seconds since the epoch), and the report."""

    at: float
    model: str
    told: Mapping[str, Any]


class NoteRow(NamedTuple):
    """What happened to a model and why (`core.chronicle`): `at` seconds since the epoch; `beneficiary`: for which."""

    at: float
    model: str
    kind: str
    beneficiary: str
    facts: Mapping[str, Any]


class Measurement(NamedTuple):
    """Bytes that a model's processes held on a device; `source`: nvml, pss, log, …; `at` seconds since the epoch.

    `load` tells loads apart and sorts them: when its first figure was taken. Of one load the highest figure is kept.
    """

    model: str
    settings: str
    device: str
    bytes: int
    source: str
    at: float
    load: float


class Request(NamedTuple):
    """One request that has ended: `at` seconds since the epoch when it came, durations in seconds, None = none.

    `key` is the name of the API key, never the key; `task` the background task's name or ''; `error` a code or ''.
    `model` served it, `wanted` was asked for. `service_s` is how long the engine had it, None if it never came to one
    (refused, or its client left before). `session` and `user` are short hashes, '' where none was told. `why` tells
    how it waited, as JSON (`core.chronicle`); '' if it never did.
    """

    id: str
    at: float
    model: str
    key: str
    task: str
    status: int
    queue_s: float | None = None
    load_s: float | None = None
    ttft_s: float | None = None
    total_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str = ""
    wanted: str = ""
    service_s: float | None = None
    session: str = ""
    user: str = ""
    priority: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept: rows in all, rows per model and settings, and days."""

    requests: int = 20_000
    requests_days: float = 30.0
    per_model: int = 64
    loads: int = 5_000
    measurements: int = 5_000
    switches: int = 5_000
    notes: int = 20_000


class Store:
    """An async context manager around the history file. Reads answer as if nothing were known when the disk fails.

    Args:
        path: the file, normally `roundhouse.db` in `state_dir`; one Roundhouse at a time (`runtime.lock`).
        pending: records that may wait to be written; more are dropped and counted.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention: Retention | None = None,
        pending: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = Database(path, MIGRATIONS, pending=pending)
        self._retention = retention or Retention()
        self._clock = clock
        self._recorded = 0

    def __repr__(self) -> str:
        return f"<Store on {self._database!r}>"

    @property
    def dropped(self) -> int:
        """Records lost so far: the disk was full or unwritable, or too many were waiting."""
        return self._database.dropped

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        self._prune()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.__aexit__(kind, error, trace)

    # --- recording: synchronous, never blocking, never failing ---

    def record_load(self, load: Load) -> None:
        """Notes a load, good or failed."""
        stages = dict(list((load.stages or {}).items())[:_STAGE_LIMIT])
        self._record(_INSERT_LOAD, (*load[:5], load.reason[:_TEXT_LIMIT], orjson.dumps(stages).decode()))

    def record_measurement(self, measurement: Measurement) -> None:
        """Notes what a model occupies."""
        self._record(_INSERT_MEASUREMENT, measurement)

    def record_request(self, request: Request) -> None:
        """Notes a request that has ended."""
        self._record(_INSERT_REQUEST, request._replace(error=request.error[:_TEXT_LIMIT]))

    def record_switch(self, switch: SwitchRow) -> None:
        """Notes a switch."""
        self._record(_INSERT_SWITCH, (switch.at, switch.model, orjson.dumps(switch.told).decode()))

    def record_note(self, note: NoteRow) -> None:
        """Notes what happened to a model."""
        self._record(_INSERT_NOTE, (*note[:4], orjson.dumps(note.facts).decode()))

    async def flush(self) -> None:
        """Returns when everything recorded so far is written (or dropped)."""
        await self._database.run(lambda _: None)

    # --- asking ---

    async def expected_load(self, model: str, settings: str) -> float | None:
        """Seconds that a load of this model with these settings is expected to take, None if it never loaded."""
        return (await self.expected_all()).get((model, settings))

    async def expected_all(self) -> dict[tuple[str, str], float]:
        """Expected load seconds by (model, settings): what three of four of the last 8 good loads did not exceed."""
        return expected_of(await self._rows(LAST_GOOD_LOADS, (LOADS_LOOKED_AT,)))

    async def peaks(self, model: str, settings: str) -> dict[str, list[int]]:
        """The most bytes that each of the last loads held on each device, the newest first; empty if never measured."""
        return (await self.peaks_all()).get((model, settings), {})

    async def peaks_all(self) -> dict[tuple[str, str], dict[str, list[int]]]:
        """The same by (model, settings): of the last 8 loads that were measured."""
        return peaks_of(await self._rows(LAST_PEAKS, (LOADS_LOOKED_AT,)))

    async def recent_requests(self, limit: int = 100, model: str | None = None) -> list[Request]:
        """The last requests, newest first."""
        rows = await self._rows(_RECENT_REQUESTS, (model, max(limit, 0)))
        return [Request(*row) for row in rows]

    async def find_requests(
        self,
        model: str | None,
        key: str | None,
        ok: bool | None,
        before: float | None,
        limit: int,
        waited: float | None = None,
    ) -> list[Request]:
        """Requests that are all this, newest first; None = any.

        `before` is seconds since the epoch; `waited` the least seconds of waiting, for a turn and for the load.
        """
        rows = await self._rows(_FOUND_REQUESTS, (model, key, ok, before, waited, max(limit, 0)))
        return [Request(*row) for row in rows]

    async def recent_switches(self, limit: int = 100, model: str | None = None) -> list[dict[str, Any]]:
        """The last switches as they were told, newest first."""
        rows = await self._rows(_RECENT_SWITCHES, (model, max(limit, 0)))
        return [orjson.loads(told) for (told,) in rows]

    async def request(self, request: str) -> Request | None:
        """The last request of that id."""
        rows = await self._rows(REQUEST_BY_ID, (request,))
        return Request(*rows[0]) if rows else None

    async def notes(self, model: str, since: float, until: float, limit: int = 500) -> list[NoteRow]:
        """What happened to a model, or to others for it, between two times; the last of it, oldest first."""
        return notes_of(await self._rows(NOTES_BETWEEN, (model, since, until, limit)))

    async def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return await self._database.run(lambda connection: connection.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            log.get(__name__).warning("store_not_read", reason=str(error))
            return []

    # --- retention ---

    def _record(self, sql: str, values: tuple[Any, ...]) -> None:
        self._database.write(sql, values)
        self._recorded += 1
        if self._recorded % _PRUNE_EVERY == 0:
            self._prune()

    def _prune(self) -> None:
        """Removes what is beyond the retention: the oldest go first."""
        keep = self._retention
        write = self._database.write
        write(_PRUNE_OLD_REQUESTS, (self._clock() - keep.requests_days * 86_400,))
        write(_PRUNE_REQUESTS, (keep.requests,))
        write(_PRUNE_LOADS_OF_MODEL, (keep.per_model,))
        write(_PRUNE_LOADS, (keep.loads,))
        write(_PRUNE_MEASUREMENTS_OF_MODEL, (keep.per_model,))
        write(_PRUNE_MEASUREMENTS, (keep.measurements,))
        write(_PRUNE_SWITCHES, (keep.switches,))
        write(_PRUNE_NOTES, (keep.notes,))


def expected_of(rows: Iterable[tuple[str, str, float]]) -> dict[tuple[str, str], float]:
    """What `LAST_GOOD_LOADS` found, as `Store.expected_all` tells it."""
    by_model: dict[tuple[str, str], list[float]] = {}
    for model, settings, seconds in rows:
        by_model.setdefault((model, settings), []).append(seconds)
    return {name: _upper_quartile(seconds) for name, seconds in by_model.items()}


def peaks_of(rows: Iterable[tuple[str, str, str, int]]) -> dict[tuple[str, str], dict[str, list[int]]]:
    """What `LAST_PEAKS` found, as `Store.peaks_all` tells it."""
    peaks: dict[tuple[str, str], dict[str, list[int]]] = {}
    for model, settings, device, size in rows:
        peaks.setdefault((model, settings), {}).setdefault(device, []).append(size)
    return peaks


def notes_of(rows: Iterable[tuple[float, str, str, str, str]]) -> list[NoteRow]:
    """What `NOTES_BETWEEN` found, oldest first."""
    return [NoteRow(*row[:4], orjson.loads(row[4])) for row in rows][::-1]


def _upper_quartile(values: list[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.75) - 1]
