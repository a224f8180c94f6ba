"""The journal writes what it was told, never more than it may, and gives way to whatever the disk does."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from roundhouse.core.model import Arrived, BecameReady, Departed, Device, Fleet, ModelSpec, Ticket
from roundhouse.core.planner import step
from roundhouse.observe.journal import Bounds, Journal
from roundhouse.observe.replay import replay

NEVER = 3600.0


class Busy:
    """A box with one model that answers one request after another, each step told to a journal."""

    def __init__(self) -> None:
        self.fleet = Fleet([ModelSpec("alpha", claim={"gpu0": 6})], [Device("gpu0", 10)])
        self.now, self.ticket, self.told = 5.0, 0, 0

    def clock(self) -> float:
        return self.now

    def tell(self, journal: Journal, event) -> None:
        self.now += 0.25
        self.told += 1
        journal.note(event, step(self.fleet, event, self.now), self.now)

    def asks(self, journal: Journal, times: int = 1) -> None:
        for _ in range(times):
            self.ticket += 1
            self.tell(journal, Arrived(Ticket(self.ticket, "alpha", self.now, user="ann", session="chat")))
            if self.ticket == 1:
                self.tell(journal, BecameReady(1, 2, 1.0))
            self.tell(journal, Departed(self.ticket))


def rows(file, what="count(*)", table="segments"):
    with closing(sqlite3.connect(file)) as db:
        return [row[0] for row in db.execute(f"SELECT {what} FROM {table} ORDER BY id")]


async def test_what_was_told_can_be_played_again(tmp_path):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=NEVER)) as journal:
        busy.asks(journal, 20)
        assert await journal.flush()
        busy.asks(journal, 20)
    found = replay(file)
    assert (found.events, found.segments, found.difference) == (busy.told, 1, None)
    assert found.decisions == 41  # a start and forty grants
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert b"ann" not in file.read_bytes()


async def test_a_segment_ends_and_the_oldest_go(tmp_path):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=NEVER, segment=20, events=100)) as journal:
        for _ in range(50):
            busy.asks(journal, 10)
            assert await journal.flush()
        assert len(rows(file, "id")) <= 7
        assert sum(rows(file, "events")) <= 120
        assert set(rows(file, "segment", "steps")) <= set(rows(file, "id"))
    found = replay(file)
    assert found.difference is None, "a picture that a segment begins with is where the one before it ended"
    assert 80 <= found.events <= 120


async def test_bytes_are_bounded_too(tmp_path):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=NEVER, segment=20, bytes=8000)) as journal:
        for _ in range(50):
            busy.asks(journal, 10)
            await journal.flush()
        assert 0 < sum(rows(file, "bytes")) < 8000 + 3000


async def test_too_much_is_dropped_with_a_count_and_a_new_segment_begins(tmp_path):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=NEVER, pending=10)) as journal:
        busy.asks(journal, 30)
        assert journal.dropped == busy.told - 10
        await journal.flush()
        busy.asks(journal, 3)
    found = replay(file)
    assert (found.events, found.segments, found.difference) == (16, 2, None)
    assert rows(file, "follows") == [0, 0]


async def test_a_disk_that_takes_nothing_costs_the_steps_and_nothing_else(tmp_path, capsys):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=NEVER)) as journal:
        busy.asks(journal, 5)
        await journal.flush()
        full = "CREATE TRIGGER full BEFORE INSERT ON steps BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        await journal._database.run(lambda db: db.execute(full))
        busy.asks(journal, 5)
        assert not await journal.flush()
        assert journal.dropped == 10
        busy.asks(journal, 1)
        await journal._database.run(lambda db: db.execute("DROP TRIGGER full"))
        assert await journal.flush()
        busy.asks(journal, 4)
    found = replay(file)
    assert (found.events, found.segments, found.difference) == (11 + 8, 2, None)


async def test_a_step_that_has_no_form_does_not_end_it(tmp_path):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=NEVER)) as journal:
        journal.note(object(), [], 1.0)
        assert not await journal.flush()
        busy.asks(journal, 4)
        await journal.flush()
        busy.asks(journal, 4)
    assert replay(file).events == 8


async def test_it_writes_by_itself(tmp_path):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=0.0)) as journal:
        busy.asks(journal, 4)
        while not rows(file, "id", "steps"):
            await journal._database.run(lambda _: None)


async def test_after_a_write_that_failed_nothing_gathers_until_it_is_tried_again(tmp_path):
    file, busy = tmp_path / "journal.db", Busy()
    async with Journal(file, busy.fleet, busy.clock, Bounds(every=0.0, again=NEVER)) as journal:
        full = "CREATE TRIGGER full BEFORE INSERT ON steps BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        await journal._database.run(lambda db: db.execute(full))
        busy.asks(journal, 2)
        while not journal._gap:
            await journal._database.run(lambda _: None)
        before = journal.dropped
        busy.asks(journal, 3)
        assert journal.dropped == before + 6
        assert journal._steps == []
