"""Where saved conversations are kept (spec D11, config `sessions`)."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest

from roundhouse.app import shelving
from roundhouse.app.shelving import folder_of, open_shelf
from roundhouse.config.models import Config, Sessions


def config(tmp_path, store: str) -> Config:
    return Config(state_dir=tmp_path / "state", sessions=Sessions(store=store, budget=1000))


async def test_d11_off_is_off(tmp_path):
    assert await open_shelf(config(tmp_path, "off"), SimpleNamespace()) is None


async def test_d11_on_disk_they_lie_in_the_state_folder(tmp_path):
    shelf = await open_shelf(config(tmp_path, "disk"), SimpleNamespace())
    assert shelf is not None
    assert (shelf.folder, shelf.budget) == (tmp_path / "state" / "sessions", 1000)
    assert shelf.folder.is_dir()


async def test_d11_in_memory_they_lie_on_no_disk_in_a_folder_of_this_installation(tmp_path):
    (tmp_path / "state").mkdir()
    shelf = await open_shelf(config(tmp_path, "memory"), SimpleNamespace())
    assert shelf is not None
    try:
        assert shelf.folder.parent == shelving.MEMORY
        assert shelf.folder.name.startswith(f"roundhouse-{os.getuid()}-")
        assert shelf.folder == folder_of(config(tmp_path, "memory"))
        assert shelf.folder.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(shelf.folder)


async def test_d11_a_folder_that_can_not_be_used_costs_no_start(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sessions").write_text("a file")
    told = []
    log = SimpleNamespace(error=lambda what, **more: told.append((what, more["reason"])))
    assert await open_shelf(config(tmp_path, "disk"), log) is None
    assert told == [("conversations can't be saved", "File exists")]


@pytest.fixture(autouse=True)
def _tidy(tmp_path):
    yield
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
