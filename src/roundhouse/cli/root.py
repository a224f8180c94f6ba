"""The command tree, and what all commands share: how an error ends the program."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import roundhouse
from roundhouse.cli import (
    bench,
    cancel,
    captures,
    chat,
    check,
    demo,
    doctor,
    import_,
    init,
    install,
    keys,
    load,
    logs,
    models,
    reload,
    replay,
    serve,
    simulate,
    status,
    top,
    why,
)
from roundhouse.cli.exits import exit_code
from roundhouse.errors import RouterError

app = typer.Typer(
    name="roundhouse",
    help="One OpenAI-compatible endpoint in front of many local inference engines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not running, 4 refused.",
)
for group in (
    init,
    serve,
    demo,
    check,
    doctor,
    status,
    top,
    why,
    cancel,
    replay,
    captures,
    models,
    load,
    reload,
    logs,
    chat,
    bench,
    keys,
    simulate,
    install,
    import_,
):
    group.register(app)


def _version(wanted: bool) -> None:  # typer's callback form
    if wanted:
        print(f"roundhouse {roundhouse.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """One OpenAI-compatible endpoint in front of many local inference engines."""


def main() -> None:
    """Runs the command line; errors of ours become one message and an exit code, never a traceback."""
    try:
        app()
    except RouterError as error:
        print(f"roundhouse: {error.message}", file=sys.stderr)
        raise SystemExit(exit_code(error)) from None
