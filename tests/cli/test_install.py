"""What the commands say; what they do is tried on a real systemd in tests/e2e/test_service.py."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.commands import run
from tests.support.house import free_port

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "roundhouse.yaml"
    file.write_text(f"{{listen: '127.0.0.1:{free_port()}', models: {{m: {{command: 'serve --port ${{PORT}}'}}}}}}")
    return file


def test_g3_a_dry_run_shows_every_file_and_command_and_changes_nothing(config):
    shown = run("install", "--config", str(config), "--name", "rh-dry", "--run-as", ME, "--dry-run")
    assert shown.code == 0, shown.err
    for name in ("rh-dry.service", "rh-dry.socket"):
        assert f"==> /etc/systemd/system/{name} (new)\n# Written by roundhouse install" in shown.out
        assert not Path(f"/etc/systemd/system/{name}").exists()
    assert f"-P -m roundhouse serve --config {config}\n" in shown.out
    commands = [line for line in shown.out.splitlines() if line.startswith("$ ")]
    assert commands == [
        "$ systemctl daemon-reload",
        "$ systemctl enable rh-dry.service rh-dry.socket",
        "$ systemctl start rh-dry.socket rh-dry.service",
    ]


def test_g3_a_dry_run_as_json(config):
    words = ["--config", str(config), "--name", "rh-dry", "--run-as", ME, "--no-start"]
    told = run("install", *words, "--dry-run", "--json").json
    assert told["dry_run"] is True
    assert [file["path"] for file in told["files"]] == [
        f"/etc/systemd/system/rh-dry.{kind}" for kind in ("service", "socket")
    ]
    assert [words[1] for words in told["commands"]] == ["daemon-reload", "enable"]


def test_a_users_own_needs_no_root_to_look(config, tmp_path):
    shown = run("install", "--config", str(config), "--user", "--dry-run", XDG_CONFIG_HOME=str(tmp_path / "own"))
    assert shown.code == 0, shown.err
    assert f"==> {tmp_path}/own/systemd/user/roundhouse.service (new)" in shown.out
    assert "$ systemctl --user daemon-reload" in shown.out
    assert not (tmp_path / "own").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="this is root")
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_without_root_the_line_to_type_is_told(command, config):
    words = ["--config", str(config)] if command == "install" else []
    refused = run(command, *words)
    assert refused.code == 4
    assert f"{shlex.join(['sudo', sys.executable, '-m', 'roundhouse', command])}" in refused.err


@pytest.mark.parametrize("name", ["../x", "a b", "x.service", "", "-x"])
def test_names_that_are_none(name, config):
    assert run("install", "--config", str(config), "--dry-run", f"--name={name}").code == 2
    assert run("uninstall", f"--name={name}").code == 2


def test_a_users_own_service_runs_as_that_user(config):
    refused = run("install", "--config", str(config), "--user", "--run-as", ME, "--dry-run")
    assert refused.code == 2
    assert "--run-as" in refused.err


def test_a_wrong_configuration_is_2(tmp_path):
    file = tmp_path / "roundhouse.yaml"
    file.write_text("listen: 1")
    assert run("install", "--config", str(file), "--dry-run", "--run-as", ME).code == 2


def test_what_was_never_installed_cannot_be_removed(tmp_path):
    refused = run("uninstall", "--user", "--name", "rh-never", XDG_CONFIG_HOME=str(tmp_path))
    assert refused.code == 4
    assert "has installed nothing named 'rh-never'" in refused.err
