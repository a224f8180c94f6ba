"""`roundhouse check`: is the configuration right, and what will each model be run as."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from roundhouse.cli.exits import USAGE
from roundhouse.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from roundhouse.app.advice import Advice
    from roundhouse.cli.preview import Preview
    from roundhouse.config.models import Config

SAME = "`args` decide the rest, or this version or place has no use for it"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse check --config roundhouse.yaml")(check)


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the configuration, and show what each model will be run as.

    Exits with 2 if the file is wrong. A model that can't be loaded just now (a missing file, no engine) is told, and is
    no error: everything else can be served.
    """
    from roundhouse.app.doctor.models import advice_about
    from roundhouse.cli.preview import preview
    from roundhouse.cli.screen import err, out, print_json
    from roundhouse.cli.serve import read_config, secrets_of
    from roundhouse.config.later import not_yet
    from roundhouse.errors import ConfigError

    try:
        found = read_config(config)
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"ok": False, "errors": error.message.splitlines()})
        raise typer.Exit(USAGE) from None
    with err().status("looking at models and engines"):
        models = preview(found, secrets_of(found))
        advice = {model.id: advice_about(model) for model in found.models.values()}
    warnings = (*found.warnings, *not_yet(found))
    if as_json:
        print_json(
            {
                "ok": True,
                "source": str(found.source),
                "listen": list(found.listen),
                "warnings": list(warnings),
                "models": [asdict(model) | {"advice": [str(piece) for piece in advice[model.id]]} for model in models],
            }
        )
        return
    _print(out(), found, models, advice, warnings)


def _print(
    console: Console,
    config: Config,
    models: Sequence[Preview],
    advice: Mapping[str, Sequence[Advice]],
    warnings: Sequence[str],
) -> None:
    said: dict[str, str] = {}
    for model in models:
        console.print(model.id, style="bold")
        for name, text in facts(model):
            console.print(f"  {name:<9}{text}", soft_wrap=True)
        for problem in model.problems:
            first = said.setdefault(problem, model.id)
            text = problem if first == model.id else f"the same as with {first}"
            console.print(f"  {'problem':<9}{text}", style="red", soft_wrap=True)
        for piece in advice[model.id]:
            console.print(f"  {'advice':<9}{piece}", style="yellow" if piece.grave else "", soft_wrap=True)
        console.print()
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    bad = sum(bool(model.problems) for model in models)
    verdict = f"{bad} of them can't be loaded as things are" if bad else "all can be loaded"
    count = "1 model" if len(models) == 1 else f"{len(models)} models"
    verdict = "name some under `models:`, or set `models_dir:`" if not models else verdict
    console.print(
        f"{config.source} is right: {count if models else 'no models'}; {verdict}.", style="bold", soft_wrap=True
    )


def facts(model: Preview, *, memory: bool = True) -> Iterator[tuple[str, str]]:
    """Name and text of each line about a model, with or without that about memory."""
    if model.engine:
        yield "engine", f"{model.engine}, launcher {model.launcher}"
    if model.runs:
        yield "runs", model.runs
    if model.memory and memory:
        places = [_claimed(place) for place in (model.memory, *model.elsewhere)]
        yield "memory", "about " + "; or ".join(places)
    if model.context or model.slots:
        context = f"{model.context} tokens" if model.context else "as the engine decides"
        yield "context", f"{context}; {f'{model.slots} at once' if model.slots else 'as many at once as it takes'}"
    if model.conversations:
        yield "chats", model.conversations
    if model.file:
        yield "file", ", ".join(_file(model.file))
    if model.profile and (model.choices or (model.profile != "balanced" and not model.problems)):
        plain = model.profile != "balanced" and model.as_balanced
        yield "profile", f"{model.profile}, here the same as balanced: {SAME}" if plain else model.profile
    for choice in model.choices:
        yield "", f"{choice.words}: {choice.buys}; costs: {choice.costs}"


def _claimed(memory: Mapping[str, int]) -> str:
    from roundhouse.cli.screen import size

    return ", ".join(f"{size(count)} on {name}" for name, count in memory.items())


def _file(told: Mapping[str, str | int]) -> Iterator[str]:
    from roundhouse.cli.screen import size

    for name, value in told.items():
        if name == "weights":
            yield size(int(value))
        elif name == "context":
            yield f"trained for {value} tokens"
        else:
            yield str(value)
