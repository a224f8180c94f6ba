"""The devices of this machine as a configuration has them, read once: for commands, which serve nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.app.places import RAM, Box
from roundhouse.runtime import devices

if TYPE_CHECKING:
    from roundhouse.config.models import Config
    from roundhouse.core.model import DeviceId

BESIDE = 1.1
"""Bytes that a model takes for each of its files: context, buffers and the program come to a tenth and more."""


async def box_of(config: Config) -> Box:
    """Sizes as configured, else as found."""
    found = await devices.combine(await devices.detect()).read({})
    return Box({**found.total, **config.devices}, found.total, found.gpus)


def room_for(files: int, box: Box) -> tuple[DeviceId, ...]:
    """Where a model with so many bytes of files would fit with nothing else there; () for nowhere.

    One GPU, else all of them together; RAM where there is none. By the size of its files alone: `models check` looks
    into them.
    """
    needed = files * BESIDE
    gpus = box.gpus
    alone = next((gpu for gpu in gpus if box.sizes[gpu] >= needed), None)
    if alone is not None:
        return (alone,)
    places = gpus or (RAM,)
    return places if sum(box.sizes.get(place, 0) for place in places) >= needed else ()
