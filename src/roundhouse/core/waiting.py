"""What a waiting request can be told: how long, how far, what for. Read from the picture, never decided here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.core.forecast import ahead_of, in_the_way
from roundhouse.core.model import Phase
from roundhouse.core.turns import place_in_queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.core.forecast import InTheWay
    from roundhouse.core.model import Fleet, Granted, Instance, ModelState, Ticket

DEFAULT_EXPECTED = 180.0
"""Seconds after the slash of '15s / 180s' for a model that was never loaded (spec C5)."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a request waits.

    Attributes:
        elapsed: seconds since the request came, or since the load it joined began.
        expected: seconds this model's load is expected to need.
        details: short texts for after the ' · ', the most telling first.
    """

    model: str
    elapsed: float
    expected: float
    details: tuple[str, ...]


def explain(fleet: Fleet, ticket: Ticket, now: float) -> Waiting:
    """What to tell the client of a waiting ticket."""
    state = fleet.models[ticket.model]
    instance = state.instance
    expected = expected_load(state)
    if instance is not None and instance.phase is Phase.STARTING:
        since = min(ticket.arrived, instance.started)
        return Waiting(ticket.model, now - since, expected, _loading_details(state, instance, now))
    elapsed = now - ticket.arrived
    if instance is not None and instance.phase is Phase.READY:
        return Waiting(ticket.model, elapsed, expected, (ticket.model, _place(_ahead(state, ticket)) or "next in line"))
    return Waiting(ticket.model, elapsed, expected, (ticket.model, *_before_the_load(fleet, state, ticket, now)))


def tickets_of(fleet: Fleet, request: str) -> list[tuple[Ticket, Granted | None]]:
    """The tickets of a request that has not ended: waiting (None) or granted. Clients may have used an id twice."""
    models = dict.fromkeys(fleet.queued.values())
    waiting = [(t, None) for model in models for t in fleet.models[model].queue if t.request == request]
    return [*waiting, *((g.ticket, g) for g in fleet.granted.values() if g.ticket.request == request)]


def expected_load(state: ModelState) -> float:
    """Seconds a load of this model is expected to take: the last one here, else what was learned before, else 180."""
    return state.load_seconds or state.spec.expected or DEFAULT_EXPECTED


def _loading_details(state: ModelState, instance: Instance, now: float) -> tuple[str, ...]:
    details = [state.spec.id]
    if instance.progress is not None:
        if instance.progress.fraction is not None:
            details.append(f"{instance.progress.fraction:.0%}")
        if instance.progress.stage:
            details.append(instance.progress.stage)
    known = state.load_seconds or state.spec.expected
    if known is not None:
        left = known - (now - instance.started)
        details.append(
            f"about {left:.0f}s left" if left >= 1 else "any moment now" if left > -known else "slower than usual"
        )
    return tuple(details)


def _ahead(state: ModelState, ticket: Ticket) -> int:
    """Requests for the same model that are granted before this one."""
    return sum(1 for other in state.queue if place_in_queue(state, other) < place_in_queue(state, ticket))


def _place(ahead: int) -> str:
    return f"{ahead} request{'s' if ahead > 1 else ''} ahead" if ahead else ""


def _before_the_load(fleet: Fleet, state: ModelState, ticket: Ticket, now: float) -> Iterator[str]:
    """Who comes before, and who keeps the place or leaves it."""
    ahead = _place(_ahead(state, ticket) + ahead_of(fleet, state, now))
    if ahead:
        yield ahead
    if leaving := _obstacles(fleet, state):
        yield from leaving
    elif (other := in_the_way(fleet, state, now)) is not None:
        yield _keeps_its_place(other)


def _keeps_its_place(other: InTheWay) -> str:
    if math.isinf(other.seconds):
        return f"{other.model} answers first"
    doing = "answers" if other.busy else "is kept for its session"
    return f"{other.model} {doing} until about {math.ceil(other.seconds)} s from now"


def _obstacles(fleet: Fleet, state: ModelState) -> tuple[str, ...]:
    """What must happen before the load can begin."""
    texts = []
    for other in fleet.live():
        active = fleet.use[other.id].active
        if other.phase is Phase.DRAINING and active:
            texts.append(f"{other.model} finishes {active} answer{'s' if active > 1 else ''} first")
        elif other.phase in {Phase.DRAINING, Phase.STOPPING}:
            texts.append(f"{other.model} is being unloaded")
        elif other.phase is Phase.STARTING and other.model != state.spec.id:
            texts.append(f"{other.model} is being loaded first")
    if state.blocked is not None:
        texts.append("other programs hold the memory")
    return tuple(texts[:2])
