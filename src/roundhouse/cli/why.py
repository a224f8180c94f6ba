"""`roundhouse why`: why a request waited, or a model came or went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Mapping


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Example: roundhouse why req-5f1c2a77-3   (x-request-id of the answer), or: roundhouse why qwen3"
    )(why)


def why(
    what: Annotated[str, typer.Argument(metavar="ID|MODEL", help="A request's id, or a model.", show_default=False)],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Whose history to read while Roundhouse does not run.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell why a request waited, was moved or refused; or why a model is loaded, left, or does not come.

    Asks the running Roundhouse; while none runs, its history is read.
    """
    from roundhouse.cli import screen
    from roundhouse.cli.exits import NotRunning

    try:
        told = _ask(what, url, key)
    except NotRunning:
        told = _remembered(what, config)
    if as_json:
        screen.print_json(told)
    else:
        _print(told)


def _ask(what: str, url: str, key: str | None) -> dict[str, Any]:
    """From the running Roundhouse: a request of that id, else a model of that name."""
    from roundhouse.cli.client import Client, model_path
    from roundhouse.cli.exits import Refused

    client = Client(url, key)
    try:
        return dict(client.get(f"/api/v1/requests/{quote(what, safe='')}/why"))
    except Refused as no_request:
        try:
            return dict(client.get(model_path(what, "why")))
        except Refused:
            raise no_request from None


def _remembered(what: str, config: Path | None) -> dict[str, Any]:
    """From the history file. Raises Refused, Failed."""
    from roundhouse.app.reasons import as_told
    from roundhouse.cli.exits import Failed, Refused
    from roundhouse.cli.serve import read_config
    from roundhouse.observe.past import UnreadablePast, read_why

    read = read_config(config)
    try:
        found = read_why(read.state_dir / "roundhouse.db", what)
    except UnreadablePast as error:
        raise Failed(f"Roundhouse does not run, and {error}.") from None
    if found is None:
        raise Refused(f"Roundhouse does not run, and its history knows no request and no model '{what}'.")
    return {"id": what, "model": found.model, "ended": True, "lines": as_told(found.lines)}


def _print(told: Mapping[str, Any]) -> None:
    from datetime import datetime

    from roundhouse.cli import screen

    console = screen.out()
    for line in told["lines"]:
        at = datetime.fromtimestamp(line["at"]).astimezone()
        console.print(
            f"{at:%Y-%m-%d %H:%M:%S}  {screen.clean(line['text'])}", markup=False, highlight=False, soft_wrap=True
        )
    if told.get("now"):
        console.print(screen.clean(told["now"]), markup=False, highlight=False, soft_wrap=True)
    elif not told["lines"]:
        console.print(f"Nothing is known of {screen.clean(told['model'])} yet.", markup=False)
