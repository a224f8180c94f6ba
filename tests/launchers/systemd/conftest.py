"""Launchers in a lab, engines for them, and that nothing of a test stays in systemd or on disk."""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from roundhouse.launchers.systemd import SystemdLauncher
from tests.support.lab import INSIDE

ENGINE = Path(__file__).parents[2] / "support" / "unit_engine.py"


async def until(handle, line: str) -> list[str]:
    """An engine's lines up to this one."""
    seen = []
    async for text in handle.lines():
        seen.append(text)
        if text == line:
            return seen
    raise AssertionError(seen)


def pid_of(lines: list[str], role: str) -> int:
    """Of the process that said so."""
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{role} "))


class Box:
    """A machine with a systemd: units in it, launchers of one installation."""

    def __init__(self, lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.install = secrets.token_hex(8)
        self.named: dict[str, int] = {}
        self.mark = secrets.token_hex(4)  # makes names of units our own

    def launcher(self, **options) -> SystemdLauncher:
        options = {"user": False, "named": self.named, "memory_limit": None} | options
        return SystemdLauncher(self.folder / "run", self.install, **options)

    def unit(self, text: str, name: str = "engine", user: int | None = None) -> str:
        """Writes a named unit; its full name."""
        unit = f"t{self.mark}-{name}.service"
        folder = Path("/etc/systemd/system") if user is None else Path(f"/run/user/{user}/systemd/user")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / unit).write_text(text)
        self.lab.systemctl("daemon-reload", user=user)
        self.named[unit] = 1
        return unit

    def show(self, unit: str, what: str, user: int | None = None) -> str:
        return self.lab.systemctl("show", "--value", "-p", what, unit, user=user)

    def left(self) -> list[str]:
        """What is there of ours, on disk and in systemd, besides the unit files that the test wrote itself."""
        runtime = [
            Path("/run/systemd/system"),
            Path("/run/roundhouse-units"),
            Path("/run/user/0/systemd/user"),
            self.folder,
        ]
        found = [
            str(path)
            for top in runtime
            for path in top.rglob("*")
            if (self.mark in str(path) or self.install[:8] in path.name or top == self.folder)
            and (path.is_file() or path.is_fifo())
            and path.suffix != ".service"
        ]
        listed = self.lab.systemctl("list-units", "--all", "--plain", "--no-legend", f"roundhouse-{self.install[:8]}-*")
        return found + listed.splitlines()


@pytest.fixture
def box(lab):
    folder = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))
    made = Box(lab, folder)
    yield made
    gc.collect()  # what is left open is told of the test that left it
    if INSIDE in os.environ:
        for pattern in (f"t{made.mark}-*", f"roundhouse-{made.install[:8]}-*"):
            lab.systemctl("kill", "-s", "KILL", "--kill-who=all", pattern, check=False)
            lab.systemctl("stop", pattern, check=False)
            lab.systemctl("reset-failed", pattern, check=False)
        for path in Path("/etc/systemd/system").glob(f"t{made.mark}-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


@pytest.fixture
def engine():
    """The argv of an engine: see tests/support/unit_engine.py."""
    return lambda *words: (sys.executable, "-S", "-u", str(ENGINE), *words)
