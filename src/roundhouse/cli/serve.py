"""`roundhouse serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from roundhouse.config.models import Config

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file; default: searched for.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse serve --config roundhouse.yaml")(serve)


def serve(
    config: ConfigOption = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve the configured models until stopped."""
    from roundhouse.app.serve import serve as run
    from roundhouse.observe.log import configure

    found = read_config(config)
    configure(level=log_level)
    for warning in found.warnings:
        print(f"roundhouse: {warning}", file=sys.stderr)
    run(found)


def read_config(explicit: Path | None) -> Config:
    """The configuration, found or named. Raises ConfigError."""
    from roundhouse.config.load import find, load

    return load(find(explicit, os.environ), os.environ)
