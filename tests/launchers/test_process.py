"""The process launcher with real processes: whole trees end, engines are found again, nothing else is touched."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roundhouse.errors import ConfigError, LoadFailed
from roundhouse.launchers.process import ProcessLauncher, default_runtime_dir, engine_environment
from roundhouse.ports import Command, Exit, Tag
from tests.support.processes import ROLES, Watched, none_left, survivors

SUPPORT = Path(__file__).parent.parent / "support"
TREE = Command((sys.executable, "-S", str(SUPPORT / "tree.py")))
OBEDIENT_TREE = Command((*TREE.argv, "obey"))
WAITING = Command(("sleep", "1000"))
TAG = Tag("model", "settings", 4711, 1234.5)


@pytest.fixture
def make(runtime, install):
    """Launchers of one installation."""

    def launcher(orphan_grace=0.3, **options: Any):
        return ProcessLauncher(runtime / "run", runtime / "logs", install, orphan_grace, term_grace=0.2, **options)

    return launcher


@pytest.fixture
def controller(runtime, install):
    """Starts tests/support/controller.py; ends it if the test has not."""
    started: list[Any] = []

    def start(grace, *command: str):
        argv = [sys.executable, SUPPORT / "controller.py", runtime / "run", runtime / "logs", install, grace, *command]
        process: Any = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


async def roles_of(lines) -> dict[str, Watched]:
    found: dict[str, Watched] = {}
    async for line in lines:
        role, pid = line.split()
        found[role] = Watched(int(pid))
        if len(found) == len(ROLES):
            return found
    raise AssertionError(f"the tree ended early: {found}")


def roles_from(process) -> dict[str, Watched]:
    return {role: Watched(int(pid)) for role, pid in (process.stdout.readline().split() for _ in ROLES)}


def code(source: str) -> Command:
    return Command((sys.executable, "-u", "-S", "-c", source))  # -u: its words come when it says them


# --- starting and stopping ---


@pytest.mark.parametrize("command", [TREE, OBEDIENT_TREE], ids=["deaf", "obedient main"])
async def test_e2_stop_ends_the_whole_tree(make, command):
    async with make() as launcher:
        handle = await launcher.start(TAG, command)
        roles = await roles_of(handle.lines())
        assert roles["main"].pid == handle.pid
        ending = await handle.stop(0.1)
        assert survivors(roles, within=0) == []
        assert ending == Exit(code=-9 if command is TREE else -15, by_us=True)
        assert await handle.wait_exit() == ending
        assert handle.exit == ending


async def test_e2_an_engine_behind_a_wrapper_script_has_its_grace_too(make):
    slow = "trap 'sleep 1; echo ended well; exit' TERM; echo up; while :; do sleep 0.01; done"
    async with make() as launcher:
        handle = await launcher.start(TAG, Command(("sh", "-c", '"$@"; true', "wrapper", "sh", "-c", slow)))
        async for _ in handle.lines():
            break
        await handle.stop(60)
        assert handle.tail(1) == ["ended well"]


async def test_e2_descendants_end_when_the_main_process_ends_by_itself(make):
    async with make() as launcher:
        handle = await launcher.start(TAG, TREE)
        roles = await roles_of(handle.lines())
        roles["main"].signal()
        assert await handle.wait_exit() == Exit(code=-9, by_us=False)
        assert survivors(roles, within=0) == []


async def test_exit_code_and_output_of_a_short_life(make):
    async with make() as launcher:
        handle = await launcher.start(TAG, Command(("sh", "-c", "echo out; echo err >&2; exit 7")))
        assert await handle.wait_exit() == Exit(code=7, by_us=False)
        assert sorted([line async for line in handle.lines()]) == ["err", "out"]
        assert handle.tail(1) == handle.tail(2)[-1:]
        assert handle.tail(0) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Command(("no-such-engine",)), "was not found"),
        (Command(("/dev/null",)), "is not executable"),
        (Command(("true",), cwd="/no/such/folder"), "working folder /no/such/folder"),
        (Command(("nul\0byte",)), "running"),
    ],
)
async def test_what_cannot_be_started_says_why(make, command, words):
    async with make() as launcher:
        with pytest.raises(LoadFailed, match=words) as caught:
            await launcher.start(TAG, command)
        assert "'model'" in caught.value.message


async def test_a_file_that_is_no_program_says_why(make, runtime):
    program = runtime / "engine"
    program.write_bytes(b"\0\0not a program")
    program.chmod(0o755)
    async with make() as launcher:
        with pytest.raises(LoadFailed, match="no program for this machine"):
            await launcher.start(TAG, Command((str(program),)))


async def test_a_python_that_is_not_there_says_so(make):
    async with make(python="/no/such/python", spare=False) as launcher:
        with pytest.raises(LoadFailed, match="keeper process for 'model'"):
            await launcher.start(TAG, WAITING)


async def test_engine_environment_and_folder(make, runtime, install, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("KEPT", "yes")
    show = "import os,json; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    async with make() as launcher:
        command = Command(code(show).argv, {"SECRET": "s3cret ü", "KEPT": "no"}, str(runtime))
        handle = await launcher.start(TAG, command)
        await handle.wait_exit()
        cwd, environment = json.loads(handle.tail(1)[0])
    assert cwd == str(runtime)
    assert environment["ROUNDHOUSE_ENGINE"] == f"{install}:model"
    assert environment["SPT_NOENV"] == "1"
    assert environment["PORT"] == "4711"
    assert environment["SECRET"] == "s3cret ü"
    assert environment["KEPT"] == "no"
    assert "NOTIFY_SOCKET" not in environment


def test_what_systemd_gave_roundhouse_is_not_passed_on():
    given = {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "LISTEN_PID": "2", "NOTIFY_SOCKET": "x"}
    kept = {"LISTENER": "a", "PATH": "/bin"}
    environment = engine_environment({**given, **kept}, {}, "i", TAG)
    assert environment == {**kept, "ROUNDHOUSE_ENGINE": "i:model", "SPT_NOENV": "1", "PORT": "4711"}


async def test_f4_secrets_are_on_no_command_line_nor_in_the_keepers_environment(make):
    async with make() as launcher:
        handle = await launcher.start(TAG, Command(WAITING.argv, {"KEY": "s3cret"}))
        process = Path("/proc", str(handle.keeper))
        assert b"s3cret" not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        await handle.stop(0)


async def test_stdin_is_held_open_while_it_runs(make):
    """llama-server's progress mode ends when its stdin closes: a read must block, not meet the end."""
    source = "import select,sys; print(select.select([0],[],[],0)[0]); sys.stdin.read(); print('closed')"
    async with make() as launcher:
        handle = await launcher.start(TAG, code("import signal; signal.signal(15, signal.SIG_IGN)\n" + source))
        async for line in handle.lines():
            assert line == "[]"
            break
        ending = await handle.stop(30)
        assert handle.tail(1) == ["closed"]
        assert ending == Exit(code=0, by_us=True)


TELLS_THE_END = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("SIGTERM"), sys.exit(3)))
print("up", flush=True)
sys.stdin.read()
print("end of stdin")
"""


async def test_an_engine_that_ends_with_its_stdin_gets_no_sigterm_as_well(make):
    """Both at once make llama-server abort."""
    async with make() as launcher:
        command = code(TELLS_THE_END)
        handle = await launcher.start(TAG, replace(command, eof_ends=True))
        async for _ in handle.lines():
            break
        assert await handle.stop(30) == Exit(code=0, by_us=True)
        assert handle.tail(2) == ["up", "end of stdin"]


@pytest.mark.parametrize("grace", [0.05, 30])
async def test_one_that_does_not_after_all_gets_it(make, grace):
    async with make() as launcher:
        command = code(TELLS_THE_END.replace("sys.stdin.read()", "signal.pause()"))
        handle = await launcher.start(TAG, replace(command, eof_ends=True))
        async for _ in handle.lines():
            break
        assert (await handle.stop(grace)).code in ({3} if grace > 1 else {3, -9})


async def test_an_abort_leaves_no_core_file(make, tmp_path):
    async with make() as launcher:
        source = "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_CORE)[0])\nos.abort()"
        handle = await launcher.start(TAG, replace(code(source), cwd=str(tmp_path)))
        assert (await handle.wait_exit()).code == -6
        assert handle.tail(1) == ["0"]
        assert list(tmp_path.iterdir()) == []


# --- output ---


async def test_lines_are_followed_from_the_beginning_by_several_readers(make):
    source = "import sys; print('one', flush=True); sys.stdin.read(); sys.stdout.buffer.write(b'10%\\r20%\\r\\nb\\xffd\\nend')"
    source = "import signal; signal.signal(15, signal.SIG_IGN)\n" + source
    async with make() as launcher:
        handle = await launcher.start(TAG, code(source))
        async for line in handle.lines():
            assert line == "one"
            break

        async def read():
            return [line async for line in handle.lines()]

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read()) for _ in range(2)]
            await handle.stop(30)
        assert [reader.result() for reader in readers] == [["one", "10%", "20%", "b�d", "end"]] * 2


async def test_log_is_readable_while_it_runs_and_removed_after(make):
    async with make() as launcher:
        handle = await launcher.start(TAG, Command(("sh", "-c", "echo hello; exec sleep 1000")))
        async for _ in handle.lines():
            break
        assert handle.log_path.read_text() == "hello\n"
        assert handle.log_path.stat().st_mode & 0o777 == 0o600
        keeper = Watched(handle.keeper)
        await handle.stop(0)
        assert keeper.gone(within=10)
        assert not handle.log_path.exists()


# --- adoption, orphans ---


async def test_e1_engine_is_found_again_with_its_tag_pid_and_output(make):
    async with make(orphan_grace=60) as launcher:
        first = await launcher.start(TAG, Command(("sh", "-c", "echo early; exec sleep 1000")))
        await first.detach()
        with pytest.raises(RuntimeError, match="detached"):
            await first.stop(0)
    async with make(orphan_grace=60) as launcher:
        (again,) = await launcher.found()
        assert (again.pid, again.tag, again.keeper) == (first.pid, TAG, first.keeper)
        async for line in again.lines():
            assert line == "early"
            break
        assert await launcher.found() == []  # what is held already is not found twice
        await again.stop(0)


async def test_e1_killed_controller_engine_is_adopted_with_the_same_pid(make, controller):
    process, told = controller(60, *TREE.argv)
    roles = roles_from(process)
    process.kill()
    process.wait()
    async with make(orphan_grace=60) as launcher:
        (handle,) = await launcher.found()
        assert (handle.pid, handle.keeper) == (told["pid"], told["keeper"])
        assert set(await roles_of(handle.lines())) == set(ROLES)
        assert not any(role.gone() for role in roles.values())
        await handle.stop(0)
    assert survivors(roles, within=0) == []


def test_e3_killed_controller_whole_tree_ends_after_the_grace(controller, install, runtime):
    process, told = controller(0.3, *TREE.argv)
    processes = {**roles_from(process), "keeper": Watched(told["keeper"])}
    process.kill()
    process.wait()
    assert survivors(processes) == []
    assert none_left(install) == []
    assert list(runtime.rglob("*.sock")) + list(runtime.rglob("*.log*")) == []


async def test_e3_detached_engine_ends_after_the_grace(make):
    async with make(orphan_grace=0.1) as launcher:
        handle = await launcher.start(TAG, TREE)
        roles = await roles_of(handle.lines())
        await handle.detach()
        assert await asyncio.to_thread(survivors, roles) == []


async def test_e3_leaving_the_context_lets_go_of_engines(make):
    async with make(orphan_grace=0.1) as launcher:
        handle = await launcher.start(TAG, TREE)
        roles = await roles_of(handle.lines())
        assert not any(role.gone() for role in roles.values())
    assert await asyncio.to_thread(survivors, roles) == []
    assert [line async for line in handle.lines()] == handle.tail(99)  # readers end too


async def test_e1_exit_is_kept_for_a_later_roundhouse(make):
    async with make(orphan_grace=60) as launcher:
        handle = await launcher.start(TAG, Command(("sh", "-c", "read line; echo last words; exit 5")))
        await handle.detach()
        engine = Watched(handle.pid)
        engine.signal(15)
        assert await asyncio.to_thread(engine.gone, 10)
    async with make(orphan_grace=60) as launcher:
        (again,) = await launcher.found()
        assert await again.wait_exit() == Exit(code=-15, by_us=False)
        keeper = Watched(again.keeper)
        assert await asyncio.to_thread(keeper.gone, 10)  # once read, nothing is left to keep


async def test_newest_controller_wins(make):
    async with make(orphan_grace=60) as older, make(orphan_grace=60) as newer:
        first = await older.start(TAG, WAITING)
        (second,) = await newer.found()
        assert second.pid == first.pid
        ending = await second.stop(0)
        assert ending.by_us
        assert (await first.wait_exit()).code is None  # it ended, and how was told to the other


async def test_stop_of_a_lost_engine_does_not_disturb_the_new_controller(make, monkeypatch):
    monkeypatch.setattr("roundhouse.launchers.handle.KEEPER_PATIENCE", 0.1)
    async with make(orphan_grace=60) as older, make(orphan_grace=60) as newer:
        first = await older.start(TAG, WAITING)
        (second,) = await newer.found()
        stopping = asyncio.get_running_loop().create_task(first.stop(0))
        await asyncio.sleep(0.3)  # well over the patience
        assert not Watched(second.keeper).gone()
        await second.stop(0)
        await stopping


async def test_other_installations_are_left_alone(make, runtime):
    async with (
        make(orphan_grace=60) as ours,
        ProcessLauncher(runtime / "run", runtime / "logs2", "test-other", 0.1, term_grace=0) as theirs,
    ):
        handle = await theirs.start(TAG, WAITING)
        assert await ours.found() == []
        assert handle.exit is None
        await handle.stop(0)
    assert none_left("test-other") == []


async def test_stale_sockets_and_logs_are_removed(make, runtime):
    async with make() as launcher:
        handle = await launcher.start(TAG, WAITING)
        sock, log = runtime / "run" / f"{handle.log_path.stem}.sock", handle.log_path
        await handle.detach()
        keeper = Watched(handle.keeper)
        keeper.signal()
        keeper.gone(within=10)
        log.touch()
        stranger = runtime / "logs" / "deadbeef.log.1"
        stranger.touch()
        (runtime / "logs" / "roundhouse.log").touch()
        assert sock.exists()
        assert await launcher.found() == []
        assert not sock.exists()
        assert [path.name for path in (runtime / "logs").iterdir()] == ["roundhouse.log"]


# --- a keeper that dies ---


async def test_e3_keeper_killed_the_rest_is_swept_and_foreign_processes_stay(make, install):
    environment = {**os.environ, "ROUNDHOUSE_ENGINE": f"{install}x:model"}
    foreign: Any = subprocess.Popen([*TREE.argv], env=environment, stdout=subprocess.PIPE, text=True)
    strangers = roles_from(foreign)
    async with make() as launcher:
        handle, other = await launcher.start(TAG, TREE), await launcher.start(TAG, WAITING)
        roles = await roles_of(handle.lines())
        Watched(handle.keeper).signal()
        assert await handle.wait_exit() == Exit(code=None, by_us=False)
        assert survivors(roles, within=0) == []
        assert other.exit is None  # a kept engine with the same marker is no stray
        assert not Watched(other.pid).gone()
        assert not any(stranger.gone() for stranger in strangers.values())
        await other.stop(0)
    for stranger in strangers.values():
        stranger.signal()
    foreign.wait()
    foreign.stdout.close()


async def test_e3_strays_of_a_killed_keeper_are_swept_at_the_next_start(make, controller):
    process, told = controller(60, *TREE.argv)
    roles = roles_from(process)
    process.kill()
    process.wait()
    keeper = Watched(told["keeper"])
    keeper.signal()
    assert keeper.gone(within=10)
    assert roles["main"].gone(within=10)  # PDEATHSIG
    async with make() as launcher:
        assert await launcher.found() == []
        assert survivors(roles, within=0) == []


async def test_e2_a_stuck_keeper_does_not_keep_its_engine_alive(make, monkeypatch):
    monkeypatch.setattr("roundhouse.launchers.handle.KEEPER_PATIENCE", 0.1)
    async with make() as launcher:
        handle = await launcher.start(TAG, TREE)
        roles = await roles_of(handle.lines())
        Watched(handle.keeper).signal(19)
        assert await handle.stop(0) == Exit(code=None, by_us=True)
        assert survivors(roles, within=0) == []


async def test_keepers_are_reaped(make):
    async with make(spare=False) as launcher:
        handle = await launcher.start(TAG, WAITING)
        await handle.stop(0)
        while Path("/proc", str(handle.keeper)).exists():  # a zombie would stay
            await asyncio.sleep(0.005)


# --- the spare ---


async def test_spare_keeper_is_used_replaced_and_ended(make, install):
    async with make() as launcher:
        spare, place = await launcher._spare
        handle = await launcher.start(TAG, WAITING)
        assert handle.keeper == spare.keeper
        assert handle.log_path == place.log
        replacement, _ = await launcher._spare
        assert replacement.keeper != handle.keeper
        assert await launcher.found() == []
        await handle.stop(0)
        watched = Watched(replacement.keeper)
    assert watched.gone()


async def test_lost_spare_is_no_loss(make):
    async with make() as launcher:
        spare, _ = await launcher._spare
        watched = Watched(spare.keeper)
        watched.signal()
        assert watched.gone(within=10)
        handle = await launcher.start(TAG, WAITING)
        assert (await handle.stop(0)).by_us


async def test_spare_of_a_killed_roundhouse_ends_at_once(make, controller, install):
    process, _ = controller(60, *WAITING.argv)
    process.kill()
    process.wait()
    async with make(orphan_grace=60, spare=False) as launcher:
        (handle,) = await launcher.found()
        await handle.stop(0)
        assert none_left(install) == []


async def test_cancelled_start_leaves_nothing(make, install):
    async with make(orphan_grace=60) as launcher:
        task = asyncio.get_running_loop().create_task(launcher.start(TAG, WAITING))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await asyncio.to_thread(none_left, install) == []


# --- folders ---


async def test_socket_path_that_is_too_long_is_refused(tmp_path, install):
    folder = tmp_path / ("x" * 100)
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR"):
        async with ProcessLauncher(folder, tmp_path / "logs", install, 1):
            pass
    assert not folder.exists()


async def test_runtime_folder_is_private(make, runtime):
    (runtime / "run").mkdir(mode=0o755)
    async with make() as launcher:
        _, place = await launcher._spare
        assert (runtime / "run").stat().st_mode & 0o777 == 0o700
        assert place.socket.stat().st_mode & 0o777 == 0o600


async def test_planted_runtime_folder_is_refused(make, runtime):
    (runtime / "elsewhere").mkdir()
    (runtime / "run").symlink_to(runtime / "elsewhere")
    with pytest.raises(ConfigError, match="not a folder of this user"):
        async with make():
            pass


def test_default_runtime_dir():
    assert default_runtime_dir({"XDG_RUNTIME_DIR": "/run/user/1"}) == Path("/run/user/1/roundhouse")
    expected = Path("/run/roundhouse") if os.access("/run", os.W_OK) else Path(f"/tmp/roundhouse-{os.getuid()}")
    assert default_runtime_dir({}) == expected


# --- any moment ---


@pytest.mark.parametrize("seed", range(5))
def test_e3_killed_at_any_moment_nothing_is_left(controller, install, seed):
    process, _ = controller(0.2, "churn", *OBEDIENT_TREE.argv)
    time.sleep(random.Random(seed).uniform(0, 0.6))  # the moment is what is random, nothing waits for it
    process.kill()
    process.wait()
    assert none_left(install) == []
