"""The most that engines were seen to hold, and what follows for the ledger (spec D1).

A running engine keeps what it was promised, as it may still grow to that. What its model is promised next time is
learned from a load as soon as it has answered something, for before that it may not have touched all its memory; then
it may come out lower than any estimate. More than was promised counts at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from roundhouse.core.margins import RECENT, next_claim, run_at
from roundhouse.core.model import Measured, is_seat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.core.model import Claim, DeviceId, Fleet, Instance, InstanceId, ModelSpec, ModelState

PLAUSIBLE = 128 * 1024**2
"""Bytes below which a figure lowers nothing: what is measured is then a container's client, not the engine behind."""
GRAIN = 1024**2
"""Growth that is worth telling: resident pages come and go all the time."""


class Peaks:
    """Keeps them, for engines that live and for earlier loads.

    Args:
        past: by model and settings with place (`run_at`), and device, the peaks of earlier loads, the newest first.
    """

    def __init__(self, fleet: Fleet, past: Mapping[tuple[str, str], Mapping[DeviceId, Sequence[int]]]) -> None:
        self._fleet = fleet
        self._past = {name: {d: list(sizes) for d, sizes in devices.items()} for name, devices in past.items()}
        self._living: dict[InstanceId, dict[DeviceId, int]] = {}
        self._whole: dict[InstanceId, tuple[tuple[str, str], Claim]] = {}
        self._said: dict[InstanceId, Measured] = {}

    def of(self, instance: InstanceId) -> Mapping[DeviceId, int]:
        """The most that an instance was ever seen to hold."""
        return self._living.get(instance, {})

    def note(self, instance: InstanceId, sizes: Mapping[DeviceId, int]) -> Measured | None:
        """Takes in what an instance holds now; what the planner has to know of it, None if nothing new."""
        model = self._fleet.instances.get(instance)
        state = self._fleet.models[model] if model is not None else None
        if state is None or state.instance is None:
            return None
        peak = self._living.setdefault(instance, {})
        for device, size in sizes.items():
            known = peak.get(device, 0)
            if device in state.instance.claim and size > known + (GRAIN if known else 0):
                peak[device] = size
        whole = instance in self._whole or self._has_answered(state.instance)
        event = self._event(state, state.instance, peak, whole=whole)
        if whole:
            self._whole[instance] = _name(state.spec, state.instance), event.peak
        news = (
            event.peak
            or event.claim != _known(state.instance.claim, peak)
            or event.learned != _known(state.claim, peak)
        )
        if not news or event == self._said.get(instance):
            return None
        self._said[instance] = event
        return event

    def forget(self) -> None:
        """Lets go of those that have ended; what whole loads held is kept for the next."""
        for instance in self._living.keys() - self._fleet.instances.keys():
            del self._living[instance]
            self._said.pop(instance, None)
            if instance in self._whole:
                name, peak = self._whole.pop(instance)
                past = self._past.setdefault(name, {})
                past.update({device: [size, *past.get(device, ())][:RECENT] for device, size in peak.items()})

    def _has_answered(self, instance: Instance) -> bool:
        """Whether it has, or has begun to: else it was last used when it became ready, or began to drain."""
        return self._fleet.use[instance.id].last > instance.since

    def _event(self, state: ModelState, instance: Instance, peak: Mapping[DeviceId, int], *, whole: bool) -> Measured:
        spec, past = state.spec, self._past.get(_name(state.spec, instance), {})
        claim = {device: max(size, instance.claim.get(device, 0)) for device, size in peak.items()}
        learned = {device: max(size, state.claim.get(device, 0)) for device, size in peak.items()}
        least = PLAUSIBLE if whole else math.inf
        figures = {device: size for device, size in peak.items() if size >= least or size > _expected(spec, device)}
        if whole:
            nexts = {device: next_claim([size, *past.get(device, ())]) for device, size in figures.items()}
            learned |= {device: max(size, spec.told.get(device, 0)) for device, size in nexts.items()}
        return Measured(instance.id, claim, learned, figures)


def _name(spec: ModelSpec, instance: Instance) -> tuple[str, str]:
    return spec.id, run_at(instance.settings, instance.claim)


def _expected(spec: ModelSpec, device: DeviceId) -> int:
    """What it was thought to need there, wherever it was going to run."""
    return max(claim.get(device, 0) for claim in (spec.claim, *spec.elsewhere))


def _known(claim: Mapping[DeviceId, int], peak: Mapping[DeviceId, int]) -> dict[DeviceId, int]:
    return {device: claim.get(device, 0) for device in peak if not is_seat(device)}
