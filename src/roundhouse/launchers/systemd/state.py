"""What a unit's properties say of one run of it. Pure: values in, verdicts out.

A run is known by its invocation id, which systemd makes anew for every start (systemd.exec(5)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CLD_EXITED = 1  # siginfo's si_code as in ExecMainCode: exited by itself; otherwise (killed, dumped) by a signal


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit as the manager describes it (org.freedesktop.systemd1(5)).

    Attributes:
        id: its name; other names of it are aliases.
        load: loaded | not-found | masked | bad-setting | error.
        active: active | reloading | inactive | failed | activating | deactivating.
        sub: finer, such as auto-restart.
        invocation: 32 hex digits, empty where it never ran.
        job: whether a job (start, stop, restart) waits or runs.
        pid: of the main process, 0 for none.
        code, status: how the main process ended: CLD_*, and exit code or signal. 0, 0 while it has not.
        result: success | exit-code | signal | core-dump | timeout | oom-kill | start-limit-hit | protocol ...
        restarts: how often its own `Restart=` started it again.
        argv: of its ExecStart; empty when that are several or none.
        user: it runs as; empty: as the manager does.
        dynamic: whether that user is made up at the start (DynamicUser).
        since: seconds since the epoch when its start began; 0 if it never was.
    """

    id: str
    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    invocation: str = ""
    job: bool = False
    pid: int = 0
    code: int = 0
    status: int = 0
    result: str = "success"
    restarts: int = 0
    argv: tuple[str, ...] = ()
    user: str = ""
    dynamic: bool = False
    since: float = 0.0

    @property
    def runs(self) -> bool:
        """Whether anything of it may be there."""
        return self.active not in {"inactive", "failed"}

    @property
    def settled(self) -> bool:
        """Whether it is down and stays so. A restart passes through inactive, with its job still there."""
        return not self.runs and not self.job

    def ended(self, invocation: str) -> bool:
        """Whether that run is over, whatever comes after it: nothing, a pause before `Restart=`, another run.

        `exited` is a unit with `RemainAfterExit=` whose engine is gone.
        """
        over = not self.runs or self.sub == "exited" or self.sub.startswith("auto-restart")
        return over or self.invocation != invocation

    def exit_code(self, invocation: str) -> int | None:
        """Exit code of that run's main process, minus the signal that ended it; None where it isn't known.

        A stop that needed SIGKILL has the job result 'done' all the same; this tells -9.
        """
        if self.invocation != invocation or not self.code:
            return None
        return self.status if self.code == CLD_EXITED else -self.status

    @property
    def how(self) -> str:
        """Why it failed, for people."""
        match self.result, self.code:
            case "start-limit-hit", _:
                return "it was started too often in a short time"
            case "timeout", _:
                return "it took too long"
            case "oom-kill", _:
                return "memory was exhausted"
            case "exit-code", _ if self.status in _SYSTEMD_STATUS:
                return f"{_SYSTEMD_STATUS[self.status]} (status {self.status})"
            case _, 0:
                return self.result
            case _, code if code == CLD_EXITED:
                return f"exit code {self.status}"
            case _:
                return f"killed by signal {self.status}"


_SYSTEMD_STATUS = {
    200: "its WorkingDirectory can't be entered",
    203: "its program can't be run",
    216: "its Group does not exist",
    217: "its User does not exist",
    226: "its name spaces can't be set up",
    243: "its credentials can't be read",
}
"""Exit codes by which systemd says that it could not set a process up (systemd.exec(5))."""


def read_state(properties: Mapping[str, Any]) -> UnitState:
    """The state, from the properties of the interfaces Unit and Service."""
    commands = properties.get("ExecStart", [])
    return UnitState(
        id=properties["Id"],
        load=properties["LoadState"],
        active=properties["ActiveState"],
        sub=properties["SubState"],
        invocation=bytes(properties.get("InvocationID", b"")).hex(),
        job=properties.get("Job", [0, "/"])[0] != 0,
        pid=properties.get("MainPID", 0),
        code=properties.get("ExecMainCode", 0),
        status=properties.get("ExecMainStatus", 0),
        result=properties.get("Result", "success"),
        restarts=properties.get("NRestarts", 0),
        argv=tuple(commands[0][1]) if len(commands) == 1 else (),
        user=properties.get("User", ""),
        dynamic=properties.get("DynamicUser", False),
        since=properties.get("InactiveExitTimestamp", 0) / 1e6,
    )
