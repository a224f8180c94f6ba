"""`roundhouse models pull`: a model from Hugging Face, whole and checked, into a folder whose models are listed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roundhouse.cli.exits import Failed, Refused, Usage
from roundhouse.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.app.hub.fetch import Step
    from roundhouse.app.hub.offers import Offer
    from roundhouse.app.hub.source import Hub, Listing
    from roundhouse.app.places import Box
    from roundhouse.config.models import Config

AGAIN = "What has come is kept: the same command goes on from there."


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command(epilog="Example: roundhouse models pull bartowski/Qwen_Qwen3-8B-GGUF:Q4_K_M")(pull)


def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME, OWNER/NAME:QUANT or OWNER/NAME:FILE.", show_default=False)],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder for OWNER/NAME; default: the first of `models_dir`.", show_default=False),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit; default: main.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model from Hugging Face, and check what came.

    Without QUANT, lists what there is and what of it would fit into this machine's memory, if there is more than one.
    Ended in the middle, it goes on from there the next time. HF_TOKEN and HF_ENDPOINT are heeded.
    """
    from roundhouse.app.hub.problems import HubProblem, HubRefusal

    try:
        _pull(repo, to, revision, config, as_json)
    except HubProblem as error:
        raise Failed(error.message) from None
    except HubRefusal as error:
        raise Refused(error.message) from None
    except KeyboardInterrupt:
        print(f"\nStopped. {AGAIN}", file=sys.stderr)
        raise


def _pull(text: str, to: Path | None, revision: str | None, file: Path | None, as_json: bool) -> None:
    from roundhouse.app.hub import fetch, offers
    from roundhouse.app.hub.problems import NoSuchOffer
    from roundhouse.app.hub.source import Hub

    try:
        repository, choice = offers.parse(text)
    except NoSuchOffer as error:
        raise Usage(error.message) from None
    config, into = _where(file, to)
    hub = Hub()
    listing = hub.listing(repository, revision)
    found = offers.offers(repository, listing.files)
    try:
        offer = offers.choose(repository, found, choice)
    except NoSuchOffer as error:
        _tell_choices(listing, found, config, as_json)
        raise Usage(error.message) from None
    folder = into / repository
    steps = fetch.plan(offer.files, folder)
    fetch.check_space(steps, folder)
    _carry_out(hub, listing, steps)
    _tell_done(listing, offer, folder, config, as_json)


def _where(file: Path | None, to: Path | None) -> tuple[Config, Path]:
    """The configuration, and the folder for repositories. Raises ConfigError, Usage."""
    from roundhouse.cli.serve import read_config
    from roundhouse.config.models import Config
    from roundhouse.errors import ConfigError

    try:
        config = read_config(file)
    except ConfigError:
        if file is not None or to is None:
            raise
        config = Config()
    if to is None and not config.models_dir:
        raise Usage(f"{config.source} has no `models_dir`; set it, or say where to: --to FOLDER.")
    return config, (to or config.models_dir[0]).expanduser().absolute()


def _tell_choices(listing: Listing, found: Sequence[Offer], config: Config, as_json: bool) -> None:
    """What there is instead."""
    import asyncio

    from roundhouse.app.machine import box_of
    from roundhouse.cli import screen

    box = asyncio.run(box_of(config))
    if as_json:
        screen.print_json(
            {"repository": listing.repository, "commit": listing.commit, "choices": [_choice(o, box) for o in found]}
        )
    elif found:
        rows = [(o.name, screen.size(o.size), _fits(o, box), _names(o)) for o in found]
        screen.out().print(screen.table(("QUANT", "SIZE", "FITS", "FILES"), rows, ("SIZE",)))


def _choice(offer: Offer, box: Box) -> dict[str, Any]:
    from roundhouse.app.machine import room_for

    return {
        "name": offer.name,
        "model": offer.model,
        "size": offer.size,
        "fits": list(room_for(offer.size, box)),
        "files": [file.path for file in offer.files],
        "missing": list(offer.missing),
    }


def _fits(offer: Offer, box: Box) -> str:
    from roundhouse.app.machine import room_for

    if offer.missing:
        return "not whole"
    return " + ".join(room_for(offer.size, box)) or "too large"


def _names(offer: Offer) -> str:
    if not offer.lead:
        return f"{len(offer.files)} files"
    others = len(offer.files) - 1
    return offer.lead.rpartition("/")[2] + (f" and {others} more" if others else "")


def _carry_out(hub: Hub, listing: Listing, steps: Sequence[Step]) -> None:
    """Gets all files, with a bar for each on a terminal."""
    from roundhouse.app.hub.fetch import carry_out
    from roundhouse.cli.screen import err, size

    console = err()
    missing = sum(step.missing for step in steps)
    begun = sum(step.begun for step in steps if not step.done)
    there = f", {size(begun)} are there already" if begun else ""
    folder = steps[0].path.parent
    console.print(f"{listing.repository} at {listing.commit[:12]}: {size(missing)} to come{there}, into {folder}")
    if not console.is_terminal:
        carry_out(hub, listing, steps, lambda _name, _count: None)
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        tasks = {step.path.name: bar.add_task(step.path.name, total=step.file.size) for step in steps}
        carry_out(hub, listing, steps, lambda name, count: bar.update(tasks[name], completed=count))


def _tell_done(listing: Listing, offer: Offer, folder: Path, config: Config, as_json: bool) -> None:
    from roundhouse.cli import screen

    path = folder / offer.lead.rpartition("/")[2] if offer.lead else folder
    listed = any(folder.is_relative_to(place) for place in config.models_dir)
    fragment = "" if listed else _fragment(offer.model, path, listing.repository)
    if as_json:
        files = [str(folder / file.path.rpartition("/")[2]) for file in offer.files]
        screen.print_json(
            {
                "model": offer.model,
                "path": str(path),
                "files": files,
                "size": offer.size,
                "listed": listed,
                "config": fragment or None,
            }
        )
        return
    print(f"{offer.model} is whole: {path}")
    if listed:
        print(
            f"It is below `models_dir`: Roundhouse lists it as {offer.model} when it reads its configuration anew."
            f" Next: roundhouse models check {offer.model}"
        )
    else:
        add = f"roundhouse models add {shlex.quote(offer.model)} --path {shlex.quote(str(path))}"
        print(
            f"Roundhouse does not look there; to have it listed: {add}\nor write below `models:`\n\n{fragment}", end=""
        )


def _fragment(name: str, path: Path, repository: str) -> str:
    from roundhouse.config.importers.result import Entry
    from roundhouse.config.importers.writing import fragment

    return fragment({name: Entry({"path": str(path)}, repository)})
