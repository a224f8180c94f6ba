"""`roundhouse cancel`: ends a request that waits or is being answered."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse cancel req-5f1c2a77-3   (x-request-id of the answer; /ui shows it)")(cancel)


def cancel(
    request: Annotated[str, typer.Argument(metavar="ID", help="The request's id.", show_default=False)],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a request that waits or is being answered; its client gets an error. Takes an admin key.

    What ended already is refused (exit code 4).
    """
    from roundhouse.cli import screen
    from roundhouse.cli.client import Client

    found = Client(url, key).post(f"/api/v1/requests/{quote(request, safe='')}/cancel")
    if as_json:
        screen.print_json(found)
        return
    was = "was waiting for" if found["cancelled"] == "waiting" else "was being answered by"
    print(screen.clean(f"{found['id']} is cancelled; it {was} {found['model']}."))
