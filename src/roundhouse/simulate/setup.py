"""What is simulated: the box, its models and how long they take, the policy; and the policies that are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from roundhouse.core.model import Policy, is_seat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.core.model import Device, ModelSpec

LIMITLESS = 10**9
"""More requests than any simulation has."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take for one model, in seconds.

    Attributes:
        load: from the start of its engine until it answers.
        stop: from being told to stop until its memory is back.
        slowdown: by how much of its speed alone an answer is slowed by each further one at the same time; 0 = not at
            all (spare capacity), 1 = all of them together are as fast as one alone.
        slots: concurrent requests that the engine reports, where the model's settings don't say.
    """

    load: float
    stop: float = 0.0
    slowdown: float = 0.0
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """A box. `timing` has an entry for every model."""

    specs: tuple[ModelSpec, ...]
    devices: tuple[Device, ...]
    timing: Mapping[str, Timing]
    policy: Policy = field(default_factory=Policy)

    def without_limits(self) -> Setup:
        """The same box where nobody is refused for the queue's length or the time waited: to compare throughput."""
        policy = replace(self.policy, queue_limit=LIMITLESS, queue_per_key=LIMITLESS, queue_timeout=math.inf)
        return replace(self, policy=policy)

    def with_policy(self, name: str) -> Setup:
        """The same box under one of `POLICIES`."""
        return replace(self, policy=POLICIES[name](self.policy))

    def with_load(self, seconds: float, model: str | None = None) -> Setup:
        """The same box where a model (None: every one) takes so long to load."""
        names = set(self.timing) if model is None else {model}
        timing = {n: replace(t, load=seconds) if n in names else t for n, t in self.timing.items()}
        specs = tuple(replace(s, expected=seconds) if s.id in names else s for s in self.specs)
        return replace(self, timing=timing, specs=specs)

    def with_slowdown(self, share: float) -> Setup:
        """The same box where answers at the same time slow one another by that much."""
        return replace(self, timing={n: replace(t, slowdown=share) for n, t in self.timing.items()})

    def with_device(self, device: Device) -> Setup:
        """The same box with a device changed or added.

        Models that had a whole device have the whole of it again. Of a new device, a model may use as much as of the
        one that it is on.
        """
        was = next((d for d in self.devices if d.id == device.id), None)
        if was is None:
            specs = tuple(_also_on(spec, device, self.devices) for spec in self.specs)
            return replace(self, specs=specs, devices=(*self.devices, device))
        specs = tuple(_as_whole(s, was, device) for s in self.specs)
        return replace(self, specs=specs, devices=tuple(device if d.id == device.id else d for d in self.devices))


def _also_on(spec: ModelSpec, device: Device, others: tuple[Device, ...]) -> ModelSpec:
    """Lets a model that is on one device for itself run on a new one instead, its seats kept."""
    sizes = {other.id: other.total for other in others}
    memory = [name for name in spec.claim if name in sizes and not is_seat(name)]
    if len(memory) != 1:
        return spec
    held = spec.claim[memory[0]]
    needed = device.total if held == sizes[memory[0]] else held
    claim = {name: size for name, size in spec.claim.items() if name != memory[0]} | {device.id: needed}
    return replace(spec, elsewhere=(*spec.elsewhere, claim))


def _as_whole(spec: ModelSpec, was: Device, now: Device) -> ModelSpec:
    if spec.claim.get(was.id) != was.total:
        return spec
    return replace(spec, claim={**spec.claim, now.id: now.total})


POLICIES: Mapping[str, Callable[[Policy], Policy]] = {
    "turns": lambda policy: policy,
    "fifo": lambda policy: replace(policy, max_wait=0.0, linger=0.0),
    "run-first": lambda policy: replace(policy, max_wait=math.inf, linger=0.0),
}
"""By name: Roundhouse's own as configured; strictly in order of arrival; whoever is loaded, while it has work."""
