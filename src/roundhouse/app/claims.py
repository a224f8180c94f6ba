"""How much a model claims in each place where it may run (spec D1): measured, told, its engine's share, or estimated.

A figure measured on one GPU holds for any other single one, a divided one only for the same devices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from roundhouse.app.places import RAM, spots
from roundhouse.core.margins import AT, next_claim
from roundhouse.core.model import is_seat
from roundhouse.engines import ENGINES
from roundhouse.runtime import processor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from roundhouse.app.places import Box, Spot
    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Claim, DeviceId
    from roundhouse.ports import ModelFacts

    Measured = Mapping[frozenset[DeviceId], Mapping[DeviceId, int]]
    Peaks = Mapping[tuple[str, str], Mapping[str, Sequence[int]]]


def measured(model: str, settings: str, peaks: Peaks) -> Measured:
    """What the latest loads come to, by the devices that they were measured on together.

    Older figures, without these, count where there is one.
    """
    found: dict[frozenset[DeviceId], Mapping[DeviceId, int]] = {}
    old = peaks.get((model, settings), {})
    if len(old) == 1:
        found[frozenset(old)] = _next(old)
    start = settings + AT
    for (name, run), sizes in peaks.items():
        if name == model and run.startswith(start):
            devices = frozenset(run.removeprefix(start).split("+"))
            if devices == set(sizes):
                found[devices] = _next(sizes)
    return found


def _next(sizes: Mapping[DeviceId, Sequence[int]]) -> dict[DeviceId, int]:
    return {device: next_claim(last) for device, last in sizes.items()}


def claims(model: ModelConfig, facts: ModelFacts | None, box: Box, known: Measured) -> tuple[Claim, ...]:
    """Bytes per device for each place where it may run, best first."""
    if model.launcher == "attached":
        return ({},)  # what it holds counts as others' use
    told = {box.called(name): size for name, size in (model.memory or {}).items() if name}
    if told:
        return (_again(known.get(frozenset(told)), box) or told,)
    singles, together = spots(model, box)
    alone = [_claim(model, facts, box, known, spot) for spot in singles]
    if together is None:
        return tuple(alone)
    fitting = [claim for claim in alone if _fits(claim, box)]
    if not fitting and (wide := _divided(model, facts, box, known, together)) is not None:
        return (wide,)
    return tuple(fitting or alone[:1])


def told(model: ModelConfig, box: Box, places: Iterable[Claim]) -> Claim:
    """What its engine is told to take, whatever it will be seen to hold: a share of each device that it may run on."""
    if model.launcher == "attached" or any(model.memory or ()):
        return {}  # figures by device are the user's word on it
    devices = dict.fromkeys(device for claim in places for device in claim if not is_seat(device))
    return {device: share for device in devices if (share := _shared(model, box, device)) is not None}


def _claim(model: ModelConfig, facts: ModelFacts | None, box: Box, known: Measured, spot: Spot) -> Claim:
    if len(spot.devices) > 1:
        return _divided(model, facts, box, known, spot) or dict.fromkeys(spot.devices, 0)
    device = spot.devices[0]
    return {device: _single(model, facts, box, known, device)}


def _single(model: ModelConfig, facts: ModelFacts | None, box: Box, known: Measured, device: DeviceId) -> int:
    engine = ENGINES[model.engine or "openai"]
    if (share := _shared(model, box, device)) is not None:
        return max(share, min(_measured_alone(known, device) or 0, box.sizes.get(device, 0)))
    if (peak := _measured_alone(known, device)) is not None:
        return min(peak, box.sizes.get(device, 0))
    if model.memory:
        return sum(model.memory.values())
    if model.script is not None:
        return box.sizes.get(device, 0)  # its own words are not ours to know: until measured it is alone there
    computes = processor.flags() if device == RAM else frozenset[str]()
    return engine.footprint(model, facts, computes) or 0


def _divided(model: ModelConfig, facts: ModelFacts | None, box: Box, known: Measured, spot: Spot) -> Claim | None:
    """None where it can't be divided, or nothing is known of it."""
    shares = {device: _shared(model, box, device) for device in spot.devices}
    if None not in shares.values():
        return {device: share or 0 for device, share in shares.items()}
    if (again := _again(known.get(frozenset(spot.devices)), box)) is not None:
        return again
    if model.memory:
        whole, parts = sum(model.memory.values()), sum(spot.shares)
        return {d: math.ceil(whole * share / parts) for d, share in zip(spot.devices, spot.shares, strict=True)}
    if model.script is not None:
        return {device: box.sizes.get(device, 0) for device in spot.devices}
    by_size = [int(share * 2**20) for share in spot.shares]  # whole numbers, for `3,1` as for bytes
    sizes = ENGINES[model.engine or "openai"].split(model, facts, by_size)
    return None if sizes is None else dict(zip(spot.devices, sizes, strict=True))


def _shared(model: ModelConfig, box: Box, device: DeviceId) -> int | None:
    """What its engine is told to take of a device, None if it takes what it needs.

    Of what is free it takes any amount: that is a claim of the whole budget, which makes it run alone
    (`core.memory.wanted`). Of the total it takes just that, and wants it free when it starts.
    """
    share = ENGINES[model.engine or "openai"].share(model)
    if share is None or model.script is not None:
        return None
    return box.sizes.get(device, 0) if share.of == "free" else math.ceil(box.whole(device) * share.part)


def _measured_alone(known: Measured, device: DeviceId) -> int | None:
    if (here := known.get(frozenset({device}))) is not None:
        return here[device]
    return max((size for other, size in _singles(known) if RAM not in {device, other}), default=None)


def _singles(known: Measured) -> Iterator[tuple[DeviceId, int]]:
    return ((device, size) for sizes in known.values() if len(sizes) == 1 for device, size in sizes.items())


def _again(sizes: Mapping[DeviceId, int] | None, box: Box) -> dict[DeviceId, int] | None:
    """The same once more, but never more than there is."""
    if sizes is None:
        return None
    return {d: min(size, box.sizes.get(d, 0)) for d, size in sizes.items()}


def _fits(claim: Claim, box: Box) -> bool:
    return all(size <= box.sizes.get(device, 0) for device, size in claim.items())
