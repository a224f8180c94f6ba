"""Plays a journal again through the planner: the same events at the same times must give the same decisions."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roundhouse.core.codec import VERSION, UnreadableJournal, decision, decode, decode_fleet, encode_fleet
from roundhouse.core.planner import step
from roundhouse.observe.past import address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from roundhouse.core.model import Fleet

_SEGMENTS = "SELECT id, version, program, begun, clock, follows, picture FROM segments ORDER BY id"


@dataclass(frozen=True, slots=True)
class Difference:
    """The first decision that came out otherwise: `at` seconds since the epoch, `number` of the event from 1."""

    at: float
    number: int
    event: Any
    recorded: list[Any]
    now: list[Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it. `begun`, `ended`: seconds since the epoch; `programs`: the versions that wrote the journal."""

    events: int = 0
    decisions: int = 0
    segments: int = 0
    begun: float | None = None
    ended: float | None = None
    programs: tuple[str, ...] = ()
    difference: Difference | None = None


def replay(path: Path, since: float | None = None, watch: Callable[[int], None] = lambda _events: None) -> Replayed:
    """Plays all of a journal, or what came after `since` (seconds since the epoch; from the picture before it on).

    `watch` is told of the events so far.

    Raises:
        UnreadableJournal: there is none, or it is of another version, or damaged.
    """
    if not path.is_file():
        raise UnreadableJournal(f"there is no journal at {path}; it begins when Roundhouse serves")
    try:
        with closing(sqlite3.connect(address(path), uri=True, timeout=5.0)) as file:
            file.execute("BEGIN")  # one state of the file, though it is being written
            return _Playing(file, watch).run(since)
    except sqlite3.Error as error:
        raise UnreadableJournal(f"the journal {path} can't be read: {error}") from None
    except (zlib.error, ValueError):
        raise UnreadableJournal(f"the journal {path} is damaged") from None


class _Playing:
    def __init__(self, file: sqlite3.Connection, watch: Callable[[int], None]) -> None:
        self._file = file
        self._watch = watch
        self._events = self._decisions = 0

    def run(self, since: float | None) -> Replayed:
        rows = self._file.execute(_SEGMENTS).fetchall()
        first = max((n for n, row in enumerate(rows) if since is not None and row[3] <= since), default=0)
        rows = rows[first:]
        fleet: Fleet | None = None
        ended, programs = None, tuple(dict.fromkeys(row[2] for row in rows))
        for number, (segment, version, program, begun, clock, follows, picture) in enumerate(rows):
            if version != VERSION:
                raise UnreadableJournal(
                    f"it was written by Roundhouse {program} in form {version} and this one reads form {VERSION}; "
                    "replay it with that version, or let it be: it is pruned by itself"
                )
            recorded = json.loads(zlib.decompress(picture))
            difference = self._compared(fleet, recorded, begun) if follows and fleet is not None else None
            fleet = decode_fleet(recorded)
            if difference is None:
                at, difference = self._play(fleet, segment, begun, clock)
                ended = at
            if difference is not None:
                return Replayed(
                    self._events, self._decisions, number + 1, rows[0][3], difference.at, programs, difference
                )
        return Replayed(self._events, self._decisions, len(rows), rows[0][3] if rows else None, ended, programs)

    def _play(self, fleet: Fleet, segment: int, begun: float, clock: float) -> tuple[float, Difference | None]:
        """One segment, up to the first difference; and when its last event was."""
        at = begun
        batches = self._file.execute("SELECT data FROM steps WHERE segment = ? ORDER BY id", (segment,)).fetchall()
        for (data,) in batches:
            for line in zlib.decompress(data).decode().split("\n"):
                now, event, recorded = json.loads(line)
                at = begun + now - clock
                self._events += 1
                self._decisions += len(recorded)
                if (actions := _decided(fleet, event, now)) != recorded:
                    return at, Difference(at, self._events, event, recorded, actions)
            self._watch(self._events)
        return at, None

    def _compared(self, fleet: Fleet, recorded: dict[str, Any], at: float) -> Difference | None:
        """Whether the picture that was come to is the one that the next segment begins with."""
        ours = json.loads(json.dumps(encode_fleet(fleet)))
        for name, value in recorded.items():
            if ours.get(name) != value:
                return Difference(at, self._events, ["picture", name], [value], [ours.get(name)])
        return None


def _decided(fleet: Fleet, event: Any, now: float) -> list[Any]:  # noqa: ANN401  # JSON
    """What is decided today; an error where there was none is another decision."""
    told = decode(event)
    try:
        actions = step(fleet, told, now)
    except Exception as error:  # noqa: BLE001  # as above
        return [["raised", f"{type(error).__name__}: {error}"]]
    decided: list[Any] = json.loads(json.dumps([decision(action) for action in actions]))
    return decided
