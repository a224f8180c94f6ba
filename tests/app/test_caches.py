from __future__ import annotations

import os
from pathlib import Path

import pytest

from roundhouse.app.caches import IN_HOME, variables
from roundhouse.launchers.process import engine_environment
from roundhouse.launchers.systemd.order import script
from roundhouse.ports import Command, Tag

STATE = Path("/state")
TAG = Tag("m", "", 1, 0.0)


def test_a_usual_home_is_left_to_the_engines_but_for_what_would_lie_in_tmp(tmp_path):
    added = variables({"HOME": str(tmp_path)}, STATE)
    assert added == {"TORCHINDUCTOR_CACHE_DIR": f"{tmp_path}/.cache/torchinductor"}


def test_a_cache_folder_of_the_users_is_taken(tmp_path):
    added = variables({"HOME": "/nonexistent", "XDG_CACHE_HOME": str(tmp_path / "own")}, STATE)
    assert added == {"TORCHINDUCTOR_CACHE_DIR": f"{tmp_path}/own/torchinductor"}


def test_what_is_set_stays(tmp_path):
    assert variables({"HOME": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": "/x"}, STATE) == {}
    added = variables({"HOME": "/dev/null", "TRITON_CACHE_DIR": "/mine"}, STATE)
    assert "TRITON_CACHE_DIR" not in added


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/home", "not-absolute"])
def test_without_a_home_that_can_be_written_all_caches_lie_in_the_state_folder(home):
    added = variables({"HOME": home}, STATE)
    assert added["XDG_CACHE_HOME"] == "/state/cache"
    assert added["TORCHINDUCTOR_CACHE_DIR"] == "/state/cache/torchinductor"
    assert set(IN_HOME) < set(added)
    assert all(value.startswith("/state/cache") for value in added.values())


def test_a_cache_folder_that_is_a_file_is_none(tmp_path):
    (tmp_path / ".cache").write_text("")
    assert variables({"HOME": str(tmp_path)}, STATE)["XDG_CACHE_HOME"] == "/state/cache"


def test_child_processes_and_units_of_ours_get_them():
    environ = {"PATH": os.environ["PATH"], "HOME": "/home/me", **variables({"HOME": "/dev/null"}, STATE)}
    child = engine_environment(environ, {}, "i", TAG)
    unit = script(TAG, Command(("/bin/true",)), "i", environ, Path("/run/pipe"))
    for name in ("HOME", "XDG_CACHE_HOME", *IN_HOME):
        assert child[name] == environ[name]
        assert f"export {name}={environ[name]}\n" in unit
