"""How `roundhouse simulate` tells what came of it: a progress bar, tables, sentences."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from roundhouse.cli.matter import Matter
    from roundhouse.simulate.compare import Result

AS_IT_IS = "as it is"
"""The name of the box without other devices."""
FIGURES = ("DONE", "REFUSED", "PENDING", "MEAN", "P95", "WORST WAIT", "WAITING", "SWITCHES", "LOADING")
MOST_MODELS = 8
"""Columns of the table of waits by model."""


@contextmanager
def bar(plays: int, span: float) -> Iterator[Callable[[int, float], None] | None]:
    """A progress bar for so many simulations of `span` virtual seconds, where somebody watches."""
    from roundhouse.cli.screen import err

    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=err(), transient=True) as progress:
        task = progress.add_task("simulating", total=float(plays))

        def watch(ended: int, now: float) -> None:
            progress.update(task, completed=ended + (min(1.0, now / span) if span else 0.0))

        yield watch


def sentences(results: list[Result]) -> list[str]:
    """The first policy beside each other one, and what other devices would have brought it."""
    from roundhouse.simulate.report import against, what_if

    first = results[0]
    said = [
        against(first.policy, first.figures, other.policy, other.figures)
        for other in results[1:]
        if other.box == first.box
    ]
    changed = [r for r in results if r.box != first.box and r.policy == first.policy]
    said += [what_if(r.box[0].upper() + r.box[1:], first.figures, r.figures) for r in changed]
    return said


def show(console: Console, matter: Matter, results: list[Result], said: list[str]) -> None:
    """The tables, then the sentences."""
    from roundhouse.cli.screen import table
    from roundhouse.simulate.report import spell

    console.print(matter.about, soft_wrap=True)
    for note in matter.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    for box in dict.fromkeys(result.box for result in results):
        console.print()
        if box != AS_IT_IS:
            console.print(f"{box}:", style="bold")
        here = [result for result in results if result.box == box]
        console.print(table(("POLICY", *FIGURES), [_row(result) for result in here], FIGURES))
        models = sorted({m for r in here for m in r.figures.models}, key=lambda m: -max(_wait(r, m) for r in here))
        if len(models) > 1:
            names = tuple(sorted(models[:MOST_MODELS]))
            rows = [(result.policy, *(spell(_wait(result, name)) for name in names)) for result in here]
            console.print()
            console.print(table(("WORST WAIT FOR", *names), rows, names))
    console.print()
    for sentence in said:
        console.print(sentence, soft_wrap=True)


def _row(result: Result) -> tuple[str, ...]:
    from roundhouse.simulate.report import spell

    found = result.figures
    counts = (f"{number:.0f}" for number in (found.done, found.refused, found.unfinished))
    times = (spell(seconds) for seconds in (found.mean, found.p95, found.worst_wait, found.waiting))
    return (result.policy, *counts, *times, f"{found.switches:.0f}", f"{found.loading:.1%}")


def _wait(result: Result, model: str) -> float:
    found = result.figures.models.get(model)
    return found.worst_wait if found is not None else 0.0
