"""Conversations across switches (spec D11): requests get their slots, slots are saved and brought back.

What is decided is in `core/conversations`; here it is waited for. Nothing here may fail a request: what can't be saved
or brought back is computed again, counted, and after a while not tried any more.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from roundhouse.core import conversations as decide
from roundhouse.core.conversations import Conversation, Prefix, Slot, Tally
from roundhouse.core.memory import say
from roundhouse.core.model import Phase
from roundhouse.runtime.talk import ask
from roundhouse.runtime.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from roundhouse.core.conversations import Choice, Saved, Talk
    from roundhouse.core.model import Fleet, InstanceId
    from roundhouse.ports import Conversations, Exchange, Reply
    from roundhouse.runtime.life import Life
    from roundhouse.runtime.shelf import Shelf
    from roundhouse.runtime.upstream import Upstream

LIMIT, SLOWEST = 5.0, 100e6
"""Seconds that a slot may take to be written or read, and the bytes per second for which there is more time."""
LEAVE_LIMIT = 60.0
"""Seconds that all slots of an engine may take together."""
FIRST_LINK = 500e6
"""Bytes per second that the disk is taken to write before it was measured."""
FEW = 64
"""Prompts of fewer computed tokens say nothing of an engine's speed."""


class Notes(Protocol):
    """Whoever keeps books of it."""

    def conversation(self, model: str, what: str, tokens: int, seconds: float, reason: str = "") -> None:
        """A conversation was `saved`, `restored`, or `failed` to be one of these for that reason."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request tells of its conversation.

    Attributes:
        owner: the API key's name.
        prompt: its text as bytes; None where that is not known.
        choices: how many answers it wants; those of one request take several slots.
    """

    owner: str
    talk: Talk
    prompt: bytes | None
    choices: int = 1


@dataclass(slots=True)
class Seat:
    """Where a request was put. `fields` come to its body; without a slot the engine chooses."""

    desk: Desk
    ask: Ask
    prefix: Prefix
    slot: Slot | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    restored: Saved | None = None
    expected: int = 0


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


class Desk:
    """The slots of one engine that runs."""

    def __init__(
        self,
        model: str,
        engine: Conversations,
        slots: list[Slot],
        tally: Tally,
        shelf: Shelf,
        ask: Callable[[Exchange], Awaitable[Reply]],
        notes: Notes,
        wall: Callable[[], float],
    ) -> None:
        self.slots = slots
        self._model = model
        self._engine = engine
        self._tally = tally
        self._shelf = shelf
        self._ask = ask
        self._notes = notes
        self._wall = wall
        self._locks = {slot.number: asyncio.Lock() for slot in slots}
        self._link = FIRST_LINK

    def held(self) -> dict[int, Conversation]:
        """What is known of the slots, by their numbers."""
        return {slot.number: slot.holds for slot in self.slots if slot.holds is not None}

    async def seat(self, ask: Ask) -> Seat:
        """Chooses a slot and prepares it. When cancelled, the slot is free again."""
        prefix = Prefix.of(ask.prompt) if ask.prompt is not None else Prefix()
        saved = () if self._tally.off else self._shelf.of(self._tally.state)
        choice = decide.choose(self.slots, saved, ask.owner, ask.talk, prefix) if ask.choices == 1 else None
        if choice is None:
            await self.keep_all(LEAVE_LIMIT)
            strange = any(decide.holds_strange(slot, ask.owner) for slot in self.slots)
            return Seat(self, ask, prefix, fields=self._engine.fields(None, fresh=strange))
        choice.slot.busy = True
        try:
            async with self._locks[choice.slot.number]:
                restored = await self._prepare(choice)
        except BaseException:
            choice.slot.busy = False
            raise
        slot = choice.slot
        strange = choice.fresh or choice.restore is not None  # what was half read is nobody's
        fields = self._engine.fields(slot.number, fresh=strange and restored is None)
        _forget(slot)
        return Seat(self, ask, prefix, slot, fields, restored, choice.expected)

    async def _prepare(self, choice: Choice) -> Saved | None:
        if choice.keep and not self._tally.off:
            await self._keep(choice.slot)
        saved = choice.restore
        if saved is None or saved.id not in self._shelf.saved:
            return None
        _forget(choice.slot)
        return saved if await self._restore(choice.slot, saved) else None

    def left(self, seat: Seat, timings: Mapping[str, object] | None, tokens: int | None, *, good: bool) -> Saved | None:
        """Notes what a slot came to hold; returns the saved conversation that the engine could not use."""
        slot = seat.slot
        if slot is None:  # it went where the engine chose
            self.forget()
            return None
        slot.busy = False
        if good:
            slot.holds = Conversation(seat.ask.owner, seat.ask.talk, seat.prefix, tokens or 0, self._wall())
        return self._judge(seat, timings) if timings is not None else None

    def forget(self) -> None:
        """What its idle slots hold is not known any more."""
        for slot in self.slots:
            if not slot.busy:
                _forget(slot)

    def _judge(self, seat: Seat, timings: Mapping[str, object]) -> Saved | None:
        computed, reused = self._engine.computed(timings), self._engine.reused(timings)
        if computed is not None and computed[0] >= FEW and computed[1] > 0:
            self._tally.prefill = computed[0] / computed[1]
        saved = seat.restored
        if saved is None or reused is None:
            return None
        if self._tally.judge(saved, seat.expected, reused):
            self._shelf.touch(saved, self._wall())
            return None
        self._notes.conversation(self._model, "failed", reused, 0.0, f"restored, but {reused} tokens of it were used")
        return saved

    async def keep_all(self, limit: float) -> None:
        """Saves what is worth it, the latest first, within `limit` seconds."""
        if self._tally.off:
            return
        try:
            async with asyncio.timeout(limit):
                for slot in decide.worth_keeping(self.slots):
                    async with self._locks[slot.number]:
                        again = not slot.busy and slot in decide.worth_keeping(self.slots)
                        if again and not await self._keep(slot):
                            return
        except TimeoutError:
            self._fail(f"not all were saved within {limit:.0f} s")

    async def _keep(self, slot: Slot) -> bool:
        """Saves a slot, or gives up to; false where the engine does not answer, so that no other need be tried."""
        held, slot.kept = slot.holds, ""
        assert held is not None
        size = held.likely_tokens * self._engine.per_token
        if not decide.pays(self._engine.per_token, self._link, self._tally.prefill):
            return True
        if not await self._shelf.make_room(size):
            self._fail(f"there is no room for {say(size)} (sessions.budget, or the disk)")
            return True
        began, part = time.monotonic(), ""
        try:
            part = await self._shelf.fresh()
            reply = await self._ask(self._engine.save(slot.number, part, _limit(size)))
            tokens = self._engine.tokens(reply)
            if not tokens or (held.tokens and abs(tokens - held.tokens) > 16 + held.tokens // 20):
                await self._shelf.discard(part)
                self._fail(_refusal("saved", reply, tokens, held), by_engine=reply.status != 0)
                return reply.status != 0
            saved = await self._shelf.put(part, self._tally.state, replace(held, tokens=tokens))
        except OSError as error:
            self._fail(f"it could not be saved: {error.strerror or error}")
            return True
        except BaseException:
            await self._shelf.discard(part)
            raise
        self._note_saved(slot, saved, time.monotonic() - began)
        return True

    def _note_saved(self, slot: Slot, saved: Saved, seconds: float) -> None:
        self._link = saved.size / max(seconds, 1e-3)
        slot.kept = saved.id
        self._tally.saved += 1
        self._notes.conversation(self._model, "saved", saved.conversation.tokens, seconds)

    async def _restore(self, slot: Slot, saved: Saved) -> bool:
        began = time.monotonic()
        reply = await self._ask(self._engine.restore(slot.number, self._shelf.file(saved), _limit(saved.size)))
        tokens = self._engine.tokens(reply)
        if tokens is None:
            self._fail(_refusal("restored", reply, tokens, saved.conversation), by_engine=reply.status != 0)
            if reply.status:
                await self._shelf.drop(saved)
            return False
        self._notes.conversation(self._model, "restored", tokens, time.monotonic() - began)
        return True

    def _fail(self, reason: str, *, by_engine: bool = False) -> None:
        if by_engine:
            self._tally.missed(reason)
        else:
            self._tally.failed += 1
        self._notes.conversation(self._model, "failed", 0, 0.0, reason)


def _forget(slot: Slot) -> None:
    """What it holds is not known any more."""
    slot.holds, slot.kept, slot.empty = None, None, False


def _limit(size: int) -> float:
    return LIMIT + size / SLOWEST


def _refusal(what: str, reply: Reply, tokens: int | None, held: Conversation) -> str:
    if reply.status == 0:
        return f"it could not be {what}: the engine did not answer in time"
    if reply.status == 200:
        return f"{tokens} tokens were {what}, not the {held.tokens} that were expected"
    return f"it could not be {what}: the engine said {reply.status} {reply.body[:200].decode(errors='replace')}"
