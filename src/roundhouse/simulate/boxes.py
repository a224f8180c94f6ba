"""A box as JSON, so that a trace can be replayed on another machine: devices in bytes, models with claims and times.

{"devices": {"gpu0": 25769803776}, "models": {"llama-70b": {"claim": {"gpu0": 21474836480}, "load": 42}}}
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from roundhouse.core.model import Device, Kind, ModelSpec
from roundhouse.simulate.setup import Setup, Timing

Sizes = dict[str, NonNegativeInt]
"""Bytes per device."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BoxModel(_Strict):
    """A model: what `ModelSpec` and `Timing` say of it. `load`, in seconds, is always needed."""

    load: NonNegativeFloat
    claim: Sizes = Field(default_factory=dict)
    elsewhere: tuple[Sizes, ...] = ()
    slots: PositiveInt = 1
    kind: Kind = Kind.CHAT
    pinned: bool = False
    preload: bool = False
    priority: int = 0
    ttl: NonNegativeFloat | Literal["auto"] | None = None
    min_resident: NonNegativeFloat = 0.0
    remote: bool = False
    stop: NonNegativeFloat = 0.0
    slowdown: NonNegativeFloat = 0.0


class Box(_Strict):
    """Devices, seats among them (size 1), and models by name."""

    devices: Sizes
    models: dict[str, BoxModel]

    @model_validator(mode="after")
    def _claims_what_is_there(self) -> Self:
        for name, model in self.models.items():
            for device in {device for claim in (model.claim, *model.elsewhere) for device in claim}:
                if device not in self.devices:
                    raise ValueError(f"models.{name} claims {device}, which is not among the devices")
        return self


def to_json(setup: Setup) -> dict[str, Any]:
    """The box without its policy; what is at its default is left out."""
    models = {}
    for spec in setup.specs:
        timing = setup.timing[spec.id]
        models[spec.id] = BoxModel(
            load=timing.load,
            claim=dict(spec.claim),
            elsewhere=tuple(dict(claim) for claim in spec.elsewhere),
            slots=spec.slots or timing.slots or 1,
            kind=spec.kind,
            pinned=spec.pinned,
            preload=spec.preload,
            priority=spec.priority,
            ttl="auto" if spec.ttl_auto else spec.ttl,
            min_resident=spec.min_resident,
            remote=spec.remote,
            stop=timing.stop,
            slowdown=timing.slowdown,
        )
    box = Box(devices={device.id: device.total for device in setup.devices}, models=models)
    return box.model_dump(mode="json", exclude_defaults=True)


def to_setup(box: Box) -> Setup:
    """What can be played on it."""
    specs = [
        ModelSpec(
            name,
            kind=model.kind,
            claim=model.claim,
            elsewhere=model.elsewhere,
            slots=model.slots,
            pinned=model.pinned,
            preload=model.preload,
            priority=model.priority,
            ttl=None if model.ttl == "auto" else model.ttl,
            ttl_auto=model.ttl == "auto",
            min_resident=model.min_resident,
            expected=model.load,
            remote=model.remote,
        )
        for name, model in box.models.items()
    ]
    devices = tuple(Device(name, size, size) for name, size in box.devices.items())
    timing = {name: Timing(m.load, m.stop, m.slowdown) for name, m in box.models.items()}
    return Setup(tuple(specs), devices, timing)
