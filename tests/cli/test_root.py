import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import roundhouse
from roundhouse.cli.root import app
from tests.cli.commands import run, stub

ROOT = typer.main.get_command(app)


def walk(group=ROOT, *before):
    """Every command, groups opened."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, *before, name)
        else:
            yield (*before, name)


COMMANDS = list(walk())


def test_g3_help_names_every_command_and_the_exit_codes():
    shown = run("--help")
    assert shown.code == 0
    assert all(f" {name} " in shown.out for name in ROOT.commands)
    assert "3 not running" in shown.out.replace("\n", " ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command):
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example: " in shown.output
    assert f"roundhouse {' '.join(command)}" in " ".join(shown.output.split())


NO_JSON = {
    ("serve",): "runs until it is ended",
    ("demo",): "runs until it is ended",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_json_unless_it_makes_no_sense(command):
    found = ROOT
    for name in command:
        found = found.commands[name]
    speaks = any("--json" in option.opts for option in found.params)
    assert speaks or command in NO_JSON
    assert not (speaks and command in NO_JSON)


def test_version():
    assert run("--version").out == f"roundhouse {roundhouse.__version__}\n"


def test_help_imports_no_server():
    heavy = "fastapi uvicorn pydantic structlog orjson psutil uvloop"
    code = f"import sys, roundhouse.cli; print([name for name in {heavy.split()} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_wrong_usage_is_2():
    assert run("load").code == 2
    assert run("frobnicate").code == 2
    assert run("status", "--url", "localhost:8002").code == 2


def test_not_running_is_3_and_says_how_to_start_it():
    with stub({}) as gone:
        pass
    shown = run("status", "--url", gone.url)
    assert shown.code == 3
    assert shown.out == ""
    assert gone.url in shown.err
    assert "roundhouse serve" in shown.err
    assert "ROUNDHOUSE_URL" in shown.err
