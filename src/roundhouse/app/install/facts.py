"""Looks at the machine for an installation: accounts, groups, units, addresses, what the service's user may read.

Changes nothing. What is found goes into `plan.Facts`; what makes an installation impossible is raised.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.app.install.plan import SYSTEM_UNITS, Facts, Unit, named_units
from roundhouse.app.install.problems import Forbidden
from roundhouse.app.install.units import MARK, Account
from roundhouse.app.sockets import PortTaken, open_sockets
from roundhouse.config.addresses import split
from roundhouse.config.load import load
from roundhouse.errors import ConfigError, RouterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from roundhouse.app.install.systemctl import Systemctl
    from roundhouse.config.models import Config

GROUPS = ("video", "render", "systemd-journal")
"""Groups that own GPU devices, and one that may read the journal."""
STATE = "/var/lib/roundhouse"
SEARCHED = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
CUDA = Path("/usr/local/cuda/bin")
"""Its compiler is what engines make kernels with."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line."""

    name: str
    config: Path
    run_as: str | None = None
    user: bool = False
    engine_units: bool = False


def user_config(environ: Mapping[str, str]) -> Path:
    """Folder of the user's configurations (XDG base directories)."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def gather(request: Request, environ: Mapping[str, str], systemctl: Systemctl) -> tuple[Config, Facts]:
    """The configuration as the service will read it, and everything else that its files depend on.

    Raises:
        ConfigError: the configuration is wrong, or uses variables that the service will not have.
        Forbidden: the service could not run like this.
    """
    path = request.config.absolute()
    if request.user:
        entry = pwd.getpwuid(os.getuid())
        own = user_config(environ)
        config = _load(path, entry, own / "roundhouse/environment", state=None)
        remarks: list[str] = []
        account = None
        folder, file = own / "systemd/user", own / "roundhouse/environment"
    else:
        file = Path("/etc/roundhouse/environment")
        entry, remarks = _user(request, path, file, environ)
        config = _load(path, entry, file, state=STATE)
        account = Account(entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name, _groups())
        folder = SYSTEM_UNITS
    listen, more = _listen(config, systemctl, request.name)
    facts = Facts(
        name=request.name,
        program=(sys.executable, "-P", "-m", "roundhouse"),
        account=account,
        listen=listen,
        environment={"PATH": _path(entry, environ)},
        environment_file=file,
        unit_dir=folder,
        existing={} if request.user else dict(_existing(named_units(config), systemctl)),
        engine_units=request.engine_units,
        pythons=_pythons(config),
        remarks=(*remarks, *more),
    )
    return config, facts


def _user(request: Request, path: Path, file: Path, environ: Mapping[str, str]) -> tuple[pwd.struct_passwd, list[str]]:
    """Who the service runs as: as asked for, else the owner of the start scripts, else who called sudo, else root."""
    if request.run_as is not None:
        return _entry(request.run_as), []
    caller = environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    config = _load(path, _entry(caller), file, state=STATE)
    for script in (model.script for model in config.models.values() if model.script):
        try:
            owner = script.stat().st_uid
        except OSError:
            continue
        if owner:
            entry = pwd.getpwuid(owner)
            return entry, [f"It runs as {entry.pw_name}, who owns {script} (--run-as chooses another user)."]
    entry = _entry(caller)
    if entry.pw_uid == 0:
        return entry, ["It runs as root, and so do its engines: --run-as USER chooses a user with fewer rights."]
    return entry, [f"It runs as {caller} (--run-as chooses another user)."]


def _entry(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"There is no user {name!r}. Make one (useradd --system {name}) or name another.") from None


def _load(path: Path, entry: pwd.struct_passwd, file: Path, *, state: str | None) -> Config:
    """The configuration with the environment that the service will have, so that `~` and `${VAR}` mean the same."""
    env = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, **_variables(file)}
    if state:
        env["STATE_DIRECTORY"] = state
    try:
        return load(path, env)
    except ConfigError as error:
        raise ConfigError(
            f"{error.message}\n(read as the service will: home {entry.pw_dir}, further variables from {file})"
        ) from None


def _variables(file: Path) -> dict[str, str]:
    """NAME=VALUE lines of an environment file, if there is one (a part of what EnvironmentFile= takes)."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in map(str.strip, lines) if "=" in line and line[0] not in "#;")
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def _groups() -> tuple[str, ...]:
    """Those of our groups that this machine has: a service with a group that does not exist can't start."""
    known = {group.gr_name for group in grp.getgrall()}
    return tuple(name for name in GROUPS if name in known)


def _path(entry: pwd.struct_passwd, environ: Mapping[str, str]) -> str:
    """Where the service looks for engines: what the caller's PATH has (sudo may have cut it), and the usual places.

    A service of root gets system folders only: whoever can write to another one would become root.
    """
    home = Path(entry.pw_dir)
    usual = [*([str(CUDA)] if os.access(CUDA, os.X_OK) else []), *SEARCHED]
    if entry.pw_uid == 0:
        return ":".join(dict.fromkeys([str(Path(sys.executable).parent), *usual]))
    own = [str(home / ".local/bin"), str(home / "bin")]
    callers = environ.get("PATH", "").split(":")
    found = [folder for folder in (*own, *callers) if folder.startswith("/") and os.access(folder, os.X_OK)]
    foreign = "/root/" if entry.pw_dir != "/root" else "\0"
    kept = [folder for folder in found if not f"{folder}/".startswith(foreign) and folder.isprintable()]
    return ":".join(dict.fromkeys([str(Path(sys.executable).parent), *kept, *usual]))


def _listen(config: Config, systemctl: Systemctl, name: str) -> tuple[tuple[str, ...], list[str]]:
    """The addresses as systemd takes them: names looked up, IPv6 left out where there is none.

    A port that is taken is told (unless it is ours already): it is still time to end that program.
    """
    remarks: list[str] = []
    wanted = [address for one in config.listen for address in _numbers(one)]
    if systemctl.active(f"{name}.socket"):
        return tuple(wanted), remarks
    usable: list[str] = []
    for address in wanted:
        try:
            # beside a second one, an address that this machine does not have is left out
            opened = open_sockets((address, "127.0.0.1:0"), {})
        except PortTaken as error:
            remarks.append(error.message + _unit_of(address))
            usable.append(address)
            continue
        except RouterError as error:
            remarks.append(f"{error.message} The service will listen there once the address exists.")
            usable.append(address)
            continue
        if len(opened) == 2:
            usable.append(address)
        else:
            remarks.append(f"{address} is left out: this machine has no such address.")
        for one in opened:
            one.close()
    return tuple(usable), remarks


def _numbers(address: str) -> list[str]:
    host, port = split(address)
    if port == 0:
        raise ConfigError(f"listen: {address} means any free port; a service needs one to be found at.")
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)  # noqa: S104 -- as `serve` has it
    except OSError as error:
        raise ConfigError(f"listen: {host} can't be looked up ({error}); write the address in figures.") from None
    family, *_, at = found[0]
    return [f"[{at[0]}]:{port}" if family is socket.AF_INET6 else f"{at[0]}:{port}"]


def _unit_of(address: str) -> str:
    """Which unit the program belongs to that listens there, with the way to end it."""
    import psutil  # noqa: PLC0415 -- only for a message

    _, port = split(address)
    try:
        pids = {
            c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"
        }
        for pid in filter(None, pids):
            last = Path(f"/proc/{pid}/cgroup").read_text("utf-8").strip().rpartition("/")[2]
            if last.endswith(".service"):
                unit = last.removesuffix(".service")
                return f" It is {last}: sudo systemctl disable --now {last}, or take its place: --name {unit} --force."
    except (OSError, psutil.Error):
        pass  # the message is as good without it
    return ""


def _existing(names: Iterable[str], systemctl: Systemctl) -> Iterator[tuple[str, Unit]]:
    for name in names:
        shown = systemctl.show(name, "LoadState", "User", "FragmentPath")
        if shown.get("LoadState") in {"not-found", None}:
            continue
        path = shown.get("FragmentPath") or ""
        yield name, Unit(_name(shown.get("User") or "root"), ours=bool(path) and is_ours(Path(path)))


def _name(user: str) -> str:
    """`User=` may be a number."""
    try:
        return pwd.getpwuid(int(user)).pw_name
    except (ValueError, KeyError):
        return user


def is_ours(path: Path) -> bool:
    """Whether `install` wrote this file."""
    try:
        with path.open("r", encoding="utf-8", errors="replace") as file:
            return MARK in file.readline()
    except OSError:
        return False


def _pythons(config: Config) -> dict[Path, str]:
    """The interpreter of each TabbyAPI checkout: as configured, its own, else the system's."""
    named = config.engines.tabbyapi.python
    found = {}
    for model in config.models.values():
        if model.tabby:
            own = model.tabby.dir / "venv/bin/python"
            found[model.tabby.dir] = (named if named and named.startswith("/") else None) or (
                str(own) if own.exists() else "/usr/bin/python3"
            )
    return found


def check_access(config: Config, facts: Facts) -> None:
    """That the service's user can run this program, read the configuration and write the state folder.

    Raises Forbidden with the remedy. Needs root, as it tries as that user.
    """
    if facts.account is None:
        return
    user, source = facts.account.user, str(config.source)
    python = facts.program[0]
    if not _works(facts.account, [python, "-P", "-c", "import roundhouse.cli"]):
        raise Forbidden(
            f"{user} can't run {python} with Roundhouse in it (a folder above it may be closed to others). Install it "
            f"where {user} can, or choose another user: --run-as."
        )
    if not _works(facts.account, ["/bin/sh", "-c", 'test -r "$0"', source]):
        raise Forbidden(
            f"{user} can't read {source}. For example: sudo install -D -m 640 -g {facts.account.group} {source} "
            f"/etc/roundhouse/config.yaml, then install with --config /etc/roundhouse/config.yaml."
        )
    state = config.state_dir
    if state != Path(STATE) and not _works(facts.account, ["/bin/sh", "-c", _WRITABLE, str(state)]):
        raise Forbidden(f"{user} can't write to state_dir, {state}. Remove it ({STATE} is used then) or chown it.")


_WRITABLE = 'd=$0; while ! test -e "$d"; do d=$(dirname "$d"); done; test -d "$d" && test -w "$d"'
"""Whether a folder can be written, or made."""


def _works(account: Account, argv: Sequence[str]) -> bool:
    entry = pwd.getpwnam(account.user)
    try:
        done = subprocess.run(  # noqa: S603 -- our own program and fixed words
            list(argv),
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=os.getgrouplist(account.user, entry.pw_gid),
            env={"PATH": ":".join(SEARCHED), "HOME": entry.pw_dir},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a program that this user can't even start
        return False
    return done.returncode == 0
