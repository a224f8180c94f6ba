"""`roundhouse serve`: the program itself, until a signal ends it."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundhouse.cli.options import ConfigOption

if TYPE_CHECKING:
    from roundhouse.config.models import Config
    from roundhouse.observe.redact import Secrets

ANYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not bound to
"""What to type on this machine for an address that means every interface."""


class Level(StrEnum):
    """How grave an event is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse serve --config roundhouse.yaml")(serve)


def serve(
    config: ConfigOption = None,
    log_level: Annotated[Level, typer.Option(help="The least grave events that are logged.")] = Level.INFO,
) -> None:
    """Serve the configured models until stopped (Ctrl-C or SIGTERM)."""
    from roundhouse.app.serve import serve as run
    from roundhouse.observe.log import configure

    found = read_config(config)
    secrets = secrets_of(found)
    configure(log_level.value, secrets=secrets)
    warn(found)
    run(found, lambda _house: print(greeting(found), file=sys.stderr, flush=True), secrets)


def read_config(explicit: Path | None) -> Config:
    """The configuration, found or named. Raises ConfigError."""
    from roundhouse.config.load import find, load

    return load(find(explicit, os.environ), os.environ)


def secrets_of(config: Config) -> Secrets:
    """The engines' keys, which must never be shown (spec F4)."""
    from roundhouse.observe.redact import Secrets

    secrets = Secrets()
    secrets.add(*(model.api_key.get_secret_value() for model in config.models.values() if model.api_key))
    return secrets


def warn(config: Config) -> None:
    """Says on stderr what is odd about the configuration, and what of it has no effect yet."""
    from roundhouse.config.later import not_yet

    for warning in (*config.warnings, *not_yet(config)):
        print(f"roundhouse: {warning}", file=sys.stderr)


def greeting(config: Config) -> str:
    """What is said once the port is open."""
    url = url_of(config)
    count = len(config.models)
    models = "1 model" if count == 1 else f"{count} models"
    return f"serving on {url} — {models}; Open WebUI: {url}/v1"


def url_of(config: Config) -> str:
    """Where to reach it from this machine."""
    host, _, port = config.listen[0].rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    return f"{'https' if config.tls else 'http'}://{ANYWHERE.get(bare, host)}:{port}"
