"""systemctl(1), journalctl(1) and loginctl(1) as an installation uses them. The running program has D-Bus."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.app.install.problems import Forbidden, NotDone

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 180.0
"""Seconds for one command: a stop waits for running answers."""


@dataclass(frozen=True, slots=True)
class Systemctl:
    """One manager: the system's, or with `user` the caller's own."""

    user: bool

    def present(self) -> None:
        """Raises Forbidden where no systemd runs."""
        if shutil.which("systemctl") is None or not Path("/run/systemd/system").exists():
            raise Forbidden(
                "This machine is not run by systemd, so there is nothing to install into. `roundhouse serve` runs "
                "under any supervisor; --dry-run shows what would be written."
            )

    def argv(self, *words: str) -> list[str]:
        """The command line."""
        return ["systemctl", *(["--user"] if self.user else []), *words]

    def do(self, *words: str) -> None:
        """Runs a command. Raises NotDone with what it said."""
        done = self._run(self.argv(*words))
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"it ended with {done.returncode}"
            raise NotDone(f"{' '.join(self.argv(*words))}: {said}")

    def tries(self, *words: str) -> bool:
        """Runs a command that may fail; whether it did not."""
        return self._run(self.argv(*words)).returncode == 0

    def active(self, unit: str) -> bool:
        """Whether a unit is active (or on its way there)."""
        return self._run(self.argv("is-active", unit)).stdout.strip() in {"active", "activating", "reloading"}

    def failed(self, unit: str) -> bool:
        """Whether a unit has failed and is not being started again."""
        return self._run(self.argv("is-failed", unit)).stdout.strip() == "failed"

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit; none where systemd can't be asked."""
        done = self._run(self.argv("show", "--property", ",".join(names), "--", unit))
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def last_lines(self, unit: str, count: int) -> list[str]:
        """The end of a unit's journal."""
        which = "--user-unit" if self.user else "--unit"
        done = self._run(["journalctl", which, unit, "--lines", str(count), "--no-pager", "--output", "cat"])
        return done.stdout.splitlines()

    def linger(self) -> bool:
        """Lets the caller's services run without a session, from boot on; whether that worked."""
        return self._run(["loginctl", "enable-linger"]).returncode == 0

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 -- fixed words and names of units
                list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]} is not installed")
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 124, "", f"not done after {LIMIT:.0f} s")
