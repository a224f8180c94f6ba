"""One SQLite file (WAL) behind one thread: writes are batched off the event loop, and no fault of the disk gets out.

Owns the connection, the thread, migrations and what is done about corrupt, full or unwritable files. Knows no table.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from roundhouse.observe import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

_T = TypeVar("_T")

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BAD_VALUES = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError, OverflowError)


class Database:
    """An async context manager: on entering the file is opened (and made, mode 0600) and brought to the last migration.

    Never raises for what is wrong with the file: a corrupt one is renamed aside and a new one begun; where none can be
    opened or written, history is kept in memory for this run. Writes that fail are dropped and counted.

    Args:
        path: the file; its folder is made if missing.
        migrations: each a list of statements; `PRAGMA user_version` counts those that are done.
        pending: writes that may wait at most; more are dropped.
        linger: seconds that writes are collected before they are written together.
    """

    def __init__(
        self, path: Path, migrations: Sequence[Sequence[str]], *, pending: int = 10_000, linger: float = 0.2
    ) -> None:
        self._turned_away = 0  # by the event loop: too many were waiting
        self._lost = 0  # by the thread: the disk would not take them
        self._path = str(path)
        self._file = _File(path, migrations)
        self._limit = pending
        self._linger = linger
        self._writes: deque[tuple[str, Sequence[Any]]] = deque()
        self._jobs: deque[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]] = deque()
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="roundhouse-store", daemon=True)

    def __repr__(self) -> str:
        return f"<Database {self._path}: {len(self._writes)} to write, {self.dropped} dropped>"

    @property
    def dropped(self) -> int:
        """Writes lost so far, because too many were waiting or the disk would not take them."""
        return self._turned_away + self._lost

    async def __aenter__(self) -> Self:
        self._thread.start()
        try:
            await self.run(lambda _: None)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        await asyncio.to_thread(self._thread.join)

    def write(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Queues one statement; never blocks, never fails. For the event loop's thread only."""
        if self._closing or len(self._writes) >= self._limit:
            self._turned_away += 1
            return
        self._writes.append((sql, values))
        if not self._work.is_set():
            self._work.set()

    async def run(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs a function on the connection, after all writes queued before. Raises what the function raises."""
        done: Future[_T] = Future()
        if self._closing:
            raise sqlite3.ProgrammingError("The store is closed.")
        self._jobs.append((job, done))
        self._wake()
        return await asyncio.wrap_future(done)

    def _close(self) -> None:
        self._closing = True
        self._wake()

    def _wake(self) -> None:
        self._work.set()
        self._hurry.set()

    # --- below: the thread ---

    def _run(self) -> None:
        try:
            self._file.open()
            while self._writes or self._jobs or not self._closing:
                self._work.wait()
                self._hurry.wait(self._linger)
                self._work.clear()
                self._hurry.clear()
                self._do_all()
            self._file.close()
        finally:  # whatever ended the thread, nobody waits for it for ever
            self._closing = True
            while self._jobs:
                self._jobs.popleft()[1].set_exception(sqlite3.ProgrammingError("The store has stopped."))

    def _do_all(self) -> None:
        # Jobs are counted before writes are taken, so that a job finds everything queued before it written.
        jobs = len(self._jobs)
        self._write_all()
        for _ in range(jobs):
            self._do(*self._jobs.popleft())

    def _write_all(self) -> None:
        batch = [self._writes.popleft() for _ in range(len(self._writes))]
        if not batch:
            return
        try:
            with _transaction(self._file.connection):
                refused = sum(not self._written(sql, values) for sql, values in batch)
        except sqlite3.Error as error:
            self._lost += len(batch)
            self._note(error)
        else:
            self._lost += refused
            self._failing = False

    def _written(self, sql: str, values: Sequence[Any]) -> bool:
        """False for values that SQLite can't take: they must not spoil the others of the batch."""
        try:
            self._file.connection.execute(sql, values)
        except _BAD_VALUES as error:
            log.get(__name__).error("store_bad_values", reason=str(error), statement=sql)
            return False
        return True

    def _do(self, job: Callable[[sqlite3.Connection], Any], done: Future[Any]) -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(job(self._file.connection))
        except Exception as error:  # noqa: BLE001 (it is the caller's, who gets it)
            if isinstance(error, sqlite3.Error):
                self._note(error)
            done.set_exception(error)

    def _note(self, error: Exception) -> None:
        if not self._failing:  # once per trouble, not once per batch
            log.get(__name__).warning("store_failed", path=self._path, reason=str(error), dropped=self.dropped)
        self._failing = True
        if _is_corrupt(error):
            self._file.replace(str(error))


class _File:
    """The connection, and the file under it."""

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]]) -> None:
        self.path = path
        self.connection: sqlite3.Connection
        self._migrations = migrations

    def open(self) -> None:
        """Opens the file, a fresh one if it is corrupt, or memory if there can be none."""
        try:
            self.connection = self._opened()
        except (sqlite3.Error, OSError) as error:
            if _is_corrupt(error):
                self._move_aside(str(error))
                self._open_or_forget()
            else:
                self._forget(str(error))

    def replace(self, reason: str) -> None:
        """Moves the file aside and begins a new one."""
        self.close()
        self._move_aside(reason)
        self._open_or_forget()

    def close(self) -> None:
        try:
            self.connection.close()
        except sqlite3.Error as error:
            log.get(__name__).warning("store_close_failed", path=str(self.path), reason=str(error))

    def _open_or_forget(self) -> None:
        try:
            self.connection = self._opened()
        except (sqlite3.Error, OSError) as error:
            self._forget(str(error))

    def _forget(self, reason: str) -> None:
        log.get(__name__).error("store_unusable", path=str(self.path), reason=reason, instead="memory, for this run")
        self.connection = _connect(":memory:")
        migrate(self.connection, self._migrations)

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made by us first: SQLite would use the umask, and gives -wal and -shm the mode of the file.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.path.chmod(0o600)
        connection = _connect(str(self.path))
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            migrate(connection, self._migrations)
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self, reason: str) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = f"{self.path.name}.corrupt-{stamp}"
        log.get(__name__).error(
            "store_corrupt", path=str(self.path), reason=reason, moved_to=aside, instead="a new file"
        )
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            try:
                part.rename(self.path.with_name(aside + suffix))
            except FileNotFoundError:
                continue
            except OSError as error:
                log.get(__name__).error("store_not_moved", path=str(part), reason=str(error))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            connection.execute("ROLLBACK")
        raise


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, isolation_level=None, timeout=5.0)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Brings a file's tables to the last migration. Raises sqlite3.Error, also if a newer Roundhouse wrote them."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(migrations):
        raise sqlite3.DatabaseError(f"It was written by a newer Roundhouse (format {done}, ours is {len(migrations)}).")
    for number, statements in enumerate(migrations[done:], start=done + 1):
        with _transaction(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _is_corrupt(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT  # the low byte is the primary code
