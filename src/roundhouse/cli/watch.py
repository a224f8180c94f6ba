"""A progress bar fed by Roundhouse's event feed, while another call waits for a model."""

from __future__ import annotations

import json
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from roundhouse.cli.client import events
from roundhouse.cli.exits import Failed, NotRunning, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from rich.console import Console

    from roundhouse.cli.client import Client

NEARLY = 99.0
"""Most percent shown: a stage at its end is no model that is ready, and a full bar stops its clock."""


@contextmanager
def watching(client: Client, model: str, doing: str, console: Console) -> Iterator[None]:
    """Shows on a terminal how far the model is, while the body waits for it; elsewhere nothing.

    Raises:
        Refused: there is no such model.
    """
    if not console.is_terminal:
        yield
        return
    entry = client.get(f"/v1/models/{quote(model, safe='/')}")
    with _bar(console) as bar:
        shown = Shown(bar, f"{doing} {model}", {entry["id"], *entry.get("any_of", ())})
        Thread(target=_follow, args=(client, shown), name="events", daemon=True).start()
        yield


class Shown:
    """One line of progress: percent and stage of a model's load, and what happens to others to make room."""

    def __init__(self, bar: Progress, title: str, models: Collection[str]) -> None:
        self._bar = bar
        self._models = models
        self._task = bar.add_task(title, total=None, stage="")

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Shows what one event of the feed tells."""
        name = data.get("model")
        if kind == "snapshot":
            self._snapshot(data)
        elif kind == "unloading" and name not in self._models:
            self._say(None, f"making room: {name} leaves")
        elif name in self._models and kind in {"loading", "started", "unloading"}:
            self._say(None, {"loading": "starting", "started": "started"}.get(kind, "ending"))
        elif name in self._models and kind == "progress":
            self._say(data.get("fraction"), data.get("stage") or "")

    def _snapshot(self, data: Mapping[str, Any]) -> None:
        for name in self._models:
            progress = data.get("models", {}).get(name, {}).get("progress")
            if progress:
                self._say(progress.get("fraction"), progress.get("stage") or "")

    def _say(self, fraction: float | None, stage: str) -> None:
        known = fraction is not None
        done = min(NEARLY, 100 * (fraction or 0))
        self._bar.update(self._task, total=100 if known else None, completed=done, stage=stage)


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(text_format_no_percentage=""),
        TextColumn("{task.fields[stage]}", style="dim", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _follow(client: Client, shown: Shown) -> None:
    try:
        with client.open("GET", "/api/v1/events") as response:
            for kind, data in events(response):
                shown.take(kind, json.loads(data))
    except (Failed, NotRunning, Refused):
        return  # the bar goes without figures; the call that waits says what is wrong, if anything is
