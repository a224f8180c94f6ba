"""What a simulation showed, in figures and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from roundhouse.simulate.world import Fate, Outcome, Stay


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """Of the requests for one model: how many were done, the mean and the worst wait of all, in seconds."""

    done: float
    mean_wait: float
    worst_wait: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one simulation, or the mean of several; times are seconds.

    Attributes:
        done: requests answered in full; refused: refused or cut; unfinished: waiting or being answered at the end.
        mean, p95: from a request's arrival to the end of its answer, of those done.
        worst_wait: the longest wait for an answer to begin, also of those still waiting at the end.
        waiting: all waits together.
        switches: models sent away to make room for another; loads: engines started.
        loading: share of the time in which a model was being loaded, 0..1.
        models: by the model that was asked for.
    """

    done: float
    refused: float
    unfinished: float
    mean: float
    p95: float
    worst_wait: float
    waiting: float
    switches: float
    loads: float
    loading: float
    models: Mapping[str, ModelFigures]


def figures(outcome: Outcome) -> Figures:
    """What one simulation comes to."""
    done = [fate for fate in outcome.fates if fate.done]
    took = sorted(fate.ended - fate.request.at for fate in done if fate.ended is not None)
    waits = [fate.waited(outcome.seconds) for fate in outcome.fates]
    by_model: dict[str, list[Fate]] = {}
    for fate in outcome.fates:
        by_model.setdefault(fate.request.model, []).append(fate)
    return Figures(
        done=len(done),
        refused=sum(bool(fate.error) for fate in outcome.fates),
        unfinished=sum(fate.ended is None for fate in outcome.fates),
        mean=fmean(took) if took else 0.0,
        p95=took[math.ceil(0.95 * len(took)) - 1] if took else 0.0,
        worst_wait=max(waits, default=0.0),
        waiting=math.fsum(waits),
        switches=sum(stay.for_room for stay in outcome.stays),
        loads=len(outcome.stays),
        loading=_loading(outcome.stays, outcome.seconds) / outcome.seconds if outcome.seconds else 0.0,
        models={name: _of_model(fates, outcome.seconds) for name, fates in sorted(by_model.items())},
    )


def mean(several: Sequence[Figures]) -> Figures:
    """The mean of several simulations; the worst wait is the worst of them all."""
    names = sorted({name for each in several for name in each.models})
    return Figures(
        done=fmean(each.done for each in several),
        refused=fmean(each.refused for each in several),
        unfinished=fmean(each.unfinished for each in several),
        mean=fmean(each.mean for each in several),
        p95=fmean(each.p95 for each in several),
        worst_wait=max(each.worst_wait for each in several),
        waiting=fmean(each.waiting for each in several),
        switches=fmean(each.switches for each in several),
        loads=fmean(each.loads for each in several),
        loading=fmean(each.loading for each in several),
        models={name: _mean_model([each.models[name] for each in several if name in each.models]) for name in names},
    )


def against(name: str, ours: Figures, other_name: str, other: Figures) -> str:
    """One policy beside another, in a sentence: who got more done, how long it took, and who waited longest."""
    if not ours.done or not other.done:
        return f"{name} answered {_count(ours.done)} requests, {other_name} {_count(other.done)}."
    if (ours.done, ours.mean, ours.worst_wait) == (other.done, other.mean, other.worst_wait):
        return f"{name} and {other_name} come to the same here."
    more = ours.done / other.done
    times = f"{more:.2f} × the requests of {other_name}" if abs(more - 1) >= 0.005 else f"as many as {other_name}"
    return (
        f"{name} answered {times}; from question to answer {_change(ours.mean, other.mean)} on average "
        f"({spell(ours.mean)} instead of {spell(other.mean)}), and the worst wait was {spell(ours.worst_wait)} "
        f"instead of {spell(other.worst_wait)}."
    )


def what_if(change: str, before: Figures, after: Figures) -> str:
    """What a change of the box would have brought: 'With gpu1 of 24.0 GiB: 41 min less waiting, …'."""
    saved = before.waiting - after.waiting
    if abs(saved) < 1.0:
        waiting = f"no less waiting ({spell(before.waiting)} in all)"
    else:
        less = "less" if saved > 0 else "more"
        waiting = f"{spell(abs(saved))} {less} waiting ({spell(after.waiting)} in all, not {spell(before.waiting)})"
    return (
        f"{change}: {waiting}; {_count(after.done)} requests answered instead of {_count(before.done)}, "
        f"{_count(after.switches)} switches instead of {_count(before.switches)}."
    )


def spell(seconds: float) -> str:
    """A time for people: `0.42 s`, `35 s`, `12 min`, `5.2 h`."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def _count(number: float) -> str:
    return f"{number:.0f}"


def _change(ours: float, other: float) -> str:
    if not other or abs(ours - other) < 0.005 * other:
        return "as long"
    return f"{abs(ours - other) / other:.0%} {'shorter' if ours < other else 'longer'}"


def _of_model(fates: Iterable[Fate], now: float) -> ModelFigures:
    fates = list(fates)
    waits = [fate.waited(now) for fate in fates]
    return ModelFigures(sum(fate.done for fate in fates), fmean(waits), max(waits))


def _mean_model(several: Sequence[ModelFigures]) -> ModelFigures:
    return ModelFigures(
        fmean(each.done for each in several),
        fmean(each.mean_wait for each in several),
        max(each.worst_wait for each in several),
    )


def _loading(stays: Iterable[Stay], end: float) -> float:
    """Seconds in which at least one engine was being loaded. `stays` are in the order in which they began."""
    total, until = 0.0, 0.0
    for stay in stays:
        ended = next((t for t in (stay.ready, stay.gone) if t is not None), end)
        total += max(0.0, ended - max(stay.began, until))
        until = max(until, ended)
    return total
