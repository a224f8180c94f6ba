from __future__ import annotations

import os
from types import SimpleNamespace

from roundhouse.app.doctor import storage
from roundhouse.app.doctor.storage import check
from tests.app.doctor.conftest import told


def test_g4_folders_that_can_be_used(box):
    assert len(told(check(box.visit()), "ok")) == 2


def test_g4_a_full_disk(box, monkeypatch):
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _path: SimpleNamespace(free=5 << 20))
    assert "5 MiB are free" in told(check(box.visit()), "warning")[0]


def test_a_budget_beyond_the_disk(box, monkeypatch):
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _path: SimpleNamespace(free=5 << 30))
    assert told(check(box.visit()), "note") == []
    visit = box.visit(sessions={"store": "disk", "budget": "9GiB"})
    assert "9 GiB" in told(check(visit), "note")[0]


def test_g4_a_state_folder_that_can_not_be_made(box):
    (box.folder / "file").touch()
    visit = box.visit(state_dir=str(box.folder / "file/state"))
    assert "can't be written" in told(check(visit), "error")[0]


def test_a_runtime_folder_that_can_not_hold_a_socket(box):
    far = box.folder / ("x" * 100)
    assert "too long" in told(check(box.visit(environ={"XDG_RUNTIME_DIR": str(far)})), "error")[0]


def test_a_runtime_folder_of_another_user(box, monkeypatch):
    (box.folder / "roundhouse").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert "another user's" in told(check(box.visit()), "error")[0]
