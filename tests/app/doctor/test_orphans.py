from __future__ import annotations

import socket

from roundhouse.app.doctor import orphans
from roundhouse.app.doctor.orphans import check, leftovers
from tests.app.doctor.conftest import WAITS, told


def about(findings, pid):
    return [finding for finding in findings if finding.about == f"pid {pid}" or f"pid {pid} " in finding.what]


def test_e3_strays_of_ours_are_told_with_the_remedy(box):
    stray, _ = box.run(WAITS, mark=f"{box.install}:m")
    (found,) = about(list(check(box.installed().visit())), stray.pid)
    assert (found.severity, found.about) == ("warning", "m")
    assert found.remedy == "roundhouse doctor --fix"
    assert stray.poll() is None


def test_an_engine_that_another_check_just_tries_is_not_told(box):
    tried, _ = box.run(WAITS, name="llama-server")
    assert about(list(check(box.installed().visit())), tried.pid) == []


def test_b10_others_engines_are_told_and_left_alone(box, monkeypatch):
    monkeypatch.setattr(orphans, "tree", lambda *_: set())  # what a test starts is below it, as what the doctor tries
    foreign, _ = box.run(WAITS, name="llama-server")
    another, _ = box.run(WAITS, mark="0123456789abcdef:their model")
    unlike, _ = box.run(WAITS, name="llama")
    found = list(check(box.installed().visit()))
    (first,) = about(found, foreign.pid)
    assert (first.severity, first.remedy) == ("note", f"if nobody needs it: kill {foreign.pid}")
    assert "user " in first.what
    assert "their model" in about(found, another.pid)[0].what
    assert about(found, unlike.pid) == []
    assert foreign.poll() is another.poll() is None


def test_files_of_dead_keepers(box):
    runtime, logs = box.folder / "roundhouse", box.state / "logs"
    box.installed()
    runtime.mkdir()
    logs.mkdir()
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(runtime / "0000000a.sock"))
        live.listen()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(runtime / "0000000b.sock"))
        for name in ("0000000a.log", "0000000b.log", "0000000c.log", "0000000c.log.1", "mine.log"):
            (logs / name).touch()
        names = [path.name for path in leftovers(box.visit())]
        assert names == ["0000000b.sock", "0000000c.log", "0000000c.log.1"]
        assert len(told(check(box.visit()), "note")) >= 3


def test_nothing_left(box):
    assert "orphans: Nothing of ours was left behind. → " in told(check(box.installed().visit()), "ok")
