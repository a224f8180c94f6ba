"""`roundhouse models`: what there is to ask for, what could be, and whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from roundhouse.cli import discover, edit, fitting, pull
from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.text import Text


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        help="Models: those served, those on this machine, those on Hugging Face.", no_args_is_help=True
    )
    group.command("list", epilog="Example: roundhouse models list --json | jq -r '.[].id'")(list_models)
    discover.register(group)
    fitting.register(group)
    pull.register(group)
    edit.register(group)
    app.add_typer(group, name="models")


def list_models(url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List the models of a running Roundhouse, loaded or not."""
    from roundhouse.cli import screen
    from roundhouse.cli.client import Client

    found = Client(url, key).get("/v1/models")["data"]
    if as_json:
        screen.print_json(found)
        return
    names = ("MODEL", "STATE", "ENGINE", "KIND", "CONTEXT", "QUANT", "SIZE", "ALIASES")
    screen.out().print(screen.table(names, _rows(found), ("CONTEXT", "SIZE")))


def _rows(models: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str | Text, ...]]:
    from roundhouse.cli import screen

    for model in models:
        yield (
            model["id"],
            screen.state(model["status"]["value"]),
            model.get("engine") or ("any of " + ", ".join(model["any_of"]) if model.get("any_of") else ""),
            model.get("kind") or "",
            str(model.get("context_length") or ""),
            model.get("quantization") or "",
            screen.size(model.get("size") or None),
            ", ".join(model.get("aliases") or ()),
        )
