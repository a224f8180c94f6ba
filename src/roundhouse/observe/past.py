"""The history file as read by another program than the one that writes it, which may be running: nothing is changed.

A copy in memory is looked at, so that a file of an older Roundhouse can be brought to today's form.
"""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.observe.database import migrate
from roundhouse.observe.store import (
    LAST_GOOD_LOADS,
    LAST_PEAKS,
    LOADS_LOOKED_AT,
    MIGRATIONS,
    NOTES_BETWEEN,
    REQUEST_BY_ID,
    Request,
    expected_of,
    notes_of,
    peaks_of,
)
from roundhouse.observe.why import LOOK_BACK, Line, of_model, of_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MOST_NOTES = 500
"""Of a model that are looked at."""

_REQUESTS = f"""
    SELECT {", ".join(Request._fields)} FROM requests
    WHERE ?1 IS NULL OR at >= (SELECT max(at) FROM requests) - ?1 ORDER BY at, row"""  # noqa: S608  # our own names


class UnreadablePast(Exception):
    """The history can't be read; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Past:
    """What an installation remembers: requests, oldest first; load seconds and peaks as `Store` tells them."""

    requests: tuple[Request, ...] = ()
    expected: Mapping[tuple[str, str], float] = field(default_factory=dict)
    peaks: Mapping[tuple[str, str], Mapping[str, Sequence[int]]] = field(default_factory=dict)


def read_past(path: Path, span: float | None = None) -> Past:
    """The history in a file: the requests of the `span` seconds before the last one, all for None.

    Raises:
        UnreadablePast: there is no such file, or it is not one of ours.
    """
    with _copied(path) as copy:
        return _read(copy, span)


@dataclass(frozen=True, slots=True)
class Story:
    """Why a request waited or a model came and went."""

    model: str
    lines: Sequence[Line]


def read_why(path: Path, what: str) -> Story | None:
    """The story of a request by its id, else of a model; None if the history knows neither.

    Raises:
        UnreadablePast: as `read_past`.
    """
    with _copied(path) as copy:
        if (row := copy.execute(REQUEST_BY_ID, (what,)).fetchone()) is not None:
            request = Request(*row)
            wanted, ended = request.wanted or request.model, request.at + (request.total_s or 0.0)
            span = (wanted, request.at - LOOK_BACK, ended + 1.0, MOST_NOTES)
            return Story(wanted, of_request(request, notes_of(copy.execute(NOTES_BETWEEN, span))))
        notes = notes_of(copy.execute(NOTES_BETWEEN, (what, 0.0, math.inf, MOST_NOTES)))
        return Story(what, of_model(notes, what)) if notes else None


@contextmanager
def _copied(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the file in memory. Raises UnreadablePast."""
    if not path.is_file():
        raise UnreadablePast(f"there is no history yet at {path}; it begins with the first request that is served")
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
            with closing(sqlite3.connect(address(path), uri=True, timeout=5.0)) as file:
                file.backup(copy)
            migrate(copy, MIGRATIONS)
            yield copy
    except sqlite3.Error as error:
        raise UnreadablePast(f"the history {path} can't be read: {error}") from None


def address(path: Path) -> str:
    """The file for reading only.

    While nobody has it open there is no -wal file; SQLite would make one, which the service's user could not write if
    it were root's, unless it is told that the file does not change.
    """
    in_use = path.with_name(f"{path.name}-wal").exists()
    return f"{path.absolute().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"


def _read(copy: sqlite3.Connection, span: float | None) -> Past:
    rows = copy.execute(_REQUESTS, (span,))
    loads = copy.execute(LAST_GOOD_LOADS, (LOADS_LOOKED_AT,))
    peaks = copy.execute(LAST_PEAKS, (LOADS_LOOKED_AT,))
    return Past(tuple(Request(*row) for row in rows), expected_of(loads), peaks_of(peaks))
