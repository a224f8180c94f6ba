"""What is made of the models of one configuration: what planner, effects and listings need to know of each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from roundhouse.app import programs, specs
from roundhouse.app.launching import Launchers
from roundhouse.app.places import Box
from roundhouse.core.model import Device, is_seat

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from roundhouse.api.state import About
    from roundhouse.app.hold import Held
    from roundhouse.app.launching import Staying
    from roundhouse.app.specs import Looked
    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.core.model import ModelSpec
    from roundhouse.observe.store import Store
    from roundhouse.ports import Build, Engine, Reading
    from roundhouse.runtime.life import Runnable

_Value = TypeVar("_Value")


@dataclass(slots=True)
class Lineup:
    """The models of a configuration, ready to run.

    The mappings are one and the same for all who look into them: another configuration changes what is in them, between
    two events. A model that is removed keeps its entries for as long as it lives.
    """

    config: Config
    launchers: Launchers
    looked: dict[str, Looked]
    about: dict[str, About]
    specs: list[ModelSpec]
    devices: list[Device]
    runnables: dict[str, Runnable]
    engines: dict[str, str | None]

    async def problem(self, model: str) -> str | None:
        """Why a model can't be loaded, known without trying; looked at again, as it may have been mended."""
        found = self.looked.get(model)
        if found is None or found.problem is None or (config := self.config.models.get(model)) is None:
            return None
        looked = await asyncio.to_thread(specs.look, config)
        if self.config.models.get(model) is config:
            self.looked[model] = looked
        return looked.problem

    def outdated(self, other: Lineup) -> set[str]:
        """Models of both whose engines run differently in the other."""
        before = {spec.id: spec.settings for spec in self.specs}
        return {spec.id for spec in other.specs if before.get(spec.id, spec.settings) != spec.settings}

    def become(self, other: Lineup, living: Collection[str]) -> list[Staying]:
        """Takes over what is in another line-up; `living` are the models that have an engine.

        Returns the processes that don't stay any more.
        """
        before, after = self.launchers.staying, other.launchers.staying
        self.config, self.launchers = other.config, other.launchers
        self.specs, self.devices = other.specs, other.devices
        _replace(self.looked, other.looked, living)
        _replace(self.about, other.about, living)
        _replace(self.runnables, other.runnables, living)
        _replace(self.engines, other.engines, living)
        return [staying for name, staying in before.items() if after.get(name) is not staying]


def _replace(mine: dict[str, _Value], theirs: Mapping[str, _Value], living: Collection[str]) -> None:
    kept = {name: value for name, value in mine.items() if name in living}
    mine.clear()
    mine.update(kept | dict(theirs))


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes line-ups. `found` is what the devices said first, `shelf` the folder of saved conversations, if any."""

    held: Held
    store: Store
    found: Reading
    shelf: Path | None

    async def line_up(self, config: Config, former: Lineup | None = None) -> Lineup:
        """Looks at every model's files and makes what planner and effects need to know.

        Nothing of the former line-up changes by it.
        """
        total = self.found.total
        box = Box({**total, **config.devices}, total, self.found.gpus)
        learned, peaks = await self.store.expected_all(), await self.store.peaks_all()
        engines = [m for m in config.models.values() if not m.any_of]
        looked = await asyncio.to_thread(lambda: {m.id: specs.look(m) for m in engines})
        made = [specs.make_spec(m, looked[m.id], box, learned, peaks) for m in engines]
        launchers = Launchers(self.held, former.launchers if former is not None else None)

        async def build_of(model: ModelConfig, engine: Engine) -> Build:
            return await programs.build_of(config, model, engine, config.state_dir / "engines.json")

        return Lineup(
            config,
            launchers,
            looked,
            {m.id: specs.about(m, looked[m.id]) for m in engines},
            made,
            _devices(config.devices, total, made),
            {m.id: specs.make_runnable(m, looked[m.id], launchers.of(m), build_of, box, self.shelf) for m in engines},
            {m.id: m.engine for m in engines},
        )


def _devices(budgets: Mapping[str, int], found: Mapping[str, int], made: list[ModelSpec]) -> list[Device]:
    """Physical devices, configured budgets, and a seat for each fixed port."""
    names = [*found, *(name for name in budgets if name not in found)]
    physical = [Device(name, budgets.get(name, found.get(name, 0)), found.get(name, 0)) for name in names]
    seats = {device for spec in made for device in spec.claim if is_seat(device)}
    return [*physical, *(Device(seat, 1) for seat in sorted(seats))]
