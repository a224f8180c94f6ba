"""What a start orders of systemd: whether it may be ordered, the script that runs, the settings of a unit made for it.

Looks at files, to say early and in words what can't work; changes nothing and asks nobody.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dbus_fast import Variant

from roundhouse.errors import LoadFailed
from roundhouse.launchers import strays
from roundhouse.launchers.systemd.place import is_us
from roundhouse.launchers.systemd.startfile import SHELL, folder_name, start_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.launchers.systemd.place import Places
    from roundhouse.launchers.systemd.state import UnitState
    from roundhouse.ports import Command, Tag

STOP_WITHIN = 30.0
"""Seconds from SIGTERM to SIGKILL for a transient unit that others stop."""
OOM_SCORE = 500
"""Of a transient unit: when memory runs out, the kernel rather takes an engine than anything else."""
FILES = 65536
"""Files that an engine in a transient unit may have open."""

# What systemd gave to Roundhouse alone (systemd.exec(5)); a transient unit gets the rest of our environment.
NOT_PASSED_ON = re.compile(
    r"NOTIFY_SOCKET|WATCHDOG_.*|LISTEN_.*|INVOCATION_ID|JOURNAL_STREAM|MANAGERPID|SYSTEMD_.*|CREDENTIALS_DIRECTORY"
    r"|(RUNTIME|STATE|CACHE|LOGS|CONFIGURATION)_DIRECTORY|MAINPID|EXIT_.*|SERVICE_RESULT"
)

_LOADED = {
    "not-found": "does not exist; correct `service:`, or write the unit and run `systemctl daemon-reload`",
    "masked": "is masked; `systemctl unmask` it",
    "bad-setting": "has a setting that systemd does not take; see `systemctl status` of it",
    "error": "can't be loaded; see `systemctl status` of it",
}


def check(tag: Tag, command: Command, state: UnitState, places: Places, *, user: bool) -> None:
    """Raises LoadFailed for what can be told of a unit before anything is touched."""
    if command.unit is None:
        if not user and os.geteuid() != 0:
            raise LoadFailed(
                f"{tag.model!r} can't be started in a unit of its own: the system's manager lets only root make units. "
                "Set `systemd: user`, or name a unit for it (`service:`)."
            )
        return
    if state.load != "loaded" and not (state.load == "bad-setting" and command.argv and places.drop_ins is not None):
        raise LoadFailed(f"its unit {state.id} {_LOADED.get(state.load, _LOADED['error'])}")
    if not command.argv:
        return
    if state.dynamic:
        raise LoadFailed(f"its unit {state.id} has DynamicUser=, so it can't run a start script; give it a User=")
    if places.drop_ins is None:
        _check_installed(state, places)


def _check_installed(state: UnitState, places: Places) -> None:
    """Without rights to change a unit, the drop-in of `install` must be there: it runs our start file.

    Not in a unit of another user: whoever writes its start file is that user.
    """
    start = places.of(state.id).start
    if not is_us(state.user):
        name = pwd.getpwuid(os.geteuid()).pw_name
        raise LoadFailed(
            f"its unit {state.id} runs as {state.user or 'root'}, not as the user of Roundhouse, which so may not say "
            f"what it runs. Give it User={name}, then run `sudo roundhouse install`."
        )
    if state.argv != (SHELL, str(start)):
        raise LoadFailed(
            f"its unit {state.id} does not run the start file {start}. Run `sudo roundhouse install`, which adds that, "
            "and start Roundhouse as the service that it makes."
        )


def script(tag: Tag, command: Command, install: str, environ: Mapping[str, str], pipe: Path) -> str:
    """The start file's text. A unit made by us gives the environment of Roundhouse, a named one has its own.

    Raises LoadFailed when it is plain that the program can't be run.
    """
    inherited = environ if command.unit is None else {}
    kept = {name: value for name, value in inherited.items() if _passes(name)}
    # The marks are those of the process launcher: what runs is recognised by them, however it was started.
    marks = {strays.MARKER: f"{install}:{tag.model}", strays.UNIT: "1", "SPT_NOENV": "1", "PORT": str(tag.port)}
    if command.cwd is not None and not Path(command.cwd).is_dir():
        raise LoadFailed(f"its working folder {command.cwd} does not exist, or can't be entered")
    argv = (_program(command, environ), *command.argv[1:])
    return start_text(argv, {**kept, **command.env, **marks}, command.cwd, pipe, tag.model)


def _program(command: Command, environ: Mapping[str, str]) -> str:
    """The program's path, where it can be known."""
    program = command.argv[0]
    if "/" not in program:
        found = shutil.which(program, path=command.env.get("PATH", environ.get("PATH")))
        if found is None and command.unit is None:
            raise LoadFailed(f"the program {program} was not found. Is it installed and on PATH?")
        return found or program  # a named unit may have a PATH of its own
    if not program.startswith("/") and command.cwd is None:
        return program  # in whatever folder the unit has
    path = Path(command.cwd or "/", program)
    what = "start script" if command.script else "program"
    if not path.is_file():
        raise LoadFailed(f"the {what} {path} does not exist; correct its path in the configuration")
    if not os.access(path, os.X_OK):
        raise LoadFailed(f"the {what} {path} is not executable; try `chmod +x {path}`")
    return str(path)


def _passes(name: str) -> bool:
    """Whether a variable of ours goes to an engine: not what systemd meant for us, nor what no shell could export."""
    return name.isidentifier() and name.isascii() and not NOT_PASSED_ON.fullmatch(name)


def transient_properties(model: str, unit: str, start: Path, memory_limit: int | None) -> list[list[object]]:
    """Settings as systemd.service(5) and systemd.exec(5) name them, in the types of org.freedesktop.systemd1(5).

    `memory_limit` in bytes; None for no limit.
    """
    properties = {
        "Description": Variant("s", f"Roundhouse: engine of {model}"),
        "Type": Variant("s", "exec"),
        "ExecStartEx": Variant("a(sasas)", [[SHELL, [SHELL, str(start)], ["no-env-expand"]]]),
        "KillMode": Variant("s", "control-group"),
        "Restart": Variant("s", "no"),
        "TimeoutStopUSec": Variant("t", int(STOP_WITHIN * 1e6)),
        "OOMPolicy": Variant("s", "stop"),
        "OOMScoreAdjust": Variant("i", OOM_SCORE),
        "LimitNOFILE": Variant("t", FILES),
        "StandardOutput": Variant("s", "journal"),
        "SyslogIdentifier": Variant("s", folder_name(unit)),
        "CollectMode": Variant("s", "inactive-or-failed"),
        "AddRef": Variant("b", True),
    }
    if memory_limit is not None:
        properties["MemoryMax"] = Variant("t", memory_limit)
    return [list(item) for item in properties.items()]
