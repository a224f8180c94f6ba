"""`roundhouse doctor`: what keeps models from loading on this machine, and what to do about each thing."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from roundhouse.cli.exits import DONE, FAILED, USAGE, Usage
from roundhouse.cli.options import ConfigOption, JsonOption, KeyOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.config.models import Config

MARKS = {"ok": ("✓", "green"), "note": ("·", ""), "warning": ("!", "yellow"), "error": ("✗", "red")}
"""Sign and colour by severity."""

FixOption = Annotated[
    bool, typer.Option("--fix", help="End stray engines of ours, and remove what dead keepers left; nothing else.")
]
EndOption = Annotated[
    list[int] | None,
    typer.Option(
        "--end-pid",
        help="With --fix: also end this process, whosever it is, if it listens on a port of ours. May be repeated.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse doctor --json | jq '.[] | select(.severity == \"error\")'")(doctor)


def doctor(
    config: ConfigOption = None,
    fix: FixOption = False,
    end_pid: EndOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for everything that keeps models from loading, each with its remedy; Roundhouse may run or not.

    Exits with 0 when there is no error, with 1 when there is one, with 2 when the configuration can't be used. Changes
    nothing without --fix, and ends no process that Roundhouse did not start unless --end-pid names it.
    """
    from roundhouse.cli.screen import err, print_json

    if end_pid and not fix:
        raise Usage("--end-pid goes with --fix, so that no process is ended by accident.")
    with err().status("looking at this machine; an engine's program may be tried"):
        findings, code = _findings(config, key, end_pid or (), fix=fix)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if code != DONE:
        raise typer.Exit(code)


def _findings(config: ConfigOption, key: str | None, pids: Sequence[int], *, fix: bool) -> tuple[list[Finding], int]:
    """All that was found and done, and the exit code."""
    from roundhouse.app.doctor import examine
    from roundhouse.cli.serve import read_config, secrets_of
    from roundhouse.errors import ConfigError

    try:
        found = read_config(config)
    except ConfigError as problem:
        return _without_configuration(problem), USAGE
    visit = _visit(found, key)
    findings = [*(_fixed(visit, pids) if fix else ()), *examine(visit)]
    secrets = secrets_of(found)
    shown = [replace(finding, what=secrets.text(finding.what)) for finding in findings]
    return shown, FAILED if any(finding.severity == "error" for finding in shown) else DONE


def _visit(config: Config, key: str | None) -> Visit:
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.cli.client import Client
    from roundhouse.cli.serve import url_of

    return Visit(config, os.environ, Client(url_of(config), key).get)


def _without_configuration(problem: Exception) -> list[Finding]:
    """What is wrong with it, and what can be looked at all the same."""
    from roundhouse.app.doctor import examine, gpus
    from roundhouse.app.doctor.finding import Finding, Severity
    from roundhouse.config.models import Config

    remedy = "correct the file, then `roundhouse check`"
    lines = [line for line in str(problem).splitlines() if line.strip()]
    told = [Finding(Severity.ERROR, "", line, remedy, "configuration") for line in lines]
    return [*told, *examine(_visit(Config(), None), {"gpus": gpus.check})]


def _fixed(visit: Visit, pids: Sequence[int]) -> list[Finding]:
    from roundhouse.app.doctor.repair import end, repair

    done = [*repair(visit), *(end(visit, pid) for pid in pids)]
    return [replace(finding, check="fixed") for finding in done]


def _print(findings: Sequence[Finding]) -> None:
    from roundhouse.cli.screen import clean, out

    console = out()
    for check, group in groupby(findings, key=lambda finding: finding.check):
        console.print(check, style="bold")
        for finding in group:
            mark, style = MARKS[finding.severity]
            about = f"{finding.about}: " if finding.about else ""
            console.print(f"  {mark} {clean(about + finding.what)}", style=style, soft_wrap=True)
            if finding.remedy:
                console.print(f"      → {clean(finding.remedy)}", soft_wrap=True)
        console.print()
    console.print(_verdict(findings), style="bold", soft_wrap=True)


def _verdict(findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    if not errors and not warnings:
        return "Nothing is wrong."
    return f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}."


def _counted(number: int, name: str) -> str:
    return f"{number or 'no'} {name}{'' if number == 1 else 's'}"
