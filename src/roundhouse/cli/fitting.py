"""`roundhouse models check`: one model, or all, on this machine; before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundhouse.cli.completion import model_names_or_paths
from roundhouse.cli.exits import FAILED, Usage
from roundhouse.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from roundhouse.app.fitting import Fitting, Loading
    from roundhouse.cli.preview import Preview
    from roundhouse.config.models import Config, ModelConfig

PARTS = {
    "weights": "weights",
    "repacked": "weights once more, repacked for this CPU",
    "cache": "cache of conversations",
    "compute": "buffers",
    "program": "the program",
}


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command("check", epilog="Example: roundhouse models check smollm2-135m")(check_models)


def check_models(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Id or alias, or the path of a model; default: all that are configured.",
            show_default=False,
            autocompletion=model_names_or_paths,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether models fit this machine: where, as what they run, with how much context, how long a load takes.

    Exits with 1 if one of them does not fit, or can't be loaded for another reason. Starts nothing; Roundhouse may run
    or not.
    """
    from roundhouse.cli.screen import err, print_json

    found, models = _models(config, model)
    with err().status("looking at models and engines"):
        told = _look(found, models)
    if as_json:
        print_json([_json(preview, fitting) for preview, fitting in told])
    elif model is None:
        _print_table(told)
    else:
        _print_one(*told[0])
    if any(preview.problems for preview, _ in told):
        raise typer.Exit(FAILED)


def _models(file: Path | None, wanted: str | None) -> tuple[Config, Sequence[ModelConfig]]:
    """The configuration, and the models meant. Raises ConfigError, Usage."""
    import os

    from roundhouse.cli.serve import read_config
    from roundhouse.config.load import model_at, parse
    from roundhouse.errors import ConfigError

    path = Path(wanted).expanduser() if wanted else None
    is_path = path is not None and _is_there(path)
    try:
        config = read_config(file)
    except ConfigError:
        if file is not None or not is_path:
            raise
        config = parse("{}", Path("roundhouse.yaml"), os.environ)
    if wanted is None:
        return config, tuple(config.models.values())
    named = next((one for one in config.models.values() if wanted in {one.id, *one.aliases}), None)
    if named is not None:
        return config, (named,)
    if path is None or not is_path:
        raise Usage(_unknown(wanted, config))
    return config, (model_at(path, config, os.environ),)


def _is_there(path: Path) -> bool:
    """Also where this user may not look, which is told as its problem then."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _unknown(wanted: str, config: Config) -> str:
    from difflib import get_close_matches

    names = [name for model in config.models.values() for name in (model.id, *model.aliases)]
    near = ", ".join(get_close_matches(wanted, names)) or ", ".join(names[:8])
    return f"{config.source} has no model {wanted!r}, and there is no such path. It has: {near or 'none'}."


def _look(config: Config, models: Sequence[ModelConfig]) -> list[tuple[Preview, Fitting | None]]:
    import asyncio

    from roundhouse.app.fitting import fitting
    from roundhouse.app.machine import box_of
    from roundhouse.app.simulation import past_of
    from roundhouse.cli.preview import preview
    from roundhouse.cli.serve import secrets_of
    from roundhouse.observe.past import Past, UnreadablePast
    from roundhouse.runtime.links import Links

    try:
        past = past_of(config, 0.0)
    except UnreadablePast:
        past = Past()
    box = asyncio.run(box_of(config))
    links = Links(config.state_dir / "links.json", box.names)
    only = config.model_copy(update={"models": {model.id: model for model in models}})
    previews = preview(only, secrets_of(only), past)
    fittings = [None if model.any_of else fitting(model, box, past, links) for model in models]
    return list(zip(previews, fittings, strict=True))


def _json(preview: Preview, fitting: Fitting | None) -> dict[str, Any]:
    from dataclasses import asdict

    told = asdict(preview)
    if fitting is None:
        return told
    return told | {
        "fits": fitting.somewhere,
        "places": [
            {"memory": dict(place), "fits": fits} for place, fits in zip(fitting.places, fitting.fits, strict=True)
        ],
        "measured": fitting.measured,
        "parts": dict(fitting.parts),
        "largest_context": fitting.most,
        "largest_context_alone": fitting.most_alone,
        "loading": asdict(fitting.loading),
    }


def _print_table(told: Sequence[tuple[Preview, Fitting | None]]) -> None:
    from roundhouse.cli import screen

    rows = [_row(preview, fitting) for preview, fitting in told]
    screen.out().print(
        screen.table(
            ("MODEL", "ENGINE", "FITS", "MEMORY", "CONTEXT", "AT MOST", "LOAD", "NOTE"),
            rows,
            ("MEMORY", "CONTEXT", "AT MOST"),
        )
    )


def _row(preview: Preview, fitting: Fitting | None) -> tuple[str, ...]:
    from roundhouse.cli.screen import size

    if fitting is None:
        return preview.id, "", "", "", "", "", "", preview.runs
    place = fitting.places[fitting.fits.index(True)] if fitting.somewhere else fitting.places[0]
    return (
        preview.id,
        preview.engine or "",
        " + ".join(place) if fitting.somewhere else "no",
        size(sum(place.values())) if place else "",
        str(preview.context or ""),
        str(fitting.most or ""),
        _load_in_short(fitting.loading),
        "; ".join(problem.partition(": ")[0] for problem in preview.problems),
    )


def _print_one(preview: Preview, fitting: Fitting | None) -> None:
    from roundhouse.cli.check import facts
    from roundhouse.cli.screen import out

    console = out()
    console.print(preview.id, style="bold")
    for name, text in (*facts(preview, memory=fitting is None), *(_lines(preview, fitting) if fitting else ())):
        console.print(f"  {name:<9}{text}", soft_wrap=True)
    for problem in preview.problems:
        console.print(f"  {'problem':<9}{problem}", style="red", soft_wrap=True)


def _lines(preview: Preview, fitting: Fitting) -> Iterator[tuple[str, str]]:
    from roundhouse.cli.screen import size

    source = "as its last loads were measured" if fitting.measured else "estimated"
    for number, (place, fits) in enumerate(zip(fitting.places, fitting.fits, strict=True)):
        where = ", ".join(f"{size(count)} on {name}" for name, count in place.items())
        if where:
            yield "" if number else "fits", f"{'yes' if fits else 'no'}: {where} ({source})"
    if fitting.parts:
        told = (f"{size(count)} {PARTS.get(name, name)}" for name, count in fitting.parts.items())
        yield "estimate", ", ".join(told)
    if fitting.most is not None:
        yield "at most", _most(preview, fitting)
    yield from _load(fitting.loading)


def _most(preview: Preview, fitting: Fitting) -> str:
    slots = preview.slots or 1
    text = f"{fitting.most} tokens of context"
    if slots > 1:
        text += f" with {slots} at once"
        if fitting.most_alone != fitting.most:
            text += f", {fitting.most_alone} with `slots: 1`"
    trained = ", as it was trained for" if fitting.most == fitting.trained else f"; trained for {fitting.trained}"
    return text + trained


def _load(loading: Loading) -> Iterator[tuple[str, str]]:
    if loading.learned is not None:
        yield "load", f"{_seconds(loading.learned)} (learned, or `load_timeout.expected`)"
    if loading.disk is not None and loading.memory is not None:
        name = "load" if loading.learned is None else ""
        rates = ", ".join(f"{link} {rate / 1e9:.1f} GB/s" for link, rate in loading.rates.items())
        yield (
            name,
            f"at least {_seconds(loading.disk)} from disk, {_seconds(loading.memory)} once in memory ({rates})",
        )


def _load_in_short(loading: Loading) -> str:
    if loading.learned is not None:
        return _seconds(loading.learned)
    return "" if loading.disk is None else f"over {_seconds(loading.disk)}"


def _seconds(seconds: float) -> str:
    from roundhouse.cli.screen import duration

    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
