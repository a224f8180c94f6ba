"""Takes hold of what an earlier Roundhouse left running, first of all: its engines' keepers count the seconds (E1, E3).

Imports little, so that this happens a fraction of a second after the start; the rest of the program is loaded after it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.launchers.process import ProcessLauncher, default_runtime_dir
from roundhouse.runtime.lock import install_id, state_lock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from roundhouse.config.models import Config
    from roundhouse.launchers.systemd import SystemdLauncher
    from roundhouse.ports import Handle


@dataclass(slots=True)
class Held:
    """The launchers of this installation (`systemd` where a model asks for it), and the engines found under them."""

    process: ProcessLauncher
    systemd: SystemdLauncher | None
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
        async with AsyncExitStack() as stack:
            logs = config.state_dir / "logs"
            process = await stack.enter_async_context(ProcessLauncher(folder, logs, identity, grace))
            engines = list(await process.found())
            systemd = _systemd(config, folder, identity)
            if systemd is not None:
                await stack.enter_async_context(systemd)
                engines += await systemd.found()
            yield Held(process, systemd, engines)


async def hold_units(held: Held, config: Config, environ: Mapping[str, str], stack: AsyncExitStack) -> None:
    """Has a launcher of units where another configuration is the first to need one; it enters `stack`."""
    if held.systemd is None:
        systemd = _systemd(config, default_runtime_dir(environ), install_id(config.state_dir))
        if systemd is not None:
            held.systemd = await stack.enter_async_context(systemd)


def know_units(held: Held, config: Config) -> None:
    """Has the launcher of units, if there is one, know those of this configuration from now on."""
    if held.systemd is not None:
        held.systemd.configure(_named(config), config.devices.get("ram"))


def _systemd(config: Config, folder: Path, identity: str) -> SystemdLauncher | None:
    """The launcher of units; None where no model is run by systemd."""
    if all(model.launcher != "systemd" for model in config.models.values()):
        return None
    from roundhouse.launchers.systemd import SystemdLauncher  # noqa: PLC0415 -- loaded only where it is needed

    limit = config.devices.get("ram")
    return SystemdLauncher(folder, identity, user=config.systemd == "user", named=_named(config), memory_limit=limit)


def _named(config: Config) -> dict[str, int]:
    """The units that the configuration names, each with the port of its engine."""
    models = [model for model in config.models.values() if model.launcher == "systemd"]
    if not models:
        return {}
    from roundhouse.app.specs import engine_of  # noqa: PLC0415 -- loaded only where it is needed

    return {m.service: m.port or engine_of(m).default_port for m in models if m.service is not None}
