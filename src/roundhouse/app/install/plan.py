"""Which files an installation consists of, and what is worth telling about it. Pure: judges facts that others found.

`Facts` is what was asked for and what the machine is like; `make_plan` turns it and a configuration into a `Plan`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.app.install import polkit, units
from roundhouse.config import addresses
from roundhouse.errors import ConfigError
from roundhouse.launchers.systemd.startfile import SHELL, START_FILE, drop_in_text, unit_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from roundhouse.app.install.units import Account
    from roundhouse.config.models import Config, ModelConfig

SYSTEM_UNITS = Path("/etc/systemd/system")
POLKIT_RULES = Path("/etc/polkit-1/rules.d")
UNIT_NAME = re.compile(r"[A-Za-z0-9:_][A-Za-z0-9:_.@-]*\.service")
"""Names that we write files for (systemd.unit(5), less its escapes)."""
DROP_IN = "50-roundhouse.conf"
"""As the launcher names its own, which lasts for one boot."""
ENDING = 60.0
"""Seconds that the end of all engines may take beside the drain of running answers."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit as it is: the user it runs as ('root' if it says nothing), and whether `install` wrote it."""

    user: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the texts depend on beside the configuration.

    Attributes:
        name: of the service, without a suffix.
        program: Python interpreter, absolute, and what follows it before `serve`.
        account: who the service runs as; None for a user's own manager.
        listen: addresses as `ListenStream=` takes them.
        environment: variables of the service.
        environment_file: where more of them may be.
        unit_dir: where unit files go.
        existing: units that exist, by name, of those the configuration names.
        engine_units: whether units that are missing are to be written.
        pythons: interpreter of TabbyAPI by the folder of its checkout.
        remarks: what was noticed while these facts were found.
    """

    name: str
    program: tuple[str, ...]
    account: Account | None
    listen: tuple[str, ...]
    environment: Mapping[str, str]
    environment_file: Path
    unit_dir: Path
    existing: Mapping[str, Unit] = field(default_factory=dict)
    engine_units: bool = False
    pythons: Mapping[Path, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file to write, with mode 0644."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """An installation: its files, the router's first, and remarks for people."""

    files: tuple[File, ...]
    remarks: tuple[str, ...]


def named_units(config: Config) -> dict[str, list[ModelConfig]]:
    """The units that models are run by, each with its models. Raises ConfigError for what is no name of a unit."""
    found: dict[str, list[ModelConfig]] = {}
    for model in config.models.values():
        if model.service is None:
            continue
        unit = unit_name(model.service)
        if not UNIT_NAME.fullmatch(unit):
            raise ConfigError(
                f"models.{model.id}.service: {model.service!r} is no name of a unit; write sglang.service"
            )
        found.setdefault(unit, []).append(model)
    return found


def make_plan(config: Config, facts: Facts) -> Plan:
    """The installation of this configuration. Raises ConfigError for what is no name of a unit."""
    router = _router(config, facts)
    files = [
        File(facts.unit_dir / f"{facts.name}.service", units.service_text(router)),
        File(facts.unit_dir / f"{facts.name}.socket", units.socket_text(router)),
    ]
    remarks = list(facts.remarks)
    if facts.account is None:
        if config.systemd == "system" and (named := named_units(config)):
            remarks.append(
                f"{_and(named)}: of the system manager, which a service of the user manager may not steer. Install "
                "without --user, or write `systemd: user` and move these units to ~/.config/systemd/user."
            )
        return Plan(tuple(files), tuple(remarks))
    if config.systemd == "user":
        remarks.append("The configuration says `systemd: user`: that goes with `roundhouse install --user`.")
        return Plan(tuple(files), tuple(remarks))
    engines = _Engines(facts, facts.account)
    for unit, models in named_units(config).items():
        engines.add(unit, models)
    return Plan((*files, *engines.result()), (*remarks, *engines.remarks))


def _router(config: Config, facts: Facts) -> units.Router:
    hosts = [addresses.split(address)[0] for address in config.listen]
    return units.Router(
        name=facts.name,
        argv=(*facts.program, "serve", "--config", str(config.source)),
        listen=facts.listen,
        account=facts.account,
        environment=facts.environment,
        environment_file=facts.environment_file,
        children=any(model.launcher == "process" for model in config.models.values()),
        any_host=not all(addresses.is_loopback(host) for host in hosts),
        stop_limit=config.shutdown.drain + ENDING,
    )


class _Engines:
    """Files for engines that run as units of the system manager."""

    def __init__(self, facts: Facts, account: Account) -> None:
        self.remarks: list[str] = []
        self._facts, self._account = facts, account
        self._files: list[File] = []
        self._allowed: list[str] = []

    def add(self, unit: str, models: list[ModelConfig]) -> None:
        """What one unit needs so that the router may run these models by it."""
        found = self._facts.existing.get(unit)
        if found is not None and found.ours:
            self._write_unit(unit, models)  # again, so that running `install` again takes nothing away
        elif found is None and self._facts.engine_units:
            self._write_unit(unit, models)
        elif found is None:
            self.remarks.append(
                f"{unit}: there is no such unit, so {_and(m.id for m in models)} can't be loaded. Write it, or let it "
                "be written: --engine-units."
            )
            return
        elif self._account.user not in {found.user, "root"}:
            self.remarks.append(
                f"{unit} runs as {found.user}, not as {self._account.user}: it gets no drop-in and no rule, as they "
                f"would let {self._account.user} become {found.user}. Set User={self._account.user} in it (systemctl "
                f"edit {unit}), or choose --run-as {found.user}."
            )
            return
        if self._account.user == "root":
            return
        self._allowed.append(unit)
        if any(model.script or model.path for model in models):
            path = self._facts.unit_dir / f"{unit}.d" / DROP_IN
            self._files.append(File(path, f"# {units.MARK}.\n{drop_in_text()}"))

    def result(self) -> list[File]:
        """The files, with the one rule that goes with them."""
        if not self._allowed:
            return self._files
        rule = polkit.rule_text(self._account.user, self._allowed)
        return [*self._files, File(POLKIT_RULES / f"50-{self._facts.name}.rules", rule)]

    def _write_unit(self, unit: str, models: list[ModelConfig]) -> None:
        tabby = next((model.tabby for model in models if model.tabby), None)
        if tabby is not None:
            python = self._facts.pythons.get(tabby.dir, "/usr/bin/python3")
            text = units.engine_text(unit, self._account, (python, "main.py"), tabby.dir)
        else:
            text = units.engine_text(unit, self._account, (SHELL, START_FILE))
        self._files.append(File(self._facts.unit_dir / unit, text))


def _and(names: Iterable[str]) -> str:
    return ", ".join(names)
