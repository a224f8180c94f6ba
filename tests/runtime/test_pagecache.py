from __future__ import annotations

import os
import threading

import pytest

from roundhouse.runtime import pagecache
from roundhouse.runtime.pagecache import PIECE, Outcome, read_in, residency

MIB = 1024**2
FAST = 1e12


def evict(*files) -> None:
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


@pytest.fixture
def disk(tmp_path):
    """A folder whose files can leave the page cache, which those of a tmpfs can't."""
    (probe := tmp_path / "probe").write_bytes(bytes(MIB))
    evict(probe)
    if residency([probe]).cached:
        pytest.skip("the temporary folder is not on a disk")
    return tmp_path


def weights(folder, *sizes):
    files = []
    for number, size in enumerate(sizes):
        files.append(folder / f"weights-{number}")
        files[-1].write_bytes(os.urandom(size))
    evict(*files)
    return files


def never(_size):
    return None


def run(files, cancelled=None, short=never, rate=FAST):
    return read_in(files, lambda: rate, cancelled or threading.Event(), short)


def test_files_that_were_not_in_the_page_cache_are_there_afterwards(disk):
    files = weights(disk, 9 * MIB + 5, 3)
    assert residency(files) == pagecache.Residency(0, 9 * MIB + 8)
    report = run(files)
    assert (report.outcome, report.read, report.found) == (Outcome.DONE, 9 * MIB + 8, 0)
    assert residency(files).share == 1.0


def test_a_part_of_a_file_is_told_as_a_share(disk):
    (file,) = weights(disk, 64 * MIB)
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
    os.pread(descriptor, 16 * MIB, 0)
    os.close(descriptor)
    assert residency([file]).share == 0.25


def test_nothing_at_all_is_all_there(tmp_path):
    (tmp_path / "empty").touch()
    assert residency([]).share == residency([tmp_path / "empty"]).share == 1.0


def test_what_is_there_already_is_not_read_and_costs_no_rate(disk):
    files = weights(disk, 64 * MIB)
    run(files)
    report = run(files, rate=1.0)
    assert (report.outcome, report.read, report.found) == (Outcome.DONE, 0, 64 * MIB)


class Told(threading.Event):
    """Waits for nothing, and keeps what it was to wait for."""

    def __init__(self, *, after: int = 10**9) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._after = after

    def wait(self, timeout=None):
        self.waited.append(timeout)
        if len(self.waited) >= self._after:
            self.set()
        return self.is_set()


def test_each_piece_waits_for_what_it_takes_at_the_rate(disk):
    told = Told()
    run(weights(disk, 3 * PIECE), told, rate=PIECE / 1000)
    assert len(told.waited) == 3
    assert all(990 < seconds <= 1000 for seconds in told.waited)


def test_it_ends_within_a_piece_of_being_called_off(disk):
    report = run(weights(disk, 5 * PIECE), Told(after=2))
    assert (report.outcome, report.read) == (Outcome.CANCELLED, 2 * PIECE)


def test_it_is_called_off_while_it_waits_for_its_rate(disk):
    cancelled = threading.Event()
    threading.Timer(0.01, cancelled.set).start()
    assert run(weights(disk, 2 * PIECE), cancelled, rate=1.0).outcome is Outcome.CANCELLED


def test_memory_that_is_short_at_once_reads_nothing(disk):
    files = weights(disk, 8 * MIB)
    asked = []
    report = run(files, short=lambda size: asked.append(size) or "no room")
    assert (report.outcome, report.read, report.reason) == (Outcome.SHORT, 0, "no room")
    assert asked == [8 * MIB]
    assert residency(files).cached == 0


def test_memory_that_gets_short_in_the_middle_ends_it(disk):
    answers = iter([None, "no room"])
    report = run(weights(disk, 128 * MIB), short=lambda _: next(answers))
    assert (report.outcome, report.read) == (Outcome.SHORT, 64 * MIB)


def test_a_file_that_vanished_is_named(tmp_path):
    report = run([tmp_path / "gone"])
    assert report.outcome is Outcome.FAILED
    assert report.reason == f"{tmp_path / 'gone'}: no such file or directory"


def test_one_that_can_not_be_read_is_named(tmp_path):
    report = run([tmp_path])
    assert report.outcome is Outcome.FAILED
    assert str(tmp_path) in report.reason


def test_one_that_is_cut_short_meanwhile_is_named(disk):
    (file,) = weights(disk, 3 * PIECE)

    class Cutting(Told):
        def wait(self, timeout=None):
            os.truncate(file, PIECE + 100)
            return super().wait(timeout)

    report = run([file], Cutting())
    assert (report.outcome, report.reason) == (Outcome.FAILED, f"{file}: it became shorter while it was read")


def test_residency_of_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        residency([tmp_path / "gone"])


@pytest.fixture
def old_kernel(monkeypatch):
    """One without cachestat, where mincore has to do."""
    monkeypatch.setattr(pagecache, "CACHESTAT", 100000)


def test_older_kernels_tell_the_same(disk, old_kernel):
    files = weights(disk, 9 * MIB + 5, 3)
    assert residency(files).cached == 0
    assert run(files).read == 9 * MIB + 8
    assert residency(files).share == 1.0


def test_who_may_not_know_is_told_nothing(disk, old_kernel, monkeypatch):
    """mincore says of other people's files that all of it is there."""
    files = weights(disk, 9 * MIB)
    monkeypatch.setattr(os, "geteuid", lambda: 12345678)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert residency(files).share is None
    assert run(files).read == 9 * MIB


def test_memory_counts_what_others_have_mapped(monkeypatch):
    gib = 1024**3
    monkeypatch.setattr(pagecache.ram, "room", lambda: (64 * gib, 60 * gib))
    monkeypatch.setattr(pagecache.ram, "unmapped", lambda: 40 * gib)
    monkeypatch.setattr(pagecache.ram, "pressure", lambda: 0.0)
    assert pagecache.shortage(33 * gib) is None
    assert pagecache.shortage(34 * gib) == "it would leave 6.0 GiB of memory, where 6.4 GiB are kept free"


def test_memory_that_programs_wait_for_is_short(monkeypatch):
    monkeypatch.setattr(pagecache.ram, "pressure", lambda: 35.0)
    assert pagecache.shortage(0) == "programs wait for memory 35 % of the time"


def test_a_thread_can_let_others_go_first():
    done = []
    thread = threading.Thread(target=lambda: done.append(pagecache.yield_disk()))
    thread.start()
    thread.join()
    assert done in ([True], [False])
    if done == [True]:
        assert pagecache._libc.syscall(252, 1, 0) != pagecache.IOPRIO_IDLE  # ioprio_get: the others' is as it was
