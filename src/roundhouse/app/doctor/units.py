"""Named systemd units: known to the manager, not failed, and not doing Roundhouse's work beneath it (spec G4).

Asks `systemctl show`, which also answers to users who may change nothing (systemctl(1), org.freedesktop.systemd1(5)).
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.app.doctor.finding import error, note, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit

PROPERTIES = (
    *("LoadState", "LoadError", "ActiveState", "SubState", "Result", "Restart", "User", "UnitFileState", "KillMode"),
    *("NeedDaemonReload", "NRestarts", "DropInPaths"),
)
RESTARTS = frozenset({"always", "on-failure", "on-abnormal", "on-success", "on-abort", "on-watchdog"})
DROP_IN = "50-roundhouse.conf"
"""The drop-in that `roundhouse install` writes, by which a user that is not root gives a unit its start script."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that models name.

    Attributes:
        models: their ids.
        scripts: whether one of them has a start script, which has to be brought into the unit.
        of_user: whether it is of a user's manager, not of the system's.
        account: the user that runs us.
    """

    name: str
    models: tuple[str, ...]
    scripts: bool = False
    of_user: bool = False
    account: str = "root"

    @property
    def systemctl(self) -> str:
        """How its manager is called."""
        return "systemctl --user" if self.of_user else "systemctl"

    @property
    def journal(self) -> str:
        """How its log is read."""
        return f"journalctl {'--user-unit' if self.of_user else '-u'} {self.name} -n 50"


def check(visit: Visit) -> Iterator[Finding]:
    """Every unit that a model names."""
    if not visit.units:
        return
    program = visit.program("systemctl")
    if program is None:
        yield error("systemd", "Models name units, but there is no systemctl here.", "remove `service:` from them")
        return
    of_user, account = visit.config.systemd == "user", pwd.getpwuid(os.getuid()).pw_name
    for name, models in visit.units.items():
        unit = Unit(name, tuple(m.id for m in models), any(m.script for m in models), of_user, account)
        manager = "--user" if of_user else "--system"
        ran = visit.run([program, manager, "show", name, f"--property={','.join(PROPERTIES)}"])
        if ran.code != 0:
            yield error(name, f"systemd does not answer: {ran.said}", _manager_remedy(of_user=of_user))
            return
        told = dict(line.partition("=")[::2] for line in ran.text.splitlines())
        yield from judge(unit, told)


def _manager_remedy(*, of_user: bool) -> str:
    if of_user:
        return "run as the user whose manager it is (`loginctl enable-linger`), or set `systemd: system`"
    return "run where systemd is the init system, or remove `service:` from the models"


def judge(unit: Unit, told: Mapping[str, str]) -> Iterator[Finding]:
    """What a unit's properties mean for the models that name it."""
    names, state = ", ".join(unit.models), told.get("LoadState", "")
    if state == "masked":
        yield error(unit.name, f"It is masked, so {names} can't start.", f"{unit.systemctl} unmask {unit.name}")
        return
    if state != "loaded":
        reason = f" ({told['LoadError']})" if told.get("LoadError", "").strip('" ') else ""
        yield error(
            unit.name,
            f"systemd has no such unit: {state or 'unknown'}{reason}; {names} can't start.",
            "correct `service:`, or let `roundhouse install` write the unit",
        )
        return
    if told.get("ActiveState") == "failed":
        yield error(
            unit.name,
            f"It failed ({told.get('Result', 'no reason is known')}).",
            f"{unit.journal}; then {unit.systemctl} reset-failed {unit.name}",
        )
    else:
        yield ok(unit.name, f"It is {told.get('ActiveState')} ({told.get('SubState')}); for {names}.")
    yield from _habits(unit, told)
    yield from _account(unit, told)


def _habits(unit: Unit, told: Mapping[str, str]) -> Iterator[Finding]:
    """Settings of the unit that work against Roundhouse."""
    name, edit = unit.name, f"{unit.systemctl} edit {unit.name}"
    if (restart := told.get("Restart", "no")) in RESTARTS:
        what = f"Restart={restart}: systemd starts it again after a crash, while Roundhouse decides what to load next."
        yield warning(name, what, f"{edit}: Restart=no")
    if (count := told.get("NRestarts", "0")) not in {"0", ""}:
        yield warning(name, f"systemd has restarted it {count} times by itself.", unit.journal)
    if told.get("UnitFileState") in {"enabled", "enabled-runtime"}:
        what = "It is enabled: at boot it loads a model before Roundhouse is asked for one."
        yield warning(name, what, f"{unit.systemctl} disable {name}")
    if (mode := told.get("KillMode", "control-group")) in {"process", "none"}:
        what = f"KillMode={mode}: processes that the engine started outlive a stop and keep the GPU's memory."
        yield warning(name, what, f"{edit}: KillMode=mixed")
    if told.get("NeedDaemonReload") == "yes":
        yield warning(name, "Its file has changed since systemd read it.", f"{unit.systemctl} daemon-reload")


def _account(unit: Unit, told: Mapping[str, str]) -> Iterator[Finding]:
    """Whose engine it is, and whether we may give it a start script (a way to become that user, if it is another)."""
    if unit.of_user or "User" not in told:
        return
    runs_as = told["User"] or "root"
    if runs_as == "root":
        yield note(unit.name, "Its engine runs as root.", f"{unit.systemctl} edit {unit.name}: User=…")
    if unit.account == "root" or not unit.scripts:
        return
    if runs_as != unit.account:
        yield error(
            unit.name,
            f"It runs as {runs_as}, but we are {unit.account}, so it can't be given a model's start script.",
            f"set User={unit.account} in it, or run Roundhouse as root",
        )
    elif DROP_IN not in told.get("DropInPaths", ""):
        yield error(
            unit.name,
            "Its drop-in is missing, without which only root can give it a model's start script.",
            "sudo roundhouse install",
        )
