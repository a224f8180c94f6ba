"""`--fix` ends what is ours and only that; another's process by its pid, and only where it stands in our way."""

from __future__ import annotations

import socket

import pytest

from roundhouse.app.doctor import repair as repairing
from roundhouse.app.doctor.repair import NotOnOurPort, end, repair
from roundhouse.runtime.lock import state_lock
from tests.app.doctor.conftest import WAITS, told


def test_e3_b10_strays_of_ours_end_and_nothing_else(box):
    stray, _ = box.run(WAITS, mark=f"{box.install}:m")
    foreign, _ = box.run(WAITS, name="llama-server")
    another, _ = box.run(WAITS, mark=f"{box.install}0:m")
    assert told(repair(box.installed().visit())) == [f"m: Ended a stray engine process of ours: pid {stray.pid}. → "]
    assert stray.wait(10) == -9
    assert foreign.poll() is another.poll() is None


@pytest.fixture
def leftover(box):
    box.installed()
    (box.folder / "roundhouse").mkdir()
    path = box.folder / "roundhouse/0000000b.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    return path


def test_files_of_dead_keepers_go(box, leftover):
    assert "Removed" in told(repair(box.visit()), "ok")[0]
    assert not leftover.exists()


def test_they_stay_while_a_roundhouse_runs(box, leftover):
    """A keeper that is being born has a socket that nobody listens on yet."""
    with state_lock(box.state):
        assert "next start" in told(repair(box.visit()), "note")[0]
    assert leftover.exists()


def test_before_the_first_start_there_is_nothing_to_do(box):
    assert list(repair(box.visit())) == []
    assert not box.state.exists()


def test_b10_another_program_is_ended_when_named(box):
    process, port = box.listener(name="llama-server")
    visit = box.visit({"a": {"path": "/x.gguf", "engine": "llamacpp", "port": port}})
    assert f"Ended pid {process.pid} (" in end(visit, process.pid).what
    assert process.wait(10) == -15


def test_b10_one_that_ignores_sigterm_is_killed(box, monkeypatch):
    monkeypatch.setattr(repairing, "GRACE", 0.2)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN)\n"
    process, port = box.run(
        deaf
        + "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "while True: time.sleep(60)"
    )
    visit = box.visit(listen=f"127.0.0.1:{port}")
    assert "by SIGKILL" in end(visit, process.pid).what
    assert process.wait(10) == -9


def test_b10_one_that_is_not_in_our_way_is_never_ended(box):
    process, port = box.listener()
    visit = box.visit({"a": {"path": "/x.gguf", "engine": "llamacpp", "port": 1 if port != 1 else 2}})
    with pytest.raises(NotOnOurPort, match="none of our ports"):
        end(visit, process.pid)
    assert process.poll() is None


@pytest.mark.parametrize("pid", [2**22 + 1, 2**70, -1, 0])
def test_a_process_that_is_none(box, pid):
    with pytest.raises(NotOnOurPort):
        end(box.visit(), pid)
