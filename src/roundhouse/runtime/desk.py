"""The slots of one engine that runs: who sits where, what is saved and brought back (spec D11).

What is decided is in `core/conversations`; here it is waited for. Nothing here may fail a request: what can't be saved
or brought back is computed again, counted, and after a while not tried any more.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from roundhouse.core import conversations as decide
from roundhouse.core.conversations import Conversation, Prefix
from roundhouse.core.memory import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from roundhouse.core.conversations import Choice, Saved, Slot, Talk, Tally
    from roundhouse.ports import Conversations, Exchange, Reply
    from roundhouse.runtime.shelf import Shelf

LIMIT, SLOWEST = 5.0, 100e6
"""Seconds that a slot may take to be written or read, and the bytes per second for which there is more time."""
LEAVE_LIMIT = 60.0
"""Seconds that all slots of an engine may take together."""
FIRST_LINK = 500e6
"""Bytes per second that the disk is taken to write before it was measured."""
TRIAL_LIMIT = 1800.0
"""Seconds for a prompt to be computed by a trial; its client may leave any time before."""
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
    floor: int = 0
    """What its slot holds may be used if so many tokens of it are the request's: it has to be tried."""


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
            barred = any(decide.is_barred(slot, ask.owner) for slot in self.slots)
            return Seat(self, ask, prefix, fields=self._engine.fields(None, fresh=barred))
        choice.slot.busy = True
        try:
            async with self._locks[choice.slot.number]:
                restored = await self._prepare(choice)
        except BaseException:
            choice.slot.busy = False
            raise
        slot = choice.slot
        barred = choice.fresh or choice.restore is not None  # what was half read is nobody's
        fields = self._engine.fields(slot.number, fresh=barred and restored is None)
        _forget(slot)
        floor = self._engine.floor(restored.conversation.tokens) if restored is not None else choice.floor
        return Seat(self, ask, prefix, slot, fields, restored, choice.expected, floor)

    async def holds_up(self, seat: Seat, path: str, body: bytes) -> bool:
        """Tries whether a request goes on after the floor; if not, `fields` say that it uses nothing of its slot."""
        reply = await self._ask(self._engine.trial(path, body, TRIAL_LIMIT))
        found = self._engine.found(reply)
        if found is not None and found >= seat.floor:
            return True
        assert seat.slot is not None
        seat.fields = self._engine.fields(seat.slot.number, fresh=True)
        if seat.restored is not None and found is not None:
            self._tally.missed(f"the request had {found} of {seat.floor} restored tokens, and a window can't go back")
            self._notes.conversation(
                self._model, "failed", found, 0.0, "restored, but the request departs before its end"
            )
        seat.floor, seat.restored = 0, None
        return False

    async def clear_floors(self) -> None:
        """Empties the slots that only a request which was tried may use."""
        for slot in self.slots:
            if slot.holds is not None and slot.holds.floor and not slot.busy:
                async with self._locks[slot.number]:
                    await self._ask(self._engine.erase(slot.number, LIMIT))

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
            held = Conversation(seat.ask.owner, seat.ask.talk, seat.prefix, tokens or 0, self._wall(), seat.floor)
            slot.holds = held
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
            if not saved.size:
                await self._shelf.drop(saved)
                self._fail(f"{tokens} tokens were saved, but not where they were to go", by_engine=True)
                return True
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
