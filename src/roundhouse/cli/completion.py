"""What a shell proposes for the name of a model: from the Roundhouse that runs, else from the configuration.

Called by the shell at a press of Tab: it says nothing but names, and takes no longer than a person waits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT: Final = 1.0
"""Seconds for Roundhouse to answer."""


def model_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids and aliases that begin so."""
    return _beginning(_served(ctx.params) or _configured(ctx.params), incomplete)


def configured_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the configuration that begin so."""
    return _beginning(_configured(ctx.params, aliases=False), incomplete)


def model_names_or_paths(ctx: typer.Context, incomplete: str) -> list[str]:
    """Configured ones, and files and folders here that begin so."""
    return [*_beginning(_configured(ctx.params), incomplete), *_paths(incomplete)]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def _served(params: dict[str, Any]) -> list[str]:
    """Names of a running Roundhouse; none if there is none, or it wants another key."""
    from roundhouse.cli.client import Client, read
    from roundhouse.errors import RouterError

    try:
        # The options' variables and defaults are in it, too.
        with Client(params["url"], params.get("key")).open("GET", "/v1/models", limit=LIMIT) as response:
            models = json.loads(read(response))["data"]
        return [name for model in models for name in (model["id"], *model.get("aliases", ()))]
    except (RouterError, ValueError, LookupError, TypeError):
        return []


def _configured(params: dict[str, Any], *, aliases: bool = True) -> list[str]:
    """Names of the configuration; none if there is none, or it is wrong."""
    from roundhouse.config.load import find, load
    from roundhouse.errors import ConfigError

    try:
        config = load(find(params.get("config"), os.environ), os.environ)
    except ConfigError:
        return []
    return [name for model in config.models.values() for name in (model.id, *(model.aliases if aliases else ()))]


def _paths(incomplete: str) -> list[str]:
    """As a shell does it; a folder ends with a slash, so that what is in it can follow."""
    folder, _, begin = incomplete.rpartition("/")
    base = Path(folder or ("/" if incomplete.startswith("/") else ".")).expanduser()
    lead = f"{folder}/" if "/" in incomplete else ""
    try:
        there = sorted(base.iterdir())
    except (OSError, RuntimeError):
        return []
    wanted = (one for one in there if one.name.startswith(begin) and (begin or not one.name.startswith(".")))
    return [f"{lead}{one.name}{'/' if one.is_dir() else ''}" for one in wanted]
