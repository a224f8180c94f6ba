"""Engines as units of a real systemd: started, found again, stopped, and nothing left."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from pathlib import Path

import pytest
from dbus_fast import Variant

from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd import drop_in_text
from roundhouse.launchers.systemd.journal import NO_ACCESS
from roundhouse.launchers.systemd.order import transient_properties
from roundhouse.ports import Command, Exit, Tag
from tests.launchers.systemd.conftest import pid_of, until
from tests.support.processes import Watched

pytestmark = pytest.mark.inside_lab

TAG = Tag("a model/x", "settings", 4711, 1234.5)
PLAIN = "[Service]\nExecStart=/bin/sleep 1000\n"


# --- transient units ---


async def test_c3_a_model_without_a_unit_gets_a_transient_one(box, engine):
    async with box.launcher(memory_limit=1 << 30) as launcher:
        secret = {"A": "b 'c'\nd $HOME", "ROUNDHOUSE_ENGINE": "not this"}
        handle = await launcher.start(TAG, Command(engine("env=ROUNDHOUSE_ENGINE", "env=PORT", "env=A"), env=secret))
        lines = await until(handle, "ready")
        assert lines[0].startswith(f"main {handle.pid} ")
        assert f"ROUNDHOUSE_ENGINE={box.install}:a model/x" in lines
        assert "PORT=4711" in lines
        assert lines[-3:-1] == ["A=b 'c'", "d $HOME"]
        shown = dict(
            line.split("=", 1)
            for line in box.lab.systemctl(
                "show", handle.unit, "-p", "KillMode,MemoryMax,OOMPolicy,OOMScoreAdjust,LimitNOFILE,Restart,MainPID"
            ).splitlines()
        )
        assert shown == {
            "KillMode": "control-group",
            "MemoryMax": str(1 << 30),
            "OOMPolicy": "stop",
            "OOMScoreAdjust": "500",
            "LimitNOFILE": "65536",
            "Restart": "no",
            "MainPID": str(handle.pid),
        }
        assert "a model/x" in box.show(handle.unit, "Description")
        assert await handle.stop(5) == Exit(0, by_us=True)
    assert box.left() == []


async def test_what_an_engine_is_told_cannot_be_read_by_other_users(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine(), env={"HF_TOKEN": "hf_secret"}))
        shown = box.lab.run(["systemctl", "show", handle.unit], uid=5)
        assert handle.unit in shown
        assert "hf_secret" not in shown
        path = re.search(r"argv\[\]=/bin/sh (\S+) ;", shown)[1]
        assert "hf_secret" in Path(path).read_text()
        assert "hf_secret" not in box.lab.run(["cat", path], uid=5, check=False, stderr=-3)
        await handle.stop(5)


async def test_the_same_model_starts_again_at_once(box, engine):
    async with box.launcher() as launcher:
        for _ in range(8):  # systemd has to forget the unit each time; also more often than its start limit
            handle = await launcher.start(TAG, Command(engine()))
            await handle.stop(5)
    assert box.left() == []


@pytest.mark.parametrize(("words", "ending"), [(["die=3"], Exit(3)), (["die=0"], Exit(0)), (["kill"], Exit(-9))])
async def test_how_an_engine_ended_is_told(box, engine, words, ending):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("print=last words", *words)))
        assert await handle.wait_exit() == ending
        assert handle.tail(1) == ["last words"]
        assert await handle.stop(5) == ending
    assert box.left() == []


async def test_e2_a_stop_ends_the_whole_tree_with_a_deadline(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("stubborn", "daemon")))
        lines = await until(handle, "ready")
        processes = [Watched(pid_of(lines, role)) for role in ("main", "daemon")]
        assert await handle.stop(0.2) == Exit(-9, by_us=True)
        assert all(process.gone() for process in processes)
    assert box.left() == []


async def test_e2_what_an_engine_leaves_when_it_dies_is_ended_too(box, engine, monkeypatch):
    monkeypatch.setattr("roundhouse.launchers.systemd.handle.SHORT_TERM", 0.2)
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("daemon", "kill")))
        lines = [line async for line in handle.lines()]
        daemon = Watched(pid_of(lines, "daemon"))
        assert await handle.wait_exit() == Exit(-9)
        assert daemon.gone()


async def test_progress_bars_come_as_they_are_drawn(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("bar")))
        assert (await until(handle, "100%"))[1:] == ["0%", "50%", "100%"]
        await handle.stop(5)


async def test_without_stdbuf_output_still_comes(box, engine, tmp_path):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine(), env={"PATH": str(tmp_path)}))
        assert (await until(handle, "ready"))[-1] == "ready"
        await handle.stop(5)


async def test_the_engine_is_the_main_process_and_has_no_children_of_ours(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine()))
        await until(handle, "ready")
        assert Path(f"/proc/{handle.pid}/comm").read_text() != "sh\n"
        assert Path(f"/proc/{handle.pid}/task/{handle.pid}/children").read_text() == ""
        await handle.stop(5)


@pytest.mark.parametrize(
    ("mode", "what", "words"),
    [(None, "does not exist", "the start script"), (0o644, "not executable", "chmod +x")],
)
async def test_a_script_that_cannot_run_is_named(box, tmp_path, mode, what, words):
    script = tmp_path / "start.sh"
    if mode is not None:
        script.write_text("#!/bin/sh\n")
        script.chmod(mode)
    async with box.launcher() as launcher:
        with pytest.raises(LoadFailed, match=what) as caught:
            await launcher.start(TAG, Command((str(script),), script=True))
        assert str(script) in caught.value.message
        assert words in caught.value.message
    assert box.left() == []


async def test_a_program_that_is_nowhere_is_named(box):
    async with box.launcher() as launcher:
        with pytest.raises(LoadFailed, match="nosuchprogram was not found"):
            await launcher.start(TAG, Command(("nosuchprogram",)))


async def test_a_folder_that_cannot_be_entered_is_named(box, engine):
    async with box.launcher() as launcher:
        with pytest.raises(LoadFailed, match="working folder /nowhere"):
            await launcher.start(TAG, Command(engine(), cwd="/nowhere"))


async def test_a_transient_unit_that_failed_does_not_block_the_next_start(box, engine, monkeypatch):
    def broken(*words):
        return [*transient_properties(*words), ["WorkingDirectory", Variant("s", "/nowhere")]]

    async with box.launcher() as launcher:
        monkeypatch.setattr("roundhouse.launchers.systemd.launcher.transient_properties", broken)
        for _ in range(2):
            with pytest.raises(LoadFailed, match="WorkingDirectory can't be entered"):
                await launcher.start(TAG, Command(engine()))
        monkeypatch.setattr("roundhouse.launchers.systemd.launcher.transient_properties", transient_properties)
        handle = await launcher.start(TAG, Command(engine()))
        await until(handle, "ready")
        await handle.stop(5)
    assert box.left() == []


async def test_a_start_that_can_not_be_noted_leaves_nothing(box, engine, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    async with box.launcher() as launcher:
        monkeypatch.setattr("roundhouse.launchers.systemd.place.Place.keep", full)
        with pytest.raises(LoadFailed, match="No space left"):
            await launcher.start(TAG, Command(engine()))
    assert box.left() == []


# --- named units ---


async def test_c3_a_script_runs_in_a_named_unit_and_leaves_nothing(box, engine):
    unit = box.unit("[Service]\nExecStart=/bin/false\nRestart=always\nWorkingDirectory=/usr\nEnvironment=KEPT=yes\n")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("env=KEPT"), unit=unit))
        lines = await until(handle, "ready")
        assert handle.unit == unit
        assert lines[0] == f"main {handle.pid} in /usr"
        assert "KEPT=yes" in lines
        assert box.show(unit, "ActiveState") == "active"
        assert "50-roundhouse.conf" in box.show(unit, "DropInPaths")
        assert await handle.stop(5) == Exit(0, by_us=True)
    assert box.left() == []
    assert box.show(unit, "DropInPaths") == ""
    assert "/bin/false" in box.show(unit, "ExecStart")
    assert box.show(unit, "NeedDaemonReload") == "no"


async def test_c3_a_named_unit_without_a_script_runs_as_it_is_written(box):
    unit = box.unit("[Service]\nExecStart=/bin/sh -c 'echo $0 as it is; exec sleep 1000'\n")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command((), unit=unit.removesuffix(".service")))
        assert await until(handle, "/bin/sh as it is")
        assert box.show(unit, "DropInPaths") == ""
        assert await handle.stop(5) == Exit(-15, by_us=True)
    assert box.left() == []


@pytest.mark.parametrize("cleared", [True, False])
async def test_c3b_a_unit_that_runs_already_is_stopped_first(box, engine, caplog, cleared):
    unit = box.unit(PLAIN)
    box.lab.systemctl("start", unit)
    stranger = Watched(int(box.show(unit, "MainPID")))
    async with box.launcher() as launcher:
        with caplog.at_level(logging.WARNING, "roundhouse"):
            if cleared:
                await launcher.clear(Command(engine(), unit=unit))
                assert stranger.gone()
            handle = await launcher.start(TAG, Command(engine(), unit=unit))
        assert stranger.gone()
        assert f"stopping {unit}" in caplog.text
        await until(handle, "ready")
        await handle.stop(5)


async def test_other_units_are_never_touched(box, engine):
    unit, other = box.unit(PLAIN), box.unit(PLAIN, "other")
    box.lab.systemctl("start", other)
    before = box.lab.systemctl("show", other, "-p", "InvocationID,NRestarts,ActiveState,DropInPaths")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine(), unit=unit))
        await handle.stop(5)
    assert box.lab.systemctl("show", other, "-p", "InvocationID,NRestarts,ActiveState,DropInPaths") == before


async def test_a_unit_of_another_user_runs_the_script_as_that_user(box):
    unit = box.unit("[Service]\nUser=games\nExecStart=/bin/false\n")
    async with box.launcher() as launcher:
        command = Command(("/bin/sh", "-c", "id -un; echo $SECRET; exec sleep 1000"), env={"SECRET": "s"}, unit=unit)
        handle = await launcher.start(TAG, command)
        assert await until(handle, "s") == ["games", "s"]
        await handle.stop(5)
    assert box.left() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Service]\nExecStart=/bin/false\nWorkingDirectory=/nowhere\n", "WorkingDirectory can't be entered"),
        ("[Service]\nUser=nobodyatall\nExecStart=/bin/false\n", "no such user"),
        ("[Service]\nDynamicUser=yes\nExecStart=/bin/false\n", "DynamicUser"),
        ("[Service]\nExecStart=/bin/false\nExecStartPre=/bin/sh -c 'echo wrong card; exit 7'\n", "wrong card"),
        ("[Unit]\nAssertPathExists=/nowhere\n[Service]\nExecStart=/bin/false\n", "assert"),
    ],
)
async def test_a_unit_that_cannot_start_says_why(box, engine, text, words):
    unit = box.unit(text)
    async with box.launcher() as launcher:
        with pytest.raises(LoadFailed, match=words) as caught:
            await launcher.start(TAG, Command(engine(), unit=unit))
        assert "\n" not in caught.value.message
    assert box.left() == []


async def test_a_unit_needs_no_command_of_its_own_where_a_script_is_given(box, engine):
    unit = box.unit("[Service]\nWorkingDirectory=/usr\n")
    async with box.launcher() as launcher:
        with pytest.raises(LoadFailed, match="has a setting that systemd does not take"):
            await launcher.start(TAG, Command((), unit=unit))
        handle = await launcher.start(TAG, Command(engine(), unit=unit))
        await until(handle, "ready")
        await handle.stop(5)
    assert box.left() == []


async def test_a_unit_that_does_not_exist_is_told(box, engine):
    async with box.launcher() as launcher:
        with pytest.raises(LoadFailed, match=r"nosuchunit\.service does not exist"):
            await launcher.start(TAG, Command(engine(), unit="nosuchunit"))


async def test_its_own_restart_setting_does_not_start_engines_beneath_us(box):
    unit = box.unit("[Service]\nExecStart=/bin/sh -c 'echo ready; exec sleep 1000'\nRestart=always\nRestartSec=0\n")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command((), unit=unit))
        await until(handle, "ready")
        os.kill(handle.pid, 9)
        assert (await handle.wait_exit()).by_us is False
        assert box.show(unit, "ActiveState") == "inactive"
    assert box.left() == []


async def test_a_restart_by_somebody_else_is_an_end(box, engine):
    unit = box.unit(PLAIN)
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine(), unit=unit))
        await until(handle, "ready")
        box.lab.systemctl("restart", "--no-block", unit)
        assert (await handle.wait_exit()).by_us is False
        assert box.show(unit, "ActiveState") == "inactive"
    assert box.left() == []


async def test_a_start_that_is_given_up_leaves_nothing(box, engine):
    unit = box.unit("[Service]\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/false\n")
    async with box.launcher() as launcher:
        starting = asyncio.get_running_loop().create_task(launcher.start(TAG, Command(engine(), unit=unit)))
        while box.show(unit, "ActiveState") != "activating":
            await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert box.show(unit, "ActiveState") in {"inactive", "failed"}
    assert box.left() == []


# --- found again ---


@pytest.mark.parametrize("named", [True, False])
async def test_e1_a_restarted_roundhouse_finds_its_engines(box, engine, named):
    unit = box.unit(PLAIN) if named else None
    async with box.launcher() as launcher:
        first = await launcher.start(TAG, Command(engine(), unit=unit))
        await until(first, "ready")
    async with box.launcher() as launcher:
        (handle,) = await launcher.found()
        assert (handle.tag, handle.pid) == (TAG, first.pid)
        assert await until(handle, "ready")
        assert await handle.stop(5) == Exit(0, by_us=True)
        assert await launcher.found() == []
    assert box.left() == []


async def test_e1_an_engine_that_ended_meanwhile_is_not_found(box, engine):
    unit = box.unit(PLAIN)
    async with box.launcher() as launcher:
        await until(await launcher.start(TAG, Command(engine(), unit=unit)), "ready")
    box.lab.systemctl("stop", unit)
    async with box.launcher() as launcher:
        assert await launcher.found() == []
    assert box.left() == []
    assert box.show(unit, "DropInPaths") == ""


async def test_e1_a_unit_that_was_started_anew_is_not_taken_for_ours(box, engine):
    unit = box.unit(PLAIN)
    async with box.launcher() as launcher:
        await until(await launcher.start(TAG, Command(engine(), unit=unit)), "ready")
    box.lab.systemctl("restart", unit)
    async with box.launcher() as launcher:
        assert await launcher.found() == []
        (stranger,) = await launcher.foreign_named()
        assert stranger.tag.model == ""
        assert stranger.tag.port == 1
        await launcher.claim(stranger, TAG)
    async with box.launcher() as launcher:
        (handle,) = await launcher.found()
        assert handle.tag == TAG
        await handle.stop(5)
    assert box.left() == []


async def test_e3_a_transient_unit_that_nobody_knows_is_ended(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine()))
        (box.folder / "run" / "units" / handle.unit.removesuffix(".service") / "tag.json").unlink()
    lost = Watched(handle.pid)
    async with box.launcher() as launcher:
        assert await launcher.found() == []
        assert lost.gone()
    assert box.left() == []


async def test_found_never_fails_without_a_bus(box, engine, caplog):
    async with box.launcher(address="unix:path=/nowhere") as launcher:
        assert await launcher.found() == []
        assert await launcher.foreign_named() == []
        with pytest.raises(LoadFailed, match="systemd can't be reached: no such file"):
            await launcher.start(TAG, Command(engine()))
        with pytest.raises(LoadFailed, match="systemd can't be reached"):
            await launcher.clear(Command(engine(), unit="x"))


# --- the bus goes and comes back ---


async def test_an_engine_outlives_the_bus_and_is_watched_on(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine()))
        await until(handle, "ready")
        box.lab.systemctl("restart", "dbus.service")
        assert handle.exit is None
        assert await handle.stop(5) == Exit(0, by_us=True)
        again = await launcher.start(TAG, Command(engine()))
        box.lab.systemctl("restart", "dbus.service")
        os.kill(again.pid, 9)
        assert (await again.wait_exit()).by_us is False
    assert box.left() == []


async def test_a_systemd_that_executes_itself_anew_is_no_end(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine()))
        await until(handle, "ready")
        box.lab.systemctl("daemon-reexec")
        os.kill(handle.pid, 9)
        assert await handle.wait_exit() == Exit(-9)
    assert box.left() == []


# --- the user manager ---


async def test_c3_the_user_manager_runs_named_and_transient_units(box, engine, monkeypatch):
    folder = box.lab.start_user_manager(0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    unit = box.unit("[Service]\nExecStart=/bin/false\n", user=0)
    async with box.launcher(user=True) as launcher:
        for command in (Command(engine("bar"), unit=unit), Command(engine("bar"))):
            handle = await launcher.start(TAG, command)
            assert (await until(handle, "100%"))[1:] == ["0%", "50%", "100%"]
            assert box.show(handle.unit, "ActiveState", user=0) == "active"
            assert await handle.stop(5) == Exit(0, by_us=True)
        dying = await launcher.start(TAG, Command(engine("print=last words", "die=4")))
        assert await dying.wait_exit() == Exit(4)
        assert dying.tail(1) == ["last words"]
        kept = await launcher.start(TAG, Command(engine()))
        await until(kept, "ready")
    async with box.launcher(user=True) as launcher:
        (handle,) = await launcher.found()
        assert handle.pid == kept.pid
        await handle.stop(5)
    assert box.left() == []


# --- an unprivileged router, by polkit ---

RULE = """
polkit.addRule(function (action, subject) {
    var verbs = ["start", "stop", "restart", "reset-failed", "kill", "ref"];
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "games" &&
        action.lookup("unit") == "%s" && verbs.indexOf(action.lookup("verb")) >= 0)
        return polkit.Result.YES;
});
"""


@pytest.fixture
def as_games(box):
    """Runs a function of this file in a process that becomes the user games; what it printed. Imports come first."""

    def run(name: str, *words: str) -> str:
        code = f"from tests.launchers.systemd import unprivileged; unprivileged.main({name!r}, *{words!r})"
        environ = {k: v for k, v in os.environ.items() if k not in {"XDG_RUNTIME_DIR", "HOME"}}
        return box.lab.run([sys.executable, "-c", code], env=environ, stderr=-2, check=False)

    box.folder.chmod(0o755)
    return run


@pytest.fixture
def may(box):
    """Lets games start and stop one unit."""
    path = Path("/etc/polkit-1/rules.d/40-test.rules")
    path.parent.mkdir(parents=True, exist_ok=True)

    def allow(unit: str) -> None:
        path.write_text(RULE % unit)
        box.lab.systemctl("restart", "polkit")

    yield allow
    path.unlink(missing_ok=True)


def installed(box, unit: str) -> Path:
    """The drop-in of `install`, for a runtime folder of this test."""
    folder = Path(f"/etc/systemd/system/{unit}.d")
    folder.mkdir()
    (folder / "50-roundhouse.conf").write_text(drop_in_text(f"{box.folder}/run/units/%N/start"))
    box.lab.systemctl("daemon-reload")
    (box.folder / "run").mkdir()
    os.chown(box.folder / "run", 5, 60)
    return folder


def test_an_unprivileged_router_runs_a_unit_by_polkit(box, as_games, may):
    unit = box.unit("[Service]\nUser=games\nExecStart=/bin/false\n")
    folder = installed(box, unit)
    may(unit)
    said = as_games("run_named", str(box.folder), box.install, unit)
    stopped, killed = "Exit(code=-15, by_us=True, starved=False)", "Exit(code=-9, by_us=True, starved=False)"
    assert said.splitlines() == [NO_ACCESS, "started", stopped, NO_ACCESS, killed, "found 1", "done"]
    assert box.show(unit, "ActiveState") == "inactive"
    (folder / "50-roundhouse.conf").unlink()
    folder.rmdir()
    assert box.left() == []


def test_without_the_rule_the_remedy_is_told(box, as_games, may):
    unit = box.unit("[Service]\nUser=games\nExecStart=/bin/false\n")
    installed(box, unit)
    may("another.service")
    said = as_games("run_named", str(box.folder), box.install, unit)
    assert "systemd does not let this user do that; run `sudo roundhouse install`" in said


def test_without_the_drop_in_the_remedy_is_told(box, as_games, may):
    unit = box.unit("[Service]\nUser=games\nExecStart=/bin/false\n")
    said = as_games("run_named", str(box.folder), box.install, unit)
    assert "does not run the start file" in said
    assert "sudo roundhouse install" in said


@pytest.mark.parametrize("user", ["", "User=root\n", "User=daemon\n"])
def test_a_unit_of_another_user_is_refused_to_an_unprivileged_router(box, as_games, may, user):
    unit = box.unit(f"[Service]\n{user}ExecStart=/bin/false\n")
    installed(box, unit)
    may(unit)
    said = as_games("run_named", str(box.folder), box.install, unit)
    assert "not as the user of Roundhouse" in said
    assert not (box.folder / "run" / "units").exists()


def test_an_unprivileged_router_makes_no_units_of_the_system(box, as_games):
    said = as_games("run_transient", str(box.folder), box.install)
    assert "lets only root make units. Set `systemd: user`" in said


def test_an_unprivileged_router_has_its_own_manager(box, as_games):
    box.lab.start_user_manager(5)
    said = as_games("run_user", str(box.folder), box.install)
    assert said.splitlines()[-2:] == ["Exit(code=-15, by_us=True, starved=False)", "done"]
