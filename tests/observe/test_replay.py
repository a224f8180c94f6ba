"""A replay finds the first decision that is another one, and refuses what it can't read with words."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing

import pytest

from roundhouse.core.codec import UnreadableJournal
from roundhouse.observe.journal import Bounds, Journal
from roundhouse.observe.replay import replay
from tests.observe.test_journal import NEVER, Busy


@pytest.fixture
async def file(tmp_path):
    path, busy = tmp_path / "journal.db", Busy()
    async with Journal(path, busy.fleet, busy.clock, Bounds(every=NEVER, segment=20)) as journal:
        for _ in range(3):
            busy.asks(journal, 10)
            await journal.flush()
    return path


def change(file, sql, *values):
    with closing(sqlite3.connect(file)) as db, db:
        assert db.execute(sql, values).rowcount


def altered(file, number, alter):
    """Changes one recorded step of the first batch."""
    with closing(sqlite3.connect(file)) as db:
        (data,) = db.execute("SELECT data FROM steps ORDER BY id LIMIT 1").fetchone()
    lines = [json.loads(line) for line in zlib.decompress(data).decode().split("\n")]
    alter(lines[number])
    packed = zlib.compress("\n".join(map(json.dumps, lines)).encode())
    change(file, "UPDATE steps SET data = ? WHERE id = (SELECT min(id) FROM steps)", packed)


def test_the_first_difference_is_named(file):
    altered(file, 3, lambda line: line[2].append(["Stop", 1, "alpha", "idle"]))
    found = replay(file).difference
    assert found.number == 4
    assert found.event[0] == "Arrived"
    assert found.recorded[-1] == ["Stop", 1, "alpha", "idle"]
    assert found.now == found.recorded[:-1]


def test_an_error_of_the_planner_is_a_difference(file):
    altered(file, 3, lambda line: line[1].__setitem__(slice(None), ["Found", 9, "nobody", None, None, True, None]))
    assert "KeyError" in replay(file).difference.now[0][1]


def test_a_picture_that_is_not_come_to_is_a_difference(file):
    altered(file, -1, lambda line: line.__setitem__(0, line[0] + 1.0))
    found = replay(file).difference
    assert found.event[0] == "picture"


def test_since_begins_with_the_picture_before(file):
    every = replay(file)
    with closing(sqlite3.connect(file)) as db:
        begins = [row[0] for row in db.execute("SELECT begun FROM segments ORDER BY id")]
    assert replay(file, begins[0] - 100.0) == every
    late = replay(file, begins[1])
    assert (late.segments, late.difference) == (every.segments - 1, None)
    assert late.events < every.events
    assert replay(file, begins[-1] + 1000.0).segments == 1


def test_progress_is_told(file):
    seen = []
    found = replay(file, watch=seen.append)
    assert seen[-1] == found.events
    assert seen == sorted(seen)


def test_another_version_is_refused(file):
    change(file, "UPDATE segments SET version = 99, program = '7.0'")
    with pytest.raises(UnreadableJournal, match=r"written by Roundhouse 7\.0 in form 99 and this one reads form 2"):
        replay(file)


@pytest.mark.parametrize("damage", [b"", b"nonsense", zlib.compress(b"{"), zlib.compress(b'[1, ["Tick"]]')])
def test_a_damaged_one_is_refused(file, damage):
    change(file, "UPDATE steps SET data = ? WHERE id = (SELECT max(id) FROM steps)", damage)
    with pytest.raises(UnreadableJournal):
        replay(file)


def test_what_is_no_journal_is_refused(tmp_path):
    other = tmp_path / "other.db"
    with pytest.raises(UnreadableJournal, match="there is no journal"):
        replay(other)
    other.write_text("hello")
    with pytest.raises(UnreadableJournal, match="can't be read"):
        replay(other)
