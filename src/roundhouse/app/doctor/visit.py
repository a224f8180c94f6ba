"""What every check is given: the configuration, the running Roundhouse if there is one, and a way to run a program."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roundhouse.errors import ConfigError, RouterError
from roundhouse.runtime.lock import install_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from roundhouse.config.models import Config, ModelConfig

RUN_LIMIT = 10.0
"""Seconds that a program asked by a check may take."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: `code` is None when it was not done in time; `text` is all that it printed."""

    code: int | None
    text: str

    @property
    def said(self) -> str:
        """Its last line that says something, for a message."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"


@dataclass(frozen=True, slots=True)
class Visit:
    """One examination.

    Attributes:
        config: the configuration.
        environ: where programs are looked for, and folders are named.
        ask: the JSON at a path of the running Roundhouse. Raises RouterError when there is none, or it refuses.
        proc: where proc(5) is.
    """

    config: Config
    environ: Mapping[str, str]
    ask: Callable[[str], Any]
    proc: Path = field(default=Path("/proc"))

    @property
    def engines(self) -> list[ModelConfig]:
        """The models that an engine on this machine serves, or a URL."""
        return [model for model in self.config.models.values() if model.any_of is None]

    @property
    def units(self) -> dict[str, list[ModelConfig]]:
        """Named units, each with the models that it runs."""
        found: dict[str, list[ModelConfig]] = {}
        for model in self.engines:
            if model.service:
                found.setdefault(unit_name(model.service), []).append(model)
        return found

    @property
    def install(self) -> str | None:
        """The id of this installation; None before its first start: nothing of ours can run then."""
        if not (self.config.state_dir / "install-id").is_file():
            return None
        try:
            return install_id(self.config.state_dir)
        except ConfigError:
            return None

    def state(self) -> dict[str, Any] | None:
        """What the running Roundhouse says of itself; None when there is none, or it does not tell us."""
        try:
            found = self.ask("/api/v1/state")
        except RouterError:
            return None
        return found if isinstance(found, dict) else None

    def program(self, name: str) -> str | None:
        """Where a program is on PATH."""
        return shutil.which(name, path=self.environ.get("PATH"))

    def run(self, argv: Sequence[str], limit: float = RUN_LIMIT) -> Ran:
        """Runs a program to its end, its whole process group killed after `limit` seconds."""
        try:
            process = subprocess.Popen(  # noqa: S603 -- programs of the system, found on PATH; no shell
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(self.environ),
                start_new_session=True,
            )
        except OSError as problem:
            return Ran(127, f"{argv[0]}: {problem.strerror or problem}")
        with process:
            try:
                out, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, _ = process.communicate()
                return Ran(None, f"{Path(argv[0]).name} was not done after {limit:.0f} s")
        return Ran(process.returncode, out.decode(errors="replace"))


def unit_name(service: str) -> str:
    """`sglang` and `sglang.service` are the same unit."""
    return service if "." in service else f"{service}.service"
