"""The swap report: each switch taken apart, beside what the machine allows; told to log, feed, metrics and history."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from roundhouse.core.model import Start
from roundhouse.core.switching import PARTS, Floor, Switches
from roundhouse.observe.store import SwitchRow
from roundhouse.runtime import pagecache
from roundhouse.runtime.files import weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from roundhouse.api.record import Record
    from roundhouse.core.model import Action, DeviceId, Event, Fleet
    from roundhouse.core.switching import Switch
    from roundhouse.observe.bus import Bus
    from roundhouse.observe.metrics import Metrics
    from roundhouse.observe.store import Store
    from roundhouse.runtime.life import Runnable
    from roundhouse.runtime.links import Links
    from roundhouse.runtime.tasks import Tasks


@dataclass(slots=True)
class _Pending:
    """A switch that is not told yet: its first answer, or what the machine allows, is still to come."""

    switch: Switch
    answered: bool
    measured: bool = False


class Swaps:
    """Keeps the report.

    Attributes:
        last: each model's latest switch, as it is told.
    """

    def __init__(
        self,
        fleet: Fleet,
        models: Mapping[str, Runnable],
        links: Links,
        store: Store,
        bus: Bus,
        metrics: Metrics,
        log: FilteringBoundLogger,
        tasks: Tasks,
    ) -> None:
        self.switches = Switches()
        self.last: dict[str, dict[str, Any]] = {}
        self._fleet = fleet
        self._models = models
        self._links = links
        self._store = store
        self._bus = bus
        self._metrics = metrics
        self._log = log
        self._tasks = tasks
        self._cached: dict[str, Floor] = {}
        self._pending: dict[str, _Pending] = {}

    def saw(self, event: Event, actions: list[Action], now: float) -> None:
        """Every event and what followed from it."""
        for action in actions:
            if isinstance(action, Start):
                self._tell(self._pending.pop(action.model, None))
                self._cached.pop(action.model, None)
                self._tasks.spawn(self._look(action.model), f"page cache of {action.model}")
        switch = self.switches.saw(self._fleet, event, actions, now)
        if switch is not None:
            waited_for = any(granted.ticket.model == switch.model for granted in self._fleet.granted.values())
            pending = self._pending[switch.model] = _Pending(switch, answered=not waited_for)
            self._tasks.spawn(self._measure(pending), f"swap report of {switch.model}")

    def answered(self, record: Record) -> None:
        """A request has ended: the first one that waited for a load tells when its first token came."""
        pending = self._pending.get(record.served_by)
        if pending is not None and not pending.answered:
            ttft = record.meter.ttft if record.meter is not None else None
            pending.switch, pending.answered = replace(pending.switch, first_token=ttft), True
            self._tell_if_whole(pending)

    async def close(self) -> None:
        """Tells those whose first answer never ended."""
        for model in list(self._pending):
            self._tell(self._pending.pop(model))

    async def _look(self, model: str) -> None:
        """How much of the weights is in the page cache, before the engine reads them."""
        files = self._files(model)
        if files:
            try:
                found = await asyncio.to_thread(pagecache.residency, files)
            except OSError:
                return  # the load will say what is wrong with them
            self._cached[model] = Floor(found.size, found.cached)

    async def _measure(self, pending: _Pending) -> None:
        """What the machine allows; that of a new disk is measured now that the engine has read its weights."""
        model = pending.switch.model
        floor, files = self._cached.pop(model, Floor()), self._files(model)
        if floor.weights and files:
            try:
                rates = await asyncio.to_thread(self._links.of, max(files, key=lambda file: file.stat().st_size))
            except OSError:
                pass  # the file is gone
            else:
                bus = await asyncio.to_thread(self._links.to, self._placed(model))
                floor = replace(floor, disk=rates.disk, cache=rates.cache, bus=bus)
        pending.switch, pending.measured = replace(pending.switch, floor=floor), True
        self._tell_if_whole(pending)

    def _placed(self, model: str) -> set[DeviceId]:
        state = self._fleet.models.get(model)  # it may be removed by now
        instance = state.instance if state is not None else None
        return set(instance.claim) if instance is not None else set()

    def _tell_if_whole(self, pending: _Pending) -> None:
        model = pending.switch.model
        if pending.measured and pending.answered and self._pending.get(model) is pending:
            self._tell(self._pending.pop(model))

    def _files(self, model: str) -> Sequence[Path]:
        runnable = self._models[model]
        source = None if runnable.remote is not None else runnable.engine.source(runnable.config)
        return weights_of(source) if source is not None and source.exists() else ()

    def _tell(self, pending: _Pending | None) -> None:
        if pending is None:
            return
        switch = pending.switch
        told = as_told(switch, time.time())
        self.last[switch.model] = told
        self._bus.publish("switch", told)
        self._store.record_switch(SwitchRow(told["at"], switch.model, told))
        self._metrics.switch_parts(
            {
                **{part: getattr(switch, part) for part in PARTS},
                "load": switch.load,
                "first_token": switch.first_token or 0.0,
            }
        )
        brief = {key: told[key] for key in ("model", "left", "total_s", "overhead_s", "verdict")}
        self._log.info("switch", **brief)


def as_told(switch: Switch, at: float) -> dict[str, Any]:
    """The switch as JSON; `at` is seconds since the epoch."""
    floor = switch.floor.seconds
    return {
        "model": switch.model,
        "at": round(at, 3),
        "left": list(switch.left),
        "parts": {part: round(getattr(switch, part), 4) for part in PARTS},
        "stages": {stage: round(seconds, 4) for stage, seconds in switch.stages.items()},
        "load_s": round(switch.load, 4),
        "first_token_s": None if switch.first_token is None else round(switch.first_token, 4),
        "total_s": round(switch.total, 4),
        "overhead_s": round(switch.overhead, 4),
        "weights": switch.floor.weights or None,
        "cached": switch.floor.cached,
        "floor_s": None if floor is None else round(floor, 4),
        "verdict": switch.verdict,
    }
