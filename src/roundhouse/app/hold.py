"""Takes hold of what an earlier Roundhouse left running, first of all: its engines' keepers count the seconds (E1, E3).

Imports little, so that this happens a fraction of a second after the start; the rest of the program is loaded after it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.launchers.process import ProcessLauncher, default_runtime_dir
from roundhouse.runtime.lock import install_id, state_lock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from roundhouse.config.models import Config
    from roundhouse.ports import Handle


@dataclass(frozen=True, slots=True)
class Held:
    """The process launcher of this installation, and the engines found under it."""

    launcher: ProcessLauncher
    engines: Sequence[Handle]


@asynccontextmanager
async def hold_engines(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Held]:
    """Locks the state folder, attaches to every keeper of this installation, and clears away what dead ones left.

    Raises:
        ConfigError: another Roundhouse has the state folder, or a folder can't be used.
    """
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with state_lock(config.state_dir):
        grace = config.scheduling.orphan_grace
        identity = install_id(config.state_dir)
        folder = default_runtime_dir(environ)
        async with ProcessLauncher(folder, config.state_dir / "logs", identity, grace) as launcher:
            yield Held(launcher, await launcher.found())
