"""A small box for tests of the simulator, and what has to be true of every outcome."""

from __future__ import annotations

from roundhouse.core.model import Device, ModelSpec
from roundhouse.simulate.setup import Setup, Timing
from roundhouse.simulate.world import Outcome


def setup(loads: dict[str, float], *, total: int = 10, size: int = 8, slots: int = 2, **timing: float) -> Setup:
    """Models that exclude one another on a device of `total`, by their load seconds."""
    specs = tuple(ModelSpec(name, claim={"gpu0": size}, slots=slots, expected=load) for name, load in loads.items())
    times = {name: Timing(load, **timing) for name, load in loads.items()}
    return Setup(specs, (Device("gpu0", total),), times)


def check(outcome: Outcome, made: Setup) -> None:
    """Holds an outcome against what is true of every box, whatever is decided."""
    sizes = {spec.id: spec.claim for spec in made.specs}
    slots = {spec.id: spec.slots or made.timing[spec.id].slots or 1 for spec in made.specs}
    arrivals = [fate.request.at for fate in outcome.fates]
    assert arrivals == sorted(arrivals), "time went back"
    for fate in outcome.fates:
        assert fate.request.at <= outcome.seconds
        for time in (fate.began, fate.ended):
            assert time is None or fate.request.at <= time <= outcome.seconds
        if fate.began is None:
            assert fate.error or fate.ended is None, "answered without having begun"
            continue
        stays = [s for s in outcome.stays if s.model == fate.model and s.ready is not None and s.ready <= fate.began]
        assert stays, "answered by an engine that was not ready"
        until = outcome.seconds if fate.ended is None else fate.ended
        assert any(s.gone is None or until <= s.gone + 1e-9 for s in stays), "answered by an engine that was gone"
        if fate.done:
            assert fate.ended - fate.began >= fate.request.seconds - 1e-6, "answered too fast"
    for stay in outcome.stays:
        assert stay.ready is None or stay.ready >= stay.began
        assert stay.gone is None or stay.gone >= (stay.ready or stay.began)
        together = [s for s in outcome.stays if s.began <= stay.began and (s.gone is None or s.gone > stay.began)]
        for device in made.devices:
            assert sum(sizes[s.model].get(device.id, 0) for s in together) <= device.total, "oversubscribed"
        at = [f for f in outcome.fates if f.model == stay.model and f.began is not None]
        for fate in at:
            beside = [f for f in at if f.began <= fate.began and (f.ended is None or f.ended > fate.began)]
            assert len(beside) <= slots[stay.model], "more answers than slots"
