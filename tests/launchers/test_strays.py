"""The sweep: what has our marker and no keeper is ended, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roundhouse.launchers import strays
from roundhouse.launchers.strays import Stray, sweep
from tests.support.processes import ROLES, Watched, survivors

TREE = [sys.executable, "-S", str(Path(__file__).parent.parent / "support" / "tree.py")]


@pytest.fixture
def tree(install):
    """Starts trees with a marker; ends them."""
    started: list[Any] = []
    everyone: list[Watched] = []

    def start(marker, argv=TREE):
        environment = {**os.environ, "ROUNDHOUSE_ENGINE": marker}
        process: Any = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        roles = {role: Watched(int(pid)) for role, pid in (process.stdout.readline().split() for _ in ROLES)}
        everyone.extend(roles.values())
        return roles

    yield start
    for process in everyone:
        process.signal()
    for process in started:
        process.wait()
        process.stdout.close()


def test_e3_strays_end_and_only_they(tree, install):
    ours, alike = tree(f"{install}:some/model"), tree(f"{install}2:some/model")
    not_marked = tree("")
    ended = sweep(install, set)
    assert sorted(ended, key=lambda stray: stray.pid) == sorted(
        (Stray(role.pid, "some/model") for role in ours.values()), key=lambda stray: stray.pid
    )
    assert survivors(ours, within=0) == []
    assert not any(role.gone() for role in [*alike.values(), *not_marked.values()])
    assert sweep(install, set) == []


def test_e3_what_is_below_a_keeper_is_spared(tree, install):
    """Below: the main process' children; its daemon has been adopted by someone else."""
    roles = tree(f"{install}:model")
    ended = {stray.pid for stray in sweep(install, lambda: {roles["main"].pid})}
    assert not roles["main"].gone()
    assert not roles["child"].gone()
    assert ended == {roles["daemon"].pid}


def test_e3_keepers_are_asked_for_after_the_processes_were_listed(tree, install):
    """An engine that starts during the sweep has a keeper by then, or isn't on the list."""
    born: dict[str, Watched] = {}

    def keepers():
        if not born:
            born.update(tree(f"{install}:newborn"))
            return {os.getpid()}
        return {os.getpid(), born["daemon"].pid}

    first = tree(f"{install}:model")
    ended = {stray.pid for stray in sweep(install, keepers)}
    assert ended == {first["daemon"].pid}


def test_not_knowing_the_keepers_nothing_is_ended(tree, install):
    roles = tree(f"{install}:model")

    def unknown():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        sweep(install, unknown)
    assert not any(role.gone() for role in roles.values())


def test_roundhouse_itself_is_spared_when_it_is_an_engine_of_its_own(install):
    source = f"import os; from roundhouse.launchers.strays import sweep\nprint(sweep({install!r}, set))\n"
    environment = {**os.environ, "ROUNDHOUSE_ENGINE": f"{install}:self"}
    wrapped = ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", source]
    done = subprocess.run(wrapped, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_ancestors_are_read_again_when_one_ends_meanwhile(monkeypatch):
    answers = iter([20, None, 10, 1, 0])  # the first climb meets a parent that has just ended
    monkeypatch.setattr(strays, "_parent", lambda _: next(answers))
    assert strays._ancestors(30) == [10, 1]


def test_e3_what_systemd_keeps_is_no_stray(tree, install, monkeypatch):
    """Seen on a real systemd: a restarted Roundhouse would have ended the engine that it was about to take over."""
    monkeypatch.setenv("ROUNDHOUSE_UNIT", "1")
    roles = tree(f"{install}:model")
    assert sweep(install, set) == []
    assert not roles["main"].gone()
