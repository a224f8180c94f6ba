from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from roundhouse.observe.past import Past, UnreadablePast, read_past
from roundhouse.observe.store import MIGRATIONS, Load, Measurement, Request, Store

NOW = 1_800_000_000.0


def request(number, at=NOW, **more):
    return Request(f"r{number}", at, "alpha", "me", "", 200, 0.5, 2.0, 0.2, 6.5, 10, 20, **more)


async def test_the_past_is_read_while_it_is_written(tmp_path):
    file = tmp_path / "roundhouse.db"
    told = request(1, wanted="beta", service_s=4.0, session="5e55", user="a5e4", priority=3)
    async with Store(file, clock=lambda: NOW) as store:
        store.record_request(told)
        store.record_load(Load("alpha", "s1", NOW, 3.0, True))
        store.record_measurement(Measurement("alpha", "s1", "gpu0", 7, "pss", NOW))
        await store.flush()
        past = read_past(file)
        assert past == Past((told,), {("alpha", "s1"): 3.0}, {("alpha", "s1"): {"gpu0": 7}})
        store.record_request(request(2, at=NOW + 1))
        await store.flush()
        assert [each.id for each in read_past(file).requests] == ["r1", "r2"]
        store.record_request(request(3, at=NOW + 2))
        await store.flush()
        assert store.dropped == 0


async def test_reading_leaves_the_file_as_it_is(tmp_path):
    file = tmp_path / "roundhouse.db"
    async with Store(file, clock=lambda: NOW) as store:
        store.record_request(request(1))
    before = file.read_bytes()
    assert len(read_past(file).requests) == 1
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file], "files of another user's beside it would keep the service from writing"


async def test_a_span_goes_back_from_the_last_request(tmp_path):
    file = tmp_path / "roundhouse.db"
    async with Store(file, clock=lambda: NOW) as store:
        for number, age in enumerate((300.0, 99.0, 0.0)):
            store.record_request(request(number, at=NOW - age))
    assert [each.id for each in read_past(file, 100.0).requests] == ["r1", "r2"]
    assert len(read_past(file).requests) == 3


def test_a_file_of_an_older_roundhouse_is_read_and_stays_older(tmp_path):
    file = tmp_path / "roundhouse.db"
    with closing(sqlite3.connect(file)) as old:
        for statement in MIGRATIONS[0]:
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
        values = [("a", 200, 0.5, 2.0, 6.5), ("b", 200, None, None, 4.0), ("c", 503, 0.0, 0.0, 9.0)]
        for name, status, queue, load, total in values:
            old.execute(
                "INSERT INTO requests (id, at, model, key, task, status, queue_s, load_s, total_s, error) "
                "VALUES (?, 1.0, 'alpha', '', '', ?, ?, ?, ?, '')",
                (name, status, queue, load, total),
            )
        old.commit()
    found = {each.id: (each.wanted, each.service_s, each.session) for each in read_past(file).requests}
    assert found == {"a": ("alpha", 4.0, ""), "b": ("alpha", 4.0, ""), "c": ("alpha", None, "")}
    with closing(sqlite3.connect(file)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)


def test_what_can_not_be_read_is_said(tmp_path):
    file = tmp_path / "roundhouse.db"
    with pytest.raises(UnreadablePast, match="no history yet"):
        read_past(file)
    file.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(UnreadablePast, match="can't be read"):
        read_past(file)
    file.unlink()
    with closing(sqlite3.connect(file)) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(UnreadablePast, match="newer Roundhouse"):
        read_past(file)
