"""Visits to installations of a test's own, with stand-ins for the system's programs, and real processes to be found."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from roundhouse.app.doctor.visit import Visit
from roundhouse.config.load import parse
from roundhouse.errors import RouterError
from tests.support.processes import none_left


def absent(_path):
    raise RouterError("Nothing answers.")


class Box:
    """One installation: its folder, its programs, its running engines."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self.state = self.folder / "state"
        self.install = "cafe" + secrets.token_hex(6)
        self.processes = []

    def installed(self):
        """As after a first start."""
        self.state.mkdir(exist_ok=True)
        (self.state / "install-id").write_text(self.install + "\n")
        return self

    def program(self, name, text):
        """A program on the box's PATH."""
        file = self.bin / name
        file.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return file

    def visit(self, models=None, ask=absent, environ=None, **settings):
        """The doctor's visit to a configuration."""
        told = {"listen": "127.0.0.1:1", "state_dir": str(self.state), "models": models or {}} | settings
        config = parse(json.dumps(told), self.folder / "roundhouse.yaml", {"HOME": str(self.folder)})
        ours = {"PATH": f"{self.bin}:/usr/bin:/bin", "XDG_RUNTIME_DIR": str(self.folder)}
        return Visit(config, ours | (environ or {}), ask)

    def run(self, code, mark=None, name=None):
        """A process of Python that has said its first line; `name` is what it calls itself (argv[0] and comm)."""
        program = sys.executable
        if name is not None:
            link = self.folder / name
            link.symlink_to(os.path.realpath(sys.executable))
            program = str(link)
        environ = {key: value for key, value in os.environ.items() if key != "ROUNDHOUSE_ENGINE"}
        process = subprocess.Popen(
            [program, "-S", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ | ({"ROUNDHOUSE_ENGINE": mark} if mark else {}),
        )
        self.processes.append(process)
        return process, process.stdout.readline().strip()

    def listener(self, mark=None, name=None):
        """A process that listens; gives it and its port."""
        process, port = self.run(LISTENS, mark, name)
        return process, int(port)

    def end(self):
        for process in self.processes:
            process.kill()
            process.communicate()
        assert none_left(self.install) == []
        shutil.rmtree(self.folder)


LISTENS = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
WAITS = "print('up', flush=True); input()"


@pytest.fixture
def box():
    made = Box()
    yield made
    made.end()


def told(findings, severity=None):
    """Findings as 'about: what → remedy', of one severity."""
    return [
        f"{finding.about}: {finding.what} → {finding.remedy}"
        for finding in findings
        if severity is None or finding.severity == severity
    ]
