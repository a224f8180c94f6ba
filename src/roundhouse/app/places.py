"""Where each model may run: which of the machine's devices, in what proportions, as configured and as its args say.

The user's own words to an engine (`env:`, `args:`) come before `devices:`, and that before what would fit best.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from roundhouse.core.model import is_seat
from roundhouse.engines import ENGINES, visible
from roundhouse.ports import Gpu, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Claim, DeviceId
    from roundhouse.ports import Wish

RAM: DeviceId = "ram"
_GPU = re.compile(r"gpu\d*\Z")


@dataclass(frozen=True, slots=True)
class Box:
    """The devices of this machine.

    Attributes:
        sizes: bytes that models may have on each: the configured budget, else all of it.
        physical: bytes that there are; a device that is only configured is missing.
        names: what engines call each GPU.
    """

    sizes: Mapping[DeviceId, int]
    physical: Mapping[DeviceId, int] = field(default_factory=dict)
    names: Mapping[DeviceId, Gpu] = field(default_factory=dict)

    @property
    def gpus(self) -> tuple[DeviceId, ...]:
        """In the order of their PCI addresses."""
        return tuple(sorted((name for name in self.sizes if _GPU.match(name)), key=_number))

    def whole(self, device: DeviceId) -> int:
        """Its physical size, else its budget; 0 for one that is not there."""
        return self.physical.get(device) or self.sizes.get(device, 0)

    def known(self) -> dict[DeviceId, Gpu]:
        """All GPUs with their names and numbers. One that is only configured goes by the number in its own."""
        found: dict[DeviceId, Gpu] = {}
        for device in self.gpus:
            gpu = self.names.get(device) or Gpu(index=_number(device)[0])
            before = sum(other.vendor == gpu.vendor for other in found.values())
            found[device] = gpu if gpu.index is not None else replace(gpu, index=before)
        return found

    def called(self, name: str) -> DeviceId:
        """The device of that name; a GPU may be named by its UUID."""
        return next((device for device, gpu in self.names.items() if gpu.uuid and gpu.uuid == name), name)


@dataclass(frozen=True, slots=True)
class Spot:
    """One or more devices that a model may run on together, and in what proportions."""

    devices: tuple[DeviceId, ...]
    shares: tuple[float, ...]


def spots(model: ModelConfig, box: Box) -> tuple[tuple[Spot, ...], Spot | None]:
    """Places that would do each for itself, best first, and one over all GPUs where none of them is large enough."""
    wish = ENGINES[model.engine or "openai"].wish(model)
    gpus, said = _seen(model, box)
    if wish.ram or not gpus:
        return (_over((RAM,), box),), None
    if wish.gpus:
        chosen = [(gpus[i], share) for i, share in _paired(wish) if i < len(gpus)]
        if chosen:
            return (Spot(tuple(d for d, _ in chosen), tuple(share for _, share in chosen)),), None
    if wish.shares:
        parts = [(device, share) for device, share in zip(gpus, wish.shares, strict=False) if share > 0]
        return (Spot(tuple(d for d, _ in parts), tuple(share for _, share in parts)),), None
    if wish.count is not None and not said:
        groups = (gpus[at : at + wish.count] for at in range(max(1, len(gpus) - wish.count + 1)))
        return tuple(_over(group, box) for group in groups), None
    if said or wish.everywhere:
        return (_over(gpus[: wish.count], box),), None
    if not placed(model):
        return (_over(gpus[:1], box),), None
    return tuple(_over((gpu,), box) for gpu in gpus), _over(gpus, box) if len(gpus) > 1 else None


def placed(model: ModelConfig) -> bool:
    """Whether it is told its place without `devices:`; a user's own command or script may have one of its own."""
    return model.command is None and model.script is None


def place_of(model: ModelConfig, claim: Claim, box: Box) -> Place | None:
    """What a claim means to the engine; None where nothing is to be said: on a machine without GPUs, or by others."""
    known = box.known()
    if not known or model.launcher == "attached" or not (placed(model) or model.devices):
        return None
    devices = [device for device in claim if not is_seat(device)]
    if any(device != RAM and device not in known for device in devices):
        return None  # a device of another kind, that only the configuration knows
    order, _ = _seen(model, box)
    wish = ENGINES[model.engine or "openai"].wish(model)
    own = wish.ram or bool(wish.gpus or wish.shares or wish.everywhere)
    if own and model.devices:
        devices = list(order)  # the user's arguments count from these
    gpus = sorted((d for d in devices if d in known), key=lambda d: order.index(d) if d in order else len(order))
    return Place(
        gpus=tuple(known[device] for device in gpus),
        sizes=tuple(claim.get(device, 0) for device in gpus),
        shares=_shares(model, gpus, box),
        machine=tuple(known.values()),
        free=own and not model.devices,
    )


def _shares(model: ModelConfig, gpus: Iterable[DeviceId], box: Box) -> tuple[float, ...]:
    """Proportions by the figures of `memory:`, else by the user's own, else by size.

    Not by the claim: once measured, it holds each GPU's own buffers too, and a model divided by that would move a
    little more to one side with every start.
    """
    said = {box.called(name): size for name, size in (model.memory or {}).items() if name}
    given = tuple(gpus)
    if said:
        return tuple(float(said.get(device, 0)) for device in given)
    first, _ = spots(model, box)
    known = next((spot.shares for spot in first if set(spot.devices) == set(given)), None)
    return known or _over(given, box).shares


def _seen(model: ModelConfig, box: Box) -> tuple[tuple[DeviceId, ...], bool]:
    """The GPUs that it may run on, in its order, and whether the user chose them; none: it runs in RAM."""
    by_environment = visible.seen(model.env, box.known())
    if by_environment is not None:
        return by_environment, True
    if model.devices:
        named = tuple(dict.fromkeys(box.called(name) for name in model.devices))
        return tuple(name for name in named if name != RAM), True
    return box.gpus, False


def _over(devices: tuple[DeviceId, ...], box: Box) -> Spot:
    return Spot(devices, tuple(float(box.sizes.get(device, 0) or 1) for device in devices))


def _paired(wish: Wish) -> list[tuple[int, float]]:
    shares = wish.shares if len(wish.shares) == len(wish.gpus) else (1.0,) * len(wish.gpus)
    return list(zip(wish.gpus, shares, strict=True))


def _number(device: DeviceId) -> tuple[int, str]:
    digits = device.removeprefix("gpu")
    return (int(digits) if digits.isdecimal() else 0), device
