"""`roundhouse replay`: the journal of decisions, played again through today's planner."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roundhouse.cli.options import JsonOption

if TYPE_CHECKING:
    from roundhouse.observe.replay import Difference, Replayed


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse replay --since 1h")(replay)


def replay(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A journal, such as a copy of journal.db; else that of the configuration.", show_default=False
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only what happened in this time, such as 1h.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Whose journal it is.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Play recorded events through the planner again, and say whether it decides the same.

    Ends with 1 at the first decision that is another one. Nothing is started or stopped.
    """
    from roundhouse.cli import screen
    from roundhouse.cli.exits import FAILED, Failed
    from roundhouse.cli.matter import seconds_of
    from roundhouse.core.codec import UnreadableJournal
    from roundhouse.observe.replay import replay as play

    begin = None if since is None else time.time() - seconds_of(since, "--since")
    try:
        found = play(file if file is not None else _path(config), begin)
    except UnreadableJournal as error:
        raise Failed(f"Can't replay: {error}.") from None
    if as_json:
        screen.print_json(asdict(found))
    else:
        print(_said(found))
    if found.difference is not None:
        raise typer.Exit(FAILED)


def _path(config: Path | None) -> Path:
    from roundhouse.cli.serve import read_config

    return read_config(config).state_dir / "journal.db"


def _said(found: Replayed) -> str:
    what = f"{found.events} events, {found.decisions} decisions"
    span = f" from {_time(found.begun)} to {_time(found.ended)}" if found.begun and found.ended else ""
    if found.difference is None:
        return f"{what}{span}: all the same."
    return f"{what}{span}, then the first difference.\n{_different(found.difference)}"


def _different(found: Difference) -> str:
    import json

    from roundhouse.cli.screen import clean

    rows = {"event": found.event, "recorded": found.recorded, "now": found.now}
    told = [f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in rows.items()]
    return clean(f"At {_time(found.at)}, event {found.number}:\n") + "\n".join(clean(line) for line in told)


def _time(at: float) -> str:
    from datetime import datetime

    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"
