"""The texts that Roundhouse lays down for a unit: its start file, its drop-in, and the names they go by. Pure.

A unit's own `ExecStart` and `Environment` can be read by every user over D-Bus; so command and environment stand in a
start file that only its user reads, and the unit runs `/bin/sh FILE`. It is not executed itself: Debian and Ubuntu
mount /run with noexec.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import TYPE_CHECKING

from roundhouse.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SHELL = "/bin/sh"
START_FILE = "/run/roundhouse/units/%N/start"
"""Where a unit's start file lies for a Roundhouse that is a service of its own; %N is systemd's (systemd.unit(5))."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LONGEST_NAME = 255  # bytes of a unit's name (systemd.unit(5))
_SUFFIXES = (".service", ".scope", ".slice", ".socket", ".target", ".mount", ".timer", ".path", ".swap", ".device")


def start_text(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | None, pipe: Path | None = None, about: str = ""
) -> str:
    r"""A POSIX shell script that becomes `argv` (by exec, so that the unit's main process is the engine).

    Args:
        argv: program and arguments.
        env: exported first.
        cwd: working folder; None leaves the unit's.
        pipe: a FIFO. Output then goes through it to a helper that ends lines at `\r` too, as journald does not:
            progress bars would come as one line when all is over. Without stdbuf and tr it stays as it is.
        about: what is started, for whoever reads the file.

    Raises:
        LoadFailed: a variable's name is none that a shell knows.
    """
    lines = ["# Written by Roundhouse for one start" + (f" of {about!r}." if about else ".")]
    for name, value in env.items():
        if not _VARIABLE.match(name):
            raise LoadFailed(f"{name!r} can't be the name of an environment variable under systemd; correct `env:`")
        lines.append(f"export {name}={shlex.quote(value)}")
    if cwd is not None:
        lines.append(f"cd -- {shlex.quote(cwd)} || exit 200")  # as systemd says that of its WorkingDirectory
    if pipe is not None:
        lines.append(_through(shlex.quote(str(pipe))))
    lines.append(f"exec {shlex.join(argv)}")
    return "\n".join(lines) + "\n"


def _through(pipe: str) -> str:
    """Forked twice, so that it is no child of the engine; deaf to the unit's SIGTERM, so that last words come through.

    Deaf only once the FIFO is open: that waits for a writer, who may never come. It ends when the last writer has.
    """
    return f"""\
if [ -p {pipe} ] && stdbuf -oL tr '\\r' '\\n' </dev/null >/dev/null 2>&1; then
  ( (exec <{pipe}; trap '' HUP INT TERM; exec stdbuf -oL tr '\\r' '\\n') & )
  exec >{pipe} 2>&1
fi"""


def drop_in_text(start: str = START_FILE) -> str:
    """A drop-in by which a unit runs a start file; `start` as unit files take it (`exec_word`), specifiers included.

    What the unit says itself stays otherwise: its user, its folder, its limits, its environment.
    """
    return f"""\
[Unit]
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=
ExecStart=:{SHELL} {start}
KillMode=control-group
Restart=no
RemainAfterExit=no
WatchdogSec=0
StandardOutput=journal
StandardError=inherit
SyslogIdentifier=%N
"""


def exec_word(text: str) -> str:
    """One word of an `ExecStart=:` line that means `text` itself (systemd.syntax(7), systemd.unit(5))."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'


def unit_name(name: str) -> str:
    """A unit's full name: `sglang` is `sglang.service`, as for systemctl."""
    return name if name.endswith(_SUFFIXES) else f"{name}.service"


def folder_name(unit: str) -> str:
    """The name of a unit's folder: what systemd puts for %N."""
    return unit.rpartition(".")[0]


def transient_name(install: str, model: str) -> str:
    r"""The unit of a model that has none: what no unit's name has is written `\xNN`, as by systemd-escape(1)."""
    head, tail = f"roundhouse-{install[:8]}-", ".service"
    escaped = "".join(_escaped(char) for char in model)
    if len(head + escaped + tail) > _LONGEST_NAME:
        mark = hashlib.sha256(model.encode()).hexdigest()[:16]
        escaped = f"{escaped[: _LONGEST_NAME - len(head + mark + tail) - 1]}-{mark}"
    return head + escaped + tail


def _escaped(char: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.:-]", char):
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
