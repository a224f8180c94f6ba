"""The history file as read by another program than the one that writes it, which may be running: nothing is changed.

A copy in memory is looked at, so that a file of an older Roundhouse can be brought to today's form.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.observe.database import migrate
from roundhouse.observe.store import (
    LAST_GOOD_LOADS,
    LAST_PEAKS,
    LOADS_LOOKED_AT,
    MIGRATIONS,
    Request,
    expected_of,
    peaks_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


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
    if not path.is_file():
        raise UnreadablePast(f"there is no history yet at {path}; it begins with the first request that is served")
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
            with closing(sqlite3.connect(_address(path), uri=True, timeout=5.0)) as file:
                file.backup(copy)
            migrate(copy, MIGRATIONS)
            return _read(copy, span)
    except sqlite3.Error as error:
        raise UnreadablePast(f"the history {path} can't be read: {error}") from None


def _address(path: Path) -> str:
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
