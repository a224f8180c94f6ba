"""An installation as a whole: prepared, done, waited for, and taken back.

Joins plan, files and systemd. Says nothing itself: what happened is returned, or told to `say` while it takes long.
"""

from __future__ import annotations

import http.client
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.app.install import carry, facts
from roundhouse.app.install.carry import Manifest, State
from roundhouse.app.install.plan import make_plan
from roundhouse.app.install.problems import Forbidden, NotDone
from roundhouse.app.install.systemctl import Systemctl
from roundhouse.config.addresses import split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.app.install.facts import Request
    from roundhouse.app.install.plan import Facts, File, Plan
    from roundhouse.config.models import Config

SYSTEM_CONFIG = Path("/etc")
ANSWERS_WITHIN = 60.0
"""Seconds from its start in which the service must answer."""
LINES = 20
"""Lines of the journal shown when it does not."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything known before anything is changed."""

    request: Request
    config: Config
    facts: Facts
    plan: Plan
    states: Mapping[File, State]
    manifest: Manifest
    manifest_at: Path
    systemctl: Systemctl

    @property
    def commands(self) -> list[list[str]]:
        """What is run after the files are written, in this order."""
        name, call = self.request.name, self.systemctl.argv
        commands = [call("daemon-reload"), call("enable", f"{name}.service", f"{name}.socket")]
        return [*commands, call("start", f"{name}.socket", f"{name}.service")]


def prepare(request: Request, environ: Mapping[str, str]) -> Prepared:
    """Looks at everything and changes nothing. Raises ConfigError, Forbidden."""
    systemctl = Systemctl(request.user)
    config, found = facts.gather(request, environ, systemctl)
    plan = make_plan(config, found)
    at = carry.manifest_path(facts.user_config(environ) if request.user else SYSTEM_CONFIG, request.name)
    manifest = carry.read_manifest(at) or Manifest()
    states = carry.compare(plan.files, manifest)
    return Prepared(request, config, found, plan, states, manifest, at, systemctl)


def install(prepared: Prepared, *, force: bool, start: bool) -> list[str]:
    """Writes the files and starts the service; returns remarks on what was done. Raises Forbidden, NotDone."""
    request, systemctl = prepared.request, prepared.systemctl
    service, socket = f"{request.name}.service", f"{request.name}.socket"
    systemctl.present()
    facts.check_access(prepared.config, prepared.facts)
    if not force:
        carry.refuse(prepared.states, f"Keep changes of your own by `{' '.join(systemctl.argv('edit', service))}`.")
    changed = {file.path.name for file, state in prepared.states.items() if state is not State.SAME}
    running = systemctl.active(service)
    if running and any(state is State.FOREIGN and f.path.name == service for f, state in prepared.states.items()):
        systemctl.do("stop", service)  # another program's service of this name, with the port
        running = False
    gone = carry.write(prepared.states, prepared.manifest, prepared.manifest_at)
    systemctl.do("daemon-reload")
    systemctl.do("enable", "--quiet", service, socket)
    remarks = [f"{path} was removed: this configuration does not need it." for path in gone]
    if request.user:
        remarks += _let_linger(prepared)
    if not start:
        return remarks
    systemctl.tries("reset-failed", service, socket)
    if running and changed & {service, socket}:
        words = ["restart", *([socket] if socket in changed else []), service]
    else:
        words = ["start", socket, service]
    try:
        systemctl.do(*words)
    except NotDone as error:
        raise _down(prepared, error.message) from None
    return remarks


def _let_linger(prepared: Prepared) -> list[str]:
    if not prepared.systemctl.linger():
        return ["It ends with your last session: ask for lingering (sudo loginctl enable-linger $USER)."]
    prepared.manifest.lingering = True
    carry.save(prepared.manifest, prepared.manifest_at)
    return []


def wait_until_it_answers(prepared: Prepared, limit: float = ANSWERS_WITHIN) -> None:
    """Returns when `GET /health` is answered. Raises NotDone with the end of the service's journal."""
    unit = f"{prepared.request.name}.service"
    deadline = time.monotonic() + limit
    while not _answers(prepared.config):
        if prepared.systemctl.failed(unit) or time.monotonic() > deadline:
            raise _down(prepared, "It does not answer.")
        time.sleep(0.1)


def _down(prepared: Prepared, why: str) -> NotDone:
    """The service is there and does not run: the end of its journal, and what to do."""
    unit = f"{prepared.request.name}.service"
    lines = "\n".join(f"  {line}" for line in prepared.systemctl.last_lines(unit, LINES))
    see = "journalctl --user --unit" if prepared.request.user else "journalctl --unit"
    again = " ".join(prepared.systemctl.argv("restart", unit))
    return NotDone(
        f"{unit} is installed, but does not come up. {why}\nIts last lines:\n{lines}\nAll of them: {see} {unit}. Put "
        f"it right, then: {again}"
    )


def _answers(config: Config) -> bool:
    host, port = split(config.listen[0])
    reach = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- compared with
    if config.tls:
        # Only whether it answers: its certificate names another host than this one.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(reach, port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection(reach, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Removed:
    """What `uninstall` did: files that are gone, that were changed by hand and stay, and remarks."""

    gone: list[Path]
    kept: list[Path]
    remarks: list[str]


def find_installed(name: str, environ: Mapping[str, str], *, user: bool) -> tuple[Manifest, Path]:
    """The manifest of an installation. Raises Forbidden when there is none."""
    folder = facts.user_config(environ) if user else SYSTEM_CONFIG
    at = carry.manifest_path(folder, name)
    manifest = carry.read_manifest(at)
    if manifest is None:
        others = sorted(path.name.removesuffix(".installed.json") for path in at.parent.glob("*.installed.json"))
        told = f" Installed are: {', '.join(others)}." if others else ""
        raise Forbidden(f"`roundhouse install` has installed nothing named {name!r} here ({at} is missing).{told}")
    return manifest, at


def uninstall(name: str, manifest: Manifest, at: Path, *, user: bool) -> Removed:
    """Ends the service and takes away what `install` wrote. Raises NotDone."""
    systemctl = Systemctl(user)
    systemctl.present()
    units = [f"{name}.service", f"{name}.socket"]
    systemctl.tries("disable", "--quiet", *units)
    for unit in [*reversed(units), *_engines(manifest, units)]:
        if systemctl.active(unit):
            systemctl.do("stop", unit)
    others = [path for path in at.parent.glob("*.installed.json") if path != at]
    systemctl.tries("reset-failed", *units)  # a failed unit can't be cleaned
    if not user and not others:
        systemctl.tries("clean", "--what=runtime", f"{name}.service")  # sockets and start files, kept over restarts
    gone, kept = carry.remove(manifest, at)
    systemctl.do("daemon-reload")
    remarks = [] if user else [f"History and logs stay in {facts.STATE}; remove the folder if you do not need them."]
    if manifest.lingering:
        remarks.append("Your services still run without a session; `loginctl disable-linger` ends that.")
    return Removed(gone, kept, remarks)


def _engines(manifest: Manifest, routers: list[str]) -> list[str]:
    """Units of engines that `install` wrote."""
    names = [Path(path).name for path in manifest.files]
    return [name for name in names if name.endswith(".service") and name not in routers]


def may_install(*, user: bool) -> bool:
    """Whether this process has the rights."""
    return user or os.geteuid() == 0
