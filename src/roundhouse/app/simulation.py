"""This installation as the simulator needs it: its models and devices, and the requests that it remembers.

Nothing is started or changed; Roundhouse may be running meanwhile. What had to be assumed is told in notes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from roundhouse.app import specs
from roundhouse.app.places import Box
from roundhouse.core.model import Device, is_seat
from roundhouse.observe.past import read_past
from roundhouse.runtime import devices
from roundhouse.simulate.setup import Setup, Timing
from roundhouse.simulate.trace import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from roundhouse.config.models import Config
    from roundhouse.core.model import ModelSpec
    from roundhouse.observe.past import Past
    from roundhouse.observe.store import Request

ASSUMED_LOAD = 20.0
"""Seconds, for a model that was never loaded here."""
ASSUMED_STOP = 1.0
"""Seconds until a stopped engine's memory is back; they are not recorded."""
WANTED_ALL_THE_SAME = {429, 499, 503, 504}
"""Statuses of requests that never came to an engine but would have been answered by a faster box: limits, a client that
gave up, no room, a queue's time limit."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A box as configured.

    `assumed` are the models that were never loaded here, whose load time is a guess.
    """

    setup: Setup
    assumed: frozenset[str] = frozenset()

    def notes(self, asked: Iterable[str]) -> list[str]:
        """What was assumed about models that are asked for."""
        names = ", ".join(sorted(self.assumed.intersection(asked)))
        guess = f"never loaded here, so a load is taken to need {ASSUMED_LOAD:.0f} s (--load): {names}"
        return [guess] if names else []


def past_of(config: Config, span: float | None) -> Past:
    """What was served here in the `span` seconds before the last request. Raises UnreadablePast."""
    return read_past(config.state_dir / "roundhouse.db", span)


def installation(config: Config, past: Past, other: Mapping[str, int] | None = None) -> Installation:
    """The configured models on this machine's devices, of which `other` ones have these bytes. Looks at their files."""
    box = asyncio.run(_box(config, other or {}))
    made, timing, assumed = [], {}, set()
    for model in config.models.values():
        if model.any_of:
            continue
        looked = specs.look(model)
        spec = specs.make_spec(model, looked, box, past.expected, past.peaks)
        seconds = _load_seconds(spec, past)
        if seconds is None:
            assumed.add(spec.id)
        slots = specs.engine_of(model).plan(model, looked.facts).slots if model.script is None else None
        stop = 0.0 if spec.remote else ASSUMED_STOP
        timing[spec.id] = Timing(ASSUMED_LOAD if seconds is None else seconds, stop, slots=slots)
        made.append(spec)
    setup = Setup(tuple(made), _devices(made, box), timing, specs.make_policy(config))
    return Installation(setup, frozenset(assumed))


async def _box(config: Config, other: Mapping[str, int]) -> Box:
    found = await devices.combine(await devices.detect()).read({})
    return Box({**found.total, **config.devices, **other}, {**found.total, **other}, found.gpus)


def entries_of(requests: Iterable[Request], models: Mapping[str, Timing]) -> tuple[list[Entry], list[str]]:
    """Recorded requests as a trace that begins at 0, and notes about those that can't be replayed as they were.

    Of requests that never came to an engine, those that a faster box would have answered count with their model's
    median time.
    """
    requests = sorted(requests, key=lambda request: request.at)
    usual = _usual(requests)
    entries: list[Entry] = []
    guessed, unknown = 0, Counter[str]()
    for request in requests:
        seconds = request.service_s
        if seconds is None and request.status in WANTED_ALL_THE_SAME:
            seconds = usual.get(request.wanted)
            guessed += seconds is not None
        if seconds is None:
            continue
        if request.wanted not in models:
            unknown[request.wanted] += 1
            continue
        entries.append(_entry(request, seconds, requests[0].at))
    notes = [f"{_count(n)} for {name} left out: it is not in the configuration any more" for name, n in unknown.items()]
    if guessed:
        notes.append(
            f"{_count(guessed)} that were refused, or whose clients gave up, count with their model's usual time"
        )
    return entries, notes


def _entry(request: Request, seconds: float, begin: float) -> Entry:
    took = request.total_s if request.total_s is not None else seconds
    return Entry(
        at=request.at - begin,
        model=request.wanted,
        seconds=seconds,
        key=request.key,
        user=request.user,
        session=request.session,
        task=bool(request.task),
        priority=request.priority,
        waited=max(0.0, took - seconds),
    )


def _usual(requests: Iterable[Request]) -> dict[str, float]:
    by_model: dict[str, list[float]] = {}
    for request in requests:
        if request.service_s is not None and request.status == 200:
            by_model.setdefault(request.wanted, []).append(request.service_s)
    return {name: median(seconds) for name, seconds in by_model.items()}


def _load_seconds(spec: ModelSpec, past: Past) -> float | None:
    """What a load took here with these settings, else with others, else what is configured; None: not known."""
    if spec.remote:
        return 0.0
    of_others = [seconds for (name, _), seconds in past.expected.items() if name == spec.id]
    return past.expected.get((spec.id, spec.settings), of_others[-1] if of_others else spec.expected)


def _devices(made: Iterable[ModelSpec], box: Box) -> tuple[Device, ...]:
    """Devices with their budgets, and the seats that models claim."""
    seats = sorted({device for spec in made for device in spec.claim if is_seat(device)})
    physical = (Device(name, size, box.physical.get(name, 0)) for name, size in box.sizes.items())
    return (*physical, *(Device(seat, 1) for seat in seats))


def _count(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"
