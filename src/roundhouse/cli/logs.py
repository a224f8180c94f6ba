"""`roundhouse logs`: what a model's engine prints."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from roundhouse.cli.exits import DONE
from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, ModelArgument, UrlOption


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse logs -f smollm2-135m")(logs)


def logs(
    model: ModelArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come; Ctrl-C ends it.")] = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the output of a model's engine: of the running one, else of the last."""
    from roundhouse.cli.client import QUICK, Client, lines, model_path
    from roundhouse.cli.screen import clean

    client = Client(url, key)
    path = model_path(model, "log") + ("?follow=1" if follow else "")
    terminal = sys.stdout.isatty()
    try:
        with client.open("GET", path, limit=None if follow else QUICK) as response:
            for line in lines(response):
                if as_json:
                    print(json.dumps({"model": model, "line": line}, ensure_ascii=False), flush=follow)
                else:
                    print(clean(line) if terminal else line, flush=follow)
    except KeyboardInterrupt:
        if not follow:
            raise
        raise typer.Exit(DONE) from None
