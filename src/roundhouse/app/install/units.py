"""Texts of unit files: the router's service and socket, and units for engines. Pure; knows no machine.

Directives are those of systemd.exec(5), systemd.service(5) and systemd.socket(5), tried on version 252.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MARK = "Written by roundhouse install"
"""Stands in the first line of every file that we write."""
WATCHDOG = 30
"""Seconds of silence after which systemd takes the router for hung."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a system service runs as; `groups` are supplementary ones that exist on the machine."""

    user: str
    group: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Router:
    """What the router's unit files say.

    Attributes:
        name: of the units, without a suffix.
        argv: the program, its path absolute.
        listen: addresses as `ListenStream=` takes them.
        account: who it runs as; None in a user's own manager.
        environment: variables of the service.
        environment_file: a file with more of them, which need not exist.
        children: whether engines may be its child processes, which inherit all its limits.
        any_host: whether it listens on an address that may come up later than the service.
        stop_limit: seconds that its end may take.
    """

    name: str
    argv: tuple[str, ...]
    listen: tuple[str, ...]
    account: Account | None
    environment: Mapping[str, str]
    environment_file: Path
    children: bool
    any_host: bool
    stop_limit: float


def socket_text(router: Router) -> str:
    """The socket unit: it holds the port, so that a restart of the service refuses nobody."""
    lines = [
        f"# {MARK}. It writes it anew when run again; changes of your own: systemctl edit {router.name}.socket",
        "[Unit]",
        f"Description=Port of Roundhouse ({router.name})",
        "",
        "[Socket]",
        *(f"ListenStream={address}" for address in router.listen),
        "# [::] is IPv6 alone, so that 0.0.0.0 may stand beside it",
        "BindIPv6Only=ipv6-only",
    ]
    if router.any_host:
        lines += ["# the address may come up after this", "FreeBind=yes"]
    return _text([*lines, "", "[Install]", "WantedBy=sockets.target"])


def service_text(router: Router) -> str:
    """The service unit."""
    unit, manager = router.name, "systemctl --user" if router.account is None else "systemctl"
    lines = [
        f"# {MARK}. It writes it anew when run again; changes of your own: {manager} edit {unit}.service",
        "[Unit]",
        f"Description=Roundhouse, one endpoint for local models ({unit})",
        f"Requires={unit}.socket",
        f"After={unit}.socket network.target",
        "# a crash loop ends some time; systemctl reset-failed begins anew",
        "StartLimitIntervalSec=2min",
        "StartLimitBurst=20",
        "",
        "[Service]",
        "Type=notify",
        "ExecReload=/bin/kill -HUP $MAINPID",
        f"ExecStart={command_line(router.argv)}",
        "# told to stop, not to restart: the port closes too, else the next client would start it again",
        _closes_port(router, manager),
        *_account(router.account),
        "# a missing home folder is no reason not to start",
        "WorkingDirectory=-~",
        *(f"Environment={quoted(f'{name}={value}')}" for name, value in router.environment.items()),
        "# variables that the configuration refers to as ${NAME}; it need not exist",
        f"EnvironmentFile=-{str(router.environment_file).replace('%', '%%')}",
        "",
        "Restart=on-failure",
        "RestartSec=500ms",
        "# a wrong configuration does not get right by starting again",
        "RestartPreventExitStatus=2",
        "# a hung router is killed and started again; its engines stay",
        f"WatchdogSec={WATCHDOG}",
        "TimeoutStartSec=2min",
        "# running answers, then engines, may take so long to end",
        f"TimeoutStopSec={router.stop_limit:.0f}",
        "# engines and their keepers outlive a restart, and are taken over after it",
        "KillMode=process",
        "# an engine out of memory does not take the router with it",
        "OOMPolicy=continue",
        *_folders(router.account),
        "# one connection or more per request",
        "LimitNOFILE=65536",
        *_hardening(router),
        "",
        "[Install]",
        f"WantedBy={'default' if router.account is None else 'multi-user'}.target",
        f"Also={unit}.socket",
    ]
    return _text(lines)


def engine_text(unit: str, account: Account, command: Sequence[str], cwd: Path | None = None) -> str:
    """A unit that runs an engine: minimal, started by the router only."""
    lines = [
        f"# {MARK}. It writes it anew when run again; changes of your own: systemctl edit {unit}",
        "[Unit]",
        f"Description=Engine of Roundhouse ({unit.removesuffix('.service')})",
        "",
        "[Service]",
        *_account(account),
        *([f"WorkingDirectory={str(cwd).replace('%', '%%')}"] if cwd else ["WorkingDirectory=-~"]),
        f"ExecStart={command_line(command, specifiers=True)}",
        "# whatever the engine has started ends with it",
        "KillMode=control-group",
        "TimeoutStopSec=60",
        "LimitNOFILE=65536",
        "# weights may be locked in memory",
        "LimitMEMLOCK=infinity",
    ]
    return _text(lines)


def _closes_port(router: Router, manager: str) -> str:
    """A restart is a job of another kind than a stop; only root may stop the socket of a system service ('+')."""
    jobs = f'{manager} list-jobs --no-legend {router.name}.service | grep -q " stop "'
    script = f"if {jobs}; then {manager} --no-block stop {router.name}.socket; fi"
    return f"ExecStop=-{'' if router.account is None else '+'}/bin/sh -c '{script}'"


def _account(account: Account | None) -> list[str]:
    if account is None:
        return []
    lines = [f"User={account.user}", f"Group={account.group}"]
    if account.groups:
        lines += ["# GPUs, and the engines' journal", f"SupplementaryGroups={' '.join(account.groups)}"]
    return lines


def _folders(account: Account | None) -> list[str]:
    """State and sockets. In a user's manager the program finds its own places, which other runs of it share."""
    if account is None:
        return []
    return [
        "# sockets of keepers and start files of engines stay over a restart",
        "RuntimeDirectory=roundhouse",
        "RuntimeDirectoryPreserve=yes",
        "RuntimeDirectoryMode=0700",
        "StateDirectory=roundhouse",
        "StateDirectoryMode=0750",
    ]


def _hardening(router: Router) -> list[str]:
    """Limits that what runs here can live with. A user's own manager can give none."""
    if router.account is None:
        return []
    common = [
        "",
        "# The system's own files can't be changed; homes can: models, caches and configurations of engines are there.",
        "ProtectSystem=full",
        "ProtectControlGroups=yes",
    ]
    if router.children:
        return [
            *common,
            "# Engines may run below this service and inherit its limits. So there is no NoNewPrivileges and nothing",
            "# that implies it: CUDA needs nvidia-modprobe (setuid) for its devices, rootless containers newuidmap.",
            "# No MemoryDenyWriteExecute (they compile kernels), PrivateDevices (GPUs) or PrivateTmp (sockets).",
            "LimitMEMLOCK=infinity",
        ]
    closed = [
        "# All engines run as units of their own or elsewhere, so this service needs little.",
        "NoNewPrivileges=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RestrictSUIDSGID=yes",
        "RestrictRealtime=yes",
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallErrorNumber=EPERM",
    ]
    return [*common, *closed, *([] if router.account.user == "root" else ["CapabilityBoundingSet="])]


def command_line(argv: Sequence[str], *, specifiers: bool = False) -> str:
    """Words for `ExecStart=`; `%` and `$` stand for themselves, `%` with `specifiers` for what systemd puts there."""
    return " ".join(quoted(word.replace("$", "$$"), specifiers=specifiers) for word in argv)


def quoted(word: str, *, specifiers: bool = False) -> str:
    """One word as unit files take it (systemd.syntax(7)). Raises ValueError for control characters."""
    if not word.isprintable():
        raise ValueError(f"{word!r} has characters that a unit file can't hold")
    text = word if specifiers else word.replace("%", "%%")
    if word and not set(word) & set(" \"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
