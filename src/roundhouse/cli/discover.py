"""`roundhouse models discover`: models that are on this machine already, and what to write to have them served."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundhouse.cli.exits import Usage
from roundhouse.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.app.stores import Stored

NAMES = ("MODEL", "ENGINE", "QUANT", "SIZE", "CONTEXT", "STORE", "CONFIGURED AS", "NOTE")


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command(epilog="Example: roundhouse models discover --yaml")(discover)


def discover(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders to search; default: where Hugging Face, LM Studio and Ollama keep models.", show_default=False
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A model by its name; may be repeated.", show_default=False)
    ] = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print what to write below `models:` for those not configured.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find models that are on this machine already, and say which of them are configured.

    Nothing is copied or changed: models are used where they lie, and gone when their own program removes them.
    """
    from roundhouse.app.stores import place_of, search, usual_places
    from roundhouse.cli import screen

    if as_yaml and as_json:
        raise Usage("--yaml and --json are two ways to print the same; choose one.")
    missing = [str(folder) for folder in folders or () if not os.path.isdir(folder)]  # noqa: PTH112 -- never raises
    if missing:
        raise Usage(f"There is no folder {', '.join(missing)}.")
    places = [place_of(folder.absolute()) for folder in folders] if folders else usual_places(os.environ)
    with screen.err().status("looking at models"):
        found, warnings = search(places)
    known = _configured(config)
    chosen = _chosen(found, only)
    if as_json:
        screen.print_json(
            {
                "searched": [{"store": place.store, "folder": str(place.folder)} for place in places],
                "models": [_json(model, known) for model in chosen],
                "warnings": list(warnings),
            }
        )
        return
    if as_yaml:
        _print_yaml([model for model in chosen if model.problem is None and model.path.resolve() not in known])
    elif chosen:
        rows = [_row(model, known) for model in chosen]
        screen.out().print(screen.table(NAMES, rows, ("SIZE", "CONTEXT")))
    for warning in warnings:
        print(f"roundhouse: {screen.clean(warning)}", file=sys.stderr)
    searched = ", ".join(str(place.folder) for place in places) or "no store of another program"
    print(f"roundhouse: {len(chosen)} found; searched {searched}", file=sys.stderr)


def _configured(file: Path | None) -> dict[Path, str]:
    """Ids by path; none where there is no configuration yet. Raises ConfigError for a broken one."""
    from roundhouse.cli.serve import read_config
    from roundhouse.config.load import find
    from roundhouse.errors import ConfigError

    try:
        find(file, os.environ)
    except ConfigError:
        if file is not None:
            raise
        return {}
    return {model.path.resolve(): model.id for model in read_config(file).models.values() if model.path}


def _chosen(found: Sequence[Stored], only: Sequence[str] | None) -> list[Stored]:
    if not only:
        return list(found)
    unknown = set(only) - {model.name for model in found}
    if unknown:
        raise Usage(f"There is no {', '.join(sorted(unknown))} among the {len(found)} models found.")
    return [model for model in found if model.name in only]


def _json(model: Stored, known: dict[Path, str]) -> dict[str, Any]:
    facts = model.facts
    return {
        "name": model.name,
        "store": model.store,
        "engine": model.body.get("engine"),
        "path": str(model.path),
        "quantisation": facts.quantisation if facts else None,
        "size": facts.weights if facts else None,
        "context": facts.context if facts else None,
        "kind": facts.kind.value if facts and facts.kind else None,
        "configured": known.get(model.path.resolve()),
        "problem": model.problem,
        "config": dict(model.body),
    }


def _row(model: Stored, known: dict[Path, str]) -> tuple[str, ...]:
    from roundhouse.cli.screen import size

    facts = model.facts
    return (
        model.name,
        str(model.body.get("engine") or ""),
        (facts.quantisation or "") if facts else "",
        size(facts.weights) if facts else "",
        str(facts.context or "") if facts else "",
        model.store,
        known.get(model.path.resolve(), ""),
        model.problem or "",
    )


def _print_yaml(models: Sequence[Stored]) -> None:
    from roundhouse.config.importers.result import Entry
    from roundhouse.config.importers.writing import fragment

    if models:
        print(fragment({model.name: Entry(model.body, model.store) for model in models}), end="")
