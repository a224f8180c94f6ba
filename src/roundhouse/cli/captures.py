"""`roundhouse captures`: what was kept of the bodies of requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import quote

import typer

from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="Bodies of requests and answers, if `captures.store` keeps them.", no_args_is_help=True)
    group.command("list", epilog="Example: roundhouse captures list")(list_captures)
    group.command("show", epilog="Example: roundhouse captures show req-5f1c2a77-3")(show)
    app.add_typer(group, name="captures")


def list_captures(url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List requests whose bodies were kept, newest first."""
    from roundhouse.cli import screen
    from roundhouse.cli.client import Client

    found = Client(url, key).get("/api/v1/captures")["captures"]
    if as_json:
        screen.print_json(found)
        return
    rows = [
        (
            f"{datetime.fromtimestamp(one['at']).astimezone():%Y-%m-%d %H:%M:%S}",
            *(screen.clean(one[name]) for name in ("id", "model", "key")),
            *(str(one[name]) for name in ("status", "request_bytes", "answer_bytes")),
        )
        for one in found
    ]
    names = ("TIME", "ID", "MODEL", "KEY", "STATUS", "REQUEST", "ANSWER")
    screen.out().print(screen.table(names, rows, names[4:]))


def show(
    request: Annotated[str, typer.Argument(metavar="ID", help="The request's id.", show_default=False)],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was kept of a request's body and of its answer's."""
    from roundhouse.cli import screen
    from roundhouse.cli.client import Client

    found = Client(url, key).get(f"/api/v1/requests/{quote(request, safe='')}/capture")
    if as_json:
        screen.print_json(found)
        return
    for name in ("request", "answer"):
        cut = " (cut)" if found[f"{name}_bytes"] > len(found[name].encode()) else ""
        print(f"--- {name}, {found[f'{name}_bytes']} bytes{cut}\n{screen.clean(found[name])}")
