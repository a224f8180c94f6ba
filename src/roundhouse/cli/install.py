"""`roundhouse install` and `roundhouse uninstall`: as a systemd service, and back."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundhouse.cli.exits import Failed, Refused, Usage
from roundhouse.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.app.install.service import Prepared

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

NameOption = Annotated[str, typer.Option("--name", help="Name of the service, such as model-router.")]
UserOption = Annotated[bool, typer.Option("--user", help="A service of your own (systemctl --user); needs no root.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog="Example: roundhouse install --dry-run")(install)
    app.command(epilog="Example: roundhouse uninstall --name roundhouse")(uninstall)


def install(
    config: ConfigOption = None,
    name: NameOption = "roundhouse",
    run_as: Annotated[
        str | None,
        typer.Option(help="User that it runs as; default: the owner of the start scripts, else who called sudo."),
    ] = None,
    user: UserOption = False,
    engine_units: Annotated[
        bool, typer.Option("--engine-units", help="Write units that the configuration names and that are missing.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show files and commands; change nothing.")] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Start it and wait until it answers.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Write over files of others (kept) and of yours.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Install Roundhouse as a systemd service that starts at boot and never refuses a connection over a restart.

    It writes the service, its socket, and, for engines that run as units of their own, what lets it start and stop
    them without being root. Run it again after the configuration has changed. Nothing of yours is written over.
    """
    from roundhouse.app.install import service
    from roundhouse.app.install.facts import Request
    from roundhouse.app.install.problems import Forbidden
    from roundhouse.cli.screen import err
    from roundhouse.cli.serve import url_of
    from roundhouse.config.load import find

    _check_name(name)
    if user and run_as:
        raise Usage("--run-as goes with a service of the system; a service of your own (--user) runs as you.")
    if not dry_run and not service.may_install(user=user):
        raise Refused(f"A service of the system needs root: {_with_sudo(find(config, os.environ))}")
    try:
        request = Request(name, find(config, os.environ).absolute(), run_as, user, engine_units)
        prepared = service.prepare(request, os.environ)
        if dry_run:
            _show(prepared, start=start, as_json=as_json)
            return
        remarks = service.install(prepared, force=force, start=start)
        url = url_of(prepared.config)
        if start:
            with err().status(f"waiting for {url}"):
                service.wait_until_it_answers(prepared)
    except Forbidden as error:
        raise Refused(error.message) from None
    _tell(prepared, [*prepared.plan.remarks, *remarks], url if start else None, as_json=as_json)


def uninstall(name: NameOption = "roundhouse", user: UserOption = False, as_json: JsonOption = False) -> None:
    """Stop the service and its engines, and remove exactly what `roundhouse install` wrote.

    Files that were changed since are kept, and told.
    """
    from roundhouse.app.install import service
    from roundhouse.app.install.problems import Forbidden
    from roundhouse.cli.screen import print_json

    _check_name(name)
    if not service.may_install(user=user):
        raise Refused(f"A service of the system needs root: {_with_sudo(None)}")
    try:
        manifest, at = service.find_installed(name, os.environ, user=user)
        done = service.uninstall(name, manifest, at, user=user)
    except Forbidden as error:
        raise Refused(error.message) from None
    if as_json:
        lists = {"removed": [str(path) for path in done.gone], "kept": [str(path) for path in done.kept]}
        print_json({"name": name, **lists, "remarks": done.remarks})
    else:
        for path in done.gone:
            print(f"removed {path}")
        for path in done.kept:
            print(f"kept    {path}: it was changed since it was installed")
        for remark in done.remarks:
            print(remark)
    if done.kept:
        raise Failed("Some files were kept; remove them if you do not need them, then `systemctl daemon-reload`.")


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name.endswith((".service", ".socket")):
        raise Usage(f"{name!r} is no name for a service; use letters, digits and - _ . without a suffix.")


def _with_sudo(config: Path | None) -> str:
    """The line to type: sudo knows another PATH, so the interpreter is named in full."""
    words = sys.argv[1:]
    if config is not None and not {"-c", "--config"} & {word.partition("=")[0] for word in words}:
        words += ["--config", str(config.absolute())]
    return shlex.join(["sudo", sys.executable, "-m", "roundhouse", *words])


def _files(prepared: Prepared) -> Iterator[dict[str, Any]]:
    for file, state in prepared.states.items():
        yield {"path": str(file.path), "state": str(state), "text": file.text}


def _show(prepared: Prepared, *, start: bool, as_json: bool) -> None:
    """What would be done."""
    from roundhouse.cli.screen import print_json

    commands = prepared.commands if start else prepared.commands[:-1]
    if as_json:
        told = {"name": prepared.request.name, "dry_run": True, "files": list(_files(prepared))}
        print_json({**told, "commands": commands, "remarks": list(prepared.plan.remarks)})
        return
    for file in _files(prepared):
        print(f"==> {file['path']} ({file['state']})\n{file['text']}")
    for command in commands:
        print(f"$ {shlex.join(command)}")
    _remark(prepared.plan.remarks)


def _tell(prepared: Prepared, remarks: list[str], url: str | None, *, as_json: bool) -> None:
    """What was done."""
    from roundhouse.cli.screen import print_json

    unit = f"{prepared.request.name}.service"
    if as_json:
        files = [{"path": file["path"], "state": file["state"]} for file in _files(prepared)]
        print_json({"name": prepared.request.name, "dry_run": False, "files": files, "remarks": remarks, "url": url})
        return
    for file in _files(prepared):
        print(f"{file['state']:<10}{file['path']}")
    _remark(remarks)
    if url is None:
        print(f"{unit} is installed. Start it: {' '.join(prepared.systemctl.argv('start', unit))}")
    else:
        print(f"{unit} answers on {url}; Open WebUI: {url}/v1")


def _remark(remarks: tuple[str, ...] | list[str]) -> None:
    from roundhouse.cli.screen import err

    for remark in remarks:
        err().print(f"note: {remark}")
