"""SIGHUP: read the configuration again, or end with the terminal (see also tests/e2e/test_reload.py)."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from roundhouse.app.hangup import Hangup
from roundhouse.errors import Conflict
from roundhouse.runtime.tasks import Tasks


class Reloader:
    """Counts; each reload waits for `go`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self.error = error
        self.go = asyncio.Event()

    async def apply(self, why: str) -> dict:
        assert why == "SIGHUP"
        self.count += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return {}


@pytest.fixture(autouse=True)
def heeded():
    """However these tests were started: under `nohup` the signal is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def ended():
    return []


@pytest.fixture
def terminal(tmp_path):
    found = tmp_path / "tty"
    found.touch()
    return found


def hangup(reloader, ended, terminal, environ=None) -> Hangup:
    return Hangup(environ or {}, reloader, Tasks(fail), lambda: ended.append(True), str(terminal))


def fail(where: str, error: BaseException) -> None:
    raise AssertionError(where) from error


async def rest(made: Hangup) -> None:
    assert made._task is not None
    await asyncio.wait_for(asyncio.shield(made._task), 10)


async def test_it_reloads_and_signals_that_come_meanwhile_count_once_more(ended, terminal):
    reloader = Reloader()
    made = hangup(reloader, ended, terminal)
    for _ in range(3):
        made.heard()
        await asyncio.sleep(0)
    reloader.go.set()
    await rest(made)
    assert reloader.count == 2
    made.heard()
    await rest(made)
    assert (reloader.count, ended) == (3, [])


async def test_it_ends_when_the_terminal_it_was_started_in_is_gone(ended, terminal):
    reloader = Reloader()
    made = hangup(reloader, ended, terminal)
    terminal.unlink()
    made.heard()
    assert (ended, reloader.count) == ([True], 0)


async def test_a_service_has_no_terminal_to_lose(ended, tmp_path):
    reloader = Reloader()
    made = hangup(reloader, ended, tmp_path / "none")
    reloader.go.set()
    made.heard()
    await rest(made)
    assert (ended, reloader.count) == ([], 1)


async def test_nohup_is_honoured(ended, terminal):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    made = hangup(reloader := Reloader(), ended, terminal)
    terminal.unlink()
    reloader.go.set()
    made.heard()
    await rest(made)
    assert (ended, reloader.count) == ([], 1)


async def test_systemd_is_told_also_where_there_is_no_file(ended, terminal, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "s"))
        systemd.settimeout(10)
        made = hangup(
            reloader := Reloader(Conflict("no file")), ended, terminal, {"NOTIFY_SOCKET": str(tmp_path / "s")}
        )
        reloader.go.set()
        made.heard()
        await rest(made)
        first, second = systemd.recv(200).decode(), systemd.recv(200).decode()
    assert first.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert second == "READY=1"
