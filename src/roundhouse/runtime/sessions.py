"""Conversations across switches (spec D11): each engine's slots, and the shelf of what is saved."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from roundhouse.core import conversations as decide
from roundhouse.core.conversations import Slot, Tally
from roundhouse.core.model import Phase
from roundhouse.runtime.desk import LEAVE_LIMIT, LIMIT, Desk
from roundhouse.runtime.talk import ask
from roundhouse.runtime.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.core.model import Fleet, InstanceId
    from roundhouse.runtime.desk import Ask, Notes, Seat
    from roundhouse.runtime.life import Life
    from roundhouse.runtime.shelf import Shelf
    from roundhouse.runtime.upstream import Upstream


class Sessions:
    """All engines' slots, and the shelf. Without a shelf (`sessions: {store: off}`) it does nothing."""

    def __init__(
        self,
        shelf: Shelf | None,
        upstream: Upstream,
        notes: Notes,
        report: Callable[[str, BaseException], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.shelf = shelf
        self.tallies: dict[str, Tally] = {}
        self._upstream = upstream
        self._notes = notes
        self._desks: dict[InstanceId, Desk] = {}
        self._names: dict[InstanceId, str] = {}
        self._laying: set[InstanceId] = set()
        self._tasks = Tasks(report)
        self._wall = wall

    def opened(self, instance: InstanceId, life: Life, *, fresh: bool) -> None:
        """An engine is ready; `fresh` if nothing was asked of it yet, so that its slots are empty."""
        engine, served = life.runnable.conversations, life.served
        if self.shelf is None or engine is None or served is None or not served.slots or life.endpoint is None:
            return
        model = life.runnable.config.id
        state = f"{model}:{life.runnable.state()}:{served.build or ''}"
        tally = self.tallies.get(model)
        if tally is None or tally.state != state:
            tally = self.tallies[model] = Tally(state)
        endpoint, pid = life.endpoint, life.handle.pid if life.handle is not None else None
        name = f"{endpoint.port}-{pid}"
        slots = [Slot(number, empty=fresh) for number in range(served.slots)]
        known = {} if fresh else self.shelf.table(name)
        for slot in slots:
            slot.holds = known.get(slot.number)
        self._desks[instance] = Desk(
            model, engine, slots, tally, self.shelf, partial(ask, self._upstream, endpoint), self._notes, self._wall
        )
        self._names[instance] = name
        self._lay(instance)

    def closed(self, instance: InstanceId) -> None:
        """It is gone, and with it what was not saved."""
        if self._desks.pop(instance, None) is not None and self.shelf is not None:
            name = self._names.pop(instance)
            self._tasks.spawn(self.shelf.clear_table(name), f"removal of the slot table {name}")

    def _lay(self, instance: InstanceId) -> None:
        """Has what an engine's slots hold written down, once for all changes of the moment."""
        if instance not in self._laying:
            self._laying.add(instance)
            self._tasks.spawn(self._lay_table(instance), "slot table")

    async def _lay_table(self, instance: InstanceId) -> None:
        self._laying.discard(instance)
        desk = self._desks.get(instance)
        if desk is not None and self.shelf is not None:
            await self.shelf.lay_table(self._names[instance], desk.held())

    def has(self, instance: InstanceId) -> bool:
        """Whether its requests get seats."""
        return instance in self._desks

    async def seat(self, instance: InstanceId, ask: Ask) -> Seat | None:
        """A slot for a request, with its conversation in it if there is one; None where slots are not ours to give."""
        desk = self._desks.get(instance)
        if desk is None:
            return None
        seat = await desk.seat(ask)
        self._lay(instance)
        return seat

    def left(
        self, instance: InstanceId, seat: Seat, timings: Mapping[str, object] | None, tokens: int | None, *, good: bool
    ) -> None:
        """A request has ended: `tokens` of prompt and answer, None where not known; `good` if the engine took it."""
        gone = seat.desk.left(seat, timings, tokens, good=good)
        self._lay(instance)
        if gone is not None and self.shelf is not None:
            self._tasks.spawn(self.shelf.drop(gone), "removal of a conversation that was of no use")

    async def passing(self, instance: InstanceId) -> None:
        """A request goes to an engine past its desk: what is in its slots is saved, and not known from then on."""
        desk = self._desks.get(instance)
        if desk is not None:
            await desk.keep_all(LEAVE_LIMIT)
            await desk.clear_floors()
            self.passed(instance)

    def passed(self, instance: InstanceId) -> None:
        """Such a request is over: the slots that we have nobody in may hold anything, whatever was noted."""
        desk = self._desks.get(instance)
        if desk is not None:
            desk.forget()
            self._lay(instance)

    async def keep(self, instance: InstanceId, limit: float = LEAVE_LIMIT) -> None:
        """Saves what an engine holds, before it stops."""
        desk = self._desks.get(instance)
        if desk is not None:
            await desk.keep_all(limit)

    def look(self, fleet: Fleet) -> None:
        """Saves what draining engines hold and nobody uses, while others' answers still run."""
        for instance in fleet.live():
            desk = self._desks.get(instance.id)
            if desk is not None and instance.phase is Phase.DRAINING and decide.worth_keeping(desk.slots):
                self._tasks.spawn(desk.keep_all(LEAVE_LIMIT), f"conversations of {instance.model}")

    def told(self, model: str) -> dict[str, object] | None:
        """What there is to say of a model's conversations."""
        tally = self.tallies.get(model)
        if tally is None or self.shelf is None:
            return None
        mine = self.shelf.of(tally.state)
        return {
            "kept": len(mine),
            "bytes": sum(one.size for one in mine),
            "saved": tally.saved,
            "restored": tally.restored,
            "failed": tally.failed,
            "off": tally.off or None,
        }

    async def close(self) -> None:
        """Ends what runs; what is small is waited for."""
        await self._tasks.wait(LIMIT)
        await self._tasks.close()
