import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli.commands import LIMIT, environ, error, stub
from tests.support.tmux import needs_tmux, terminal

PROGRAM = str(Path(sys.executable).with_name("roundhouse"))
MODELS = {"data": [{"id": "org/big", "aliases": ["gpt-4o"]}, {"id": "small", "aliases": []}, {"id": "big"}]}


@pytest.fixture
def folder(tmp_path):
    """A folder with a configuration, some files, and nothing else in its home."""
    (tmp_path / "roundhouse.yaml").write_text(
        "models: {mine: {url: 'http://127.0.0.1:9', aliases: [gpt]}, other: {url: 'http://127.0.0.1:9'}}\n"
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models/my.gguf").touch()
    (tmp_path / "my.gguf").touch()
    return tmp_path


def proposed(folder, line, url="http://127.0.0.1:1", **env):
    """What bash is told at the end of a line."""
    words = line.split(" ")
    ended = subprocess.run(
        [PROGRAM],
        env=environ(
            _ROUNDHOUSE_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
            ROUNDHOUSE_URL=url,
            HOME=str(folder),
            XDG_CONFIG_HOME="",
            **env,
        ),
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=LIMIT,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


def test_editing_takes_ids_of_the_configuration_alone(folder):
    with stub({"GET /v1/models": (200, MODELS)}) as there:
        assert proposed(folder, "roundhouse models edit ", there.url) == ["mine", "other"]
        assert proposed(folder, "roundhouse models remove o", there.url) == ["other"]


def test_names_come_from_the_roundhouse_that_runs(folder):
    with stub({"GET /v1/models": (200, MODELS)}) as there:
        assert proposed(folder, "roundhouse load ", there.url) == ["big", "gpt-4o", "org/big", "small"]
        assert proposed(folder, "roundhouse unload b", there.url) == ["big"]
        assert proposed(folder, "roundhouse chat gp", there.url) == ["gpt-4o"]
        assert proposed(folder, f"roundhouse logs --url {there.url} sm") == ["small"]
        proposed(folder, "roundhouse load x", there.url, ROUNDHOUSE_API_KEY="k")
        assert there.asked[-1].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize("answer", [(401, error("which key?")), (200, b"<html>"), (200, {"data": 1}), (200, {})])
def test_else_from_the_configuration(folder, answer):
    with stub({"GET /v1/models": answer}) as there:
        assert proposed(folder, "roundhouse load ", there.url) == ["gpt", "mine", "other"]
    assert proposed(folder, "roundhouse load o") == ["other"]


def test_where_there_is_neither_nothing_is_said(folder):
    (folder / "roundhouse.yaml").write_text("models: [\n")
    assert proposed(folder, "roundhouse load ") == []


def test_a_model_to_check_may_be_a_path(folder):
    assert proposed(folder, "roundhouse models check m") == ["mine", "models/", "my.gguf"]
    assert proposed(folder, "roundhouse models check models/") == ["models/my.gguf"]
    assert proposed(folder, "roundhouse models check /nowhere/") == []


def test_commands_are_proposed_too(folder):
    assert proposed(folder, "roundhouse models p") == ["pull"]


@needs_tmux
@pytest.mark.skipif(not os.access("/bin/bash", os.X_OK), reason="bash is not there")
def test_in_a_real_bash(folder):
    with tempfile.TemporaryDirectory(prefix="rh-", dir="/tmp") as short:
        path = f"{os.path.dirname(PROGRAM)}:{os.environ['PATH']}"
        env = {"PATH": path, "HOME": str(folder), "ROUNDHOUSE_URL": "http://127.0.0.1:1"}
        with terminal(Path(short), env) as shown:
            shown.enter(f"cd {folder}; PS1='bash> ' bash --norc")
            shown.until("bash>")
            shown.enter('eval "$(_ROUNDHOUSE_COMPLETE=source_bash roundhouse)"; echo so far')
            shown.until("so far\n")
            shown.run("send-keys", "-l", "roundhouse load ot")
            shown.type("Tab")
            shown.until("roundhouse load other")
