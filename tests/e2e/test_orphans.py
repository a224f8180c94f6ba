"""Who may be ended and who may not: the original's `pkill -9 llama-server` is not needed (spec E3, B10)."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.cli.commands import run
from tests.support.house import Running, Scripted
from tests.support.processes import Watched, all_of, none_left

LISTENS = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"


@pytest.fixture
def foreign(place):
    """A llama-server that somebody else runs: by its program's name and its own first word it is one."""
    program = place.folder / "llama-server"
    program.symlink_to(os.path.realpath(sys.executable))
    process = subprocess.Popen(
        [program, "-S", "-c", LISTENS, "--api-key", "topsecret"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield SimpleNamespace(process=process, pid=process.pid, port=int(process.stdout.readline()))
    process.kill()
    process.communicate()


def doctor(place, *options):
    """The command's exit code and findings."""
    shown = run("doctor", "--json", "--config", str(place.file), *options, **place.environ)
    return shown.code, json.loads(shown.out) if shown.out else shown.err


async def test_b10_a_foreign_llama_server_on_our_port_survives_and_is_named(place, foreign):
    one = Scripted(place.folder, "one", port=foreign.port)
    place.write([one])
    with Running(place) as running:
        refused = await running.api.chat("one")
        assert refused.status == 503
        for part in (f"pid {foreign.pid} (", "llama-server", f"user {getpass.getuser()}", str(foreign.port)):
            assert part in refused.error()["message"]
        assert "topsecret" not in refused.error()["message"]

        for options in ((), ("--fix",)):
            code, findings = doctor(place, *options)
            assert code == 1
            (told,) = [found for found in findings if found["check"] == "ports" and found["severity"] == "error"]
            assert f"pid {foreign.pid} (" in told["what"]
            assert f"--end-pid {foreign.pid}" in told["remedy"]
        assert foreign.process.poll() is None
        assert one.starts == 0

        code, findings = doctor(place, "--fix", "--end-pid", str(foreign.pid))
        assert [found["about"] for found in findings if found["check"] == "fixed"] == [f"port {foreign.port}"]
        assert foreign.process.wait(20) == -15
        await running.api.post("/api/v1/models/one/load")
        assert (await running.api.chat("one")).status == 200


async def test_e3_strays_of_a_killed_keeper_end_before_the_next_start_and_others_do_not(place, foreign):
    one = Scripted(place.folder, "one", "--leak", preload=True)
    place.write([one])
    marked = subprocess.Popen(["sleep", "600"], env=os.environ | {"ROUNDHOUSE_ENGINE": "0123456789abcdef:one"})
    try:
        with Running(place) as running:
            stray = Watched((await one.until("leaked"))[-1]["child"])
            running.kill()
            keepers = {name: found for name, found in all_of(place.install).items() if name.startswith("keeper")}
            for keeper in keepers.values():
                keeper.signal()
            assert all(keeper.gone(within=20) for keeper in keepers.values())
            assert not stray.gone()
            code, findings = doctor(place)
            (told,) = [found for found in findings if found["check"] == "orphans" and found["severity"] == "warning"]
            assert (told["about"], told["remedy"], code) == ("one", "roundhouse doctor --fix", 0)
            assert f"pid {stray.pid} " in told["what"]
            assert not stray.gone()

            running.start()
            assert stray.gone(within=20)
            assert foreign.process.poll() is marked.poll() is None
            stray.close()
    finally:
        marked.kill()
        marked.wait()


async def test_e3_the_doctor_ends_strays_where_no_roundhouse_runs(place):
    one = Scripted(place.folder, "one", "--leak", preload=True)
    place.write([one])
    running = Running(place)
    running.start()
    stray = Watched((await one.until("leaked"))[-1]["child"])
    running.kill()
    keepers = [found for name, found in all_of(place.install).items() if name.startswith("keeper")]
    for keeper in keepers:
        keeper.signal()
    assert all(keeper.gone(within=20) for keeper in keepers)
    code, findings = doctor(place, "--fix")
    fixed = [found["what"] for found in findings if found["check"] == "fixed"]
    assert f"Ended a stray engine process of ours: pid {stray.pid}." in fixed
    assert any("Removed" in what for what in fixed)
    assert code == 0
    assert stray.gone(within=5)
    stray.close()
    assert none_left(place.install) == []


async def test_g4_the_doctor_beside_a_running_roundhouse(place):
    place.write(
        [Scripted(place.folder, "one", preload=True), Scripted(place.folder, "bad", "--die-at-start", "no GPU")]
    )
    with Running(place) as running:
        await running.api.chat("bad")
        code, findings = doctor(place)
        by_check = {}
        for found in findings:
            by_check.setdefault(found["check"], []).append(found)
        assert code == 1
        assert "Roundhouse listens there." in [found["what"] for found in by_check["addresses"]]
        told = {found["about"]: found for found in by_check["roundhouse"]}
        assert told["one"]["severity"] == "ok"
        assert "no GPU" in told["bad"]["what"]
        assert [found["severity"] for found in by_check["idle"]] == ["ok"]
