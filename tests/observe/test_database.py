import asyncio
import sqlite3
import stat
import threading
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from roundhouse.observe.database import Database

ONE = ("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",)
TWO = ("ALTER TABLE things ADD COLUMN size INTEGER", "CREATE INDEX by_name ON things (name)")
INSERT = "INSERT INTO things (name) VALUES (?)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "roundhouse.db"


async def names(database):
    rows = await database.run(lambda db: db.execute("SELECT name FROM things ORDER BY id").fetchall())
    return [name for (name,) in rows]


async def test_g5_writes_are_there_for_the_next_job_and_the_next_run(path):
    async with Database(path, [ONE]) as database:
        database.write(INSERT, ("a",))
        assert await names(database) == ["a"]
        database.write(INSERT, ("b",))
    async with Database(path, [ONE]) as database:
        assert await names(database) == ["a", "b"]


async def test_g5_wal_and_one_connection_per_thread(path):
    async with Database(path, [ONE]) as database:
        assert await database.run(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
        assert await database.run(lambda _: threading.current_thread().name) == "roundhouse-store"


async def test_g5_the_thread_ends(path):
    async with Database(path, [ONE]) as database:
        thread = await database.run(lambda _: threading.current_thread())
    assert not thread.is_alive()


async def test_f4_only_the_owner_can_read_the_files(path):
    path.parent.mkdir()
    path.touch(mode=0o644)
    async with Database(path, [ONE]) as database:
        database.write(INSERT, ("a",))
        await names(database)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) == {"roundhouse.db", "roundhouse.db-wal", "roundhouse.db-shm"}
    assert set(modes.values()) == {0o600}


async def test_g5_migrations_are_done_once_and_in_order(path):
    async with Database(path, [ONE]) as database:
        database.write(INSERT, ("a",))
    for _ in range(2):
        async with Database(path, [ONE, TWO]) as database:
            rows = await database.run(lambda db: db.execute("SELECT name, size FROM things").fetchall())
            assert rows == [("a", None)]
            assert await database.run(lambda db: db.execute("PRAGMA user_version").fetchone()) == (2,)


async def test_g5_a_migration_that_fails_changes_nothing_and_history_goes_on_in_memory(path):
    async with Database(path, [ONE]) as database:
        database.write(INSERT, ("a",))
        await database.run(lambda db: db.execute("CREATE TABLE in_the_way (id)"))
    with capture_logs() as logs:
        async with Database(path, [ONE, (*TWO, "CREATE TABLE in_the_way (id)")]) as database:
            database.write(INSERT, ("b",))
            assert await names(database) == ["b"]
    assert logs[0]["event"] == "store_unusable"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM things").fetchall() == [(1, "a")]


async def test_g5_a_file_of_a_newer_roundhouse_is_left_alone(path):
    async with Database(path, [ONE, TWO]) as database:
        database.write(INSERT, ("theirs",))
    with capture_logs() as logs:
        async with Database(path, [ONE]) as database:
            database.write(INSERT, ("ours",))
            assert await names(database) == ["ours"]
    assert "newer Roundhouse" in logs[0]["reason"]
    async with Database(path, [ONE, TWO]) as database:
        assert await names(database) == ["theirs"]


@pytest.mark.parametrize(
    "content",
    [b"this is no database, but it is long enough to be looked at" * 100, b"SQLite format 3\0" + b"\xff" * 5000],
)
async def test_g5_a_corrupt_file_is_renamed_aside_and_a_new_one_begun(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with capture_logs() as logs:
        async with Database(path, [ONE]) as database:
            database.write(INSERT, ("a",))
            assert await names(database) == ["a"]
    (aside,) = path.parent.glob("roundhouse.db.corrupt-*Z")
    assert aside.read_bytes() == content
    assert [(entry["event"], entry["moved_to"]) for entry in logs] == [("store_corrupt", aside.name)]


async def test_g5_a_file_that_becomes_corrupt_while_open_is_replaced(path):
    async with Database(path, [ONE]) as database:
        for n in range(2000):
            database.write(INSERT, (f"{n}" * 20,))
        await database.run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        await database.run(lambda db: db.execute("PRAGMA cache_size = 0"))
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        with capture_logs() as logs, pytest.raises(sqlite3.DatabaseError):
            await names(database)
        assert [entry["event"] for entry in logs] == ["store_failed", "store_corrupt"]
        database.write(INSERT, ("a",))
        assert await names(database) == ["a"]


async def test_e6_a_full_disk_drops_and_counts_and_recovers(path):
    async with Database(path, [ONE]) as database:
        await database.run(lambda db: db.execute("PRAGMA max_page_count = 4").fetchall())
        with capture_logs() as logs:
            for _ in range(3):
                database.write(INSERT, ("x" * 100_000,))
                assert await names(database) == []
        assert database.dropped == 3
        assert [(entry["event"], entry["reason"]) for entry in logs] == [("store_failed", "database or disk is full")]
        await database.run(lambda db: db.execute("PRAGMA max_page_count = 10000").fetchall())
        database.write(INSERT, ("a",))
        assert await names(database) == ["a"]


async def test_g5_a_read_only_file_drops_and_counts_and_recovers(path):
    async with Database(path, [ONE]) as database:
        await database.run(lambda db: db.execute("PRAGMA query_only = ON"))
        database.write(INSERT, ("a",))
        assert await names(database) == []
        assert database.dropped == 1
        await database.run(lambda db: db.execute("PRAGMA query_only = OFF"))
        database.write(INSERT, ("b",))
        assert await names(database) == ["b"]


async def test_g5_a_batch_that_fails_is_undone_and_the_next_is_written(path):
    async with Database(path, [ONE]) as database:
        with capture_logs():
            database.write(INSERT, ("a",))
            database.write("INSERT INTO nowhere VALUES (1)")
            assert await names(database) == []
        assert database.dropped == 2
        database.write(INSERT, ("b",))
        assert await names(database) == ["b"]


async def test_g5_where_no_file_can_be_opened_history_is_in_memory(path):
    path.mkdir(parents=True)
    with capture_logs() as logs:
        async with Database(path, [ONE]) as database:
            database.write(INSERT, ("a",))
            assert await names(database) == ["a"]
    assert logs[0]["event"] == "store_unusable"


async def test_g5_where_no_folder_can_be_made_history_is_in_memory(tmp_path):
    (tmp_path / "file").touch()
    with capture_logs():
        async with Database(tmp_path / "file" / "roundhouse.db", [ONE]) as database:
            database.write(INSERT, ("a",))
            assert await names(database) == ["a"]


async def test_e6_writes_that_wait_are_bounded(path):
    async with Database(path, [ONE], pending=3) as database:
        gate, reached = threading.Event(), threading.Event()

        def wait_at_gate(_):
            reached.set()
            gate.wait(30)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(database.run(wait_at_gate))
            await asyncio.to_thread(reached.wait, 30)
            for n in range(5):
                database.write(INSERT, (str(n),))
            gate.set()
        assert await names(database) == ["0", "1", "2"]
        assert database.dropped == 2


async def test_g5_a_value_that_cannot_be_stored_does_not_spoil_the_others(path):
    async with Database(path, [ONE]) as database:
        with capture_logs():
            for value in ("a", object(), None, 2**70, "\ud800", "b"):
                database.write(INSERT, (value,))
            assert await names(database) == ["a", "b"]
        assert database.dropped == 4


async def test_g5_after_the_end_writes_are_dropped_and_jobs_refused(path):
    async with Database(path, [ONE]) as database:
        pass
    database.write(INSERT, ("a",))
    assert database.dropped == 1
    with pytest.raises(sqlite3.ProgrammingError):
        await names(database)


async def test_g5_what_a_job_raises_is_its_callers(path):
    async with Database(path, [ONE]) as database:
        with pytest.raises(ZeroDivisionError):
            await database.run(lambda _: 1 / 0)
        assert await names(database) == []


async def test_g5_a_cancelled_start_ends_the_thread(path):
    database = Database(path, [ONE])
    task = asyncio.get_running_loop().create_task(database.__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(database._thread.join, 30)
    assert not database._thread.is_alive()
