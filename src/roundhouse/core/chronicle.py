"""What happened and why, as notes of models and stories of requests.

Of a model: when it was waited for and what for, why it left, what its load took. Of a request that could not be
answered at once: how it fared.

Follows the planner's steps from outside: what was decided is read from actions and from the picture after the step, so
that nothing here can change a decision. Requests that find a free slot cost nothing. Words are made when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from roundhouse.core.model import (
    Arrived,
    Asked,
    BecameReady,
    Exited,
    Found,
    Grant,
    Phase,
    Progressed,
    Refuse,
    Start,
)
from roundhouse.core.obstacles import here, leaving, obstacles, shape
from roundhouse.core.room import candidates

if TYPE_CHECKING:
    from roundhouse.core.model import Action, Event, Fleet, Instance, InstanceId, Ticket
    from roundhouse.core.obstacles import Fact

MOST_REQUESTS = 2048
"""Requests whose story is kept at once: those that wait, and the ended ones that nobody has written down yet."""
MOST_STAGES = 16
MOST_LOOKED = 4
"""Models whose obstacles are worked out in one step: with fifty waiting, all at once would hold the loop for 3 ms."""


class Kind(StrEnum):
    """What a note is about."""

    WAITS = "waits"
    LEAVES = "leaves"
    STAYS = "stays"
    STARTS = "starts"
    READY = "ready"
    ENDED = "ended"
    ASKED = "asked"
    FOUND = "found"


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened to a model at a time of the planner's clock; `facts` are plain JSON values."""

    at: float
    model: str
    kind: Kind
    facts: Fact


@dataclass(slots=True)
class _Seen:
    """What was last seen of an instance; `expected` seconds of its load, `stages`: when each of them began."""

    model: str
    phase: Phase
    leaving: str
    expected: float | None
    stages: dict[str, float] = field(default_factory=dict)


class Chronicle:
    """Watches one fleet. `requests`: the story so far of those that waited, were refused or moved, by request id."""

    def __init__(self) -> None:
        self.requests: dict[str, Fact] = {}
        self._seen: dict[InstanceId, _Seen] = {}
        self._waits: dict[str, tuple[object, ...]] = {}
        self._look: tuple[object, ...] = ()
        self._unlooked: list[str] = []

    def saw(self, fleet: Fleet, event: Event, actions: list[Action], now: float) -> list[Note]:
        """Takes in one step and returns what is to be noted of it."""
        notes: list[Note] = []
        self._event(fleet, event, now, notes)
        self._requests(fleet, event, actions, now)
        for action in actions:
            if isinstance(action, Start):
                self._start(fleet, action, now, notes)
        self._instances(fleet, now, notes)
        self._waiting(fleet, now, notes)
        return notes

    def take(self, request: str) -> Fact | None:
        """The story of a request that has ended, None if there is none."""
        return self.requests.pop(request, None) if self.requests else None

    # --- requests ---

    def _requests(self, fleet: Fleet, event: Event, actions: list[Action], now: float) -> None:
        if isinstance(event, Arrived) and event.ticket.id in fleet.queued:
            story = self._story(event.ticket)
            state = fleet.models[event.ticket.model]
            story["arrived"] = {"here": here(fleet), "before": len(state.queue) - 1, "task": event.ticket.task}
        for action in actions:
            if isinstance(action, Grant):
                self._granted(fleet, action, now)
            elif isinstance(action, Refuse):
                story = self._story(action.ticket)
                story["refused"] = {
                    "after_s": round(now - action.ticket.arrived, 3),
                    "error": action.error.message,
                    "code": action.error.code,
                    "here": here(fleet),
                }

    def _granted(self, fleet: Fleet, grant: Grant, now: float) -> None:
        ticket = grant.ticket
        moved = grant.model != ticket.model
        if not moved and ticket.request not in self.requests:
            return
        use = fleet.use.get(grant.instance)
        told: Fact = {"after_s": round(now - ticket.arrived, 3), "active": use.active if use is not None else 1}
        if moved:
            told["moved"] = grant.model
        self._story(ticket)["granted"] = told

    def _story(self, ticket: Ticket) -> Fact:
        story = self.requests.get(ticket.request)
        if story is None:
            if len(self.requests) >= MOST_REQUESTS:
                del self.requests[next(iter(self.requests))]
            story = self.requests[ticket.request] = {"arrived": None}
        return story

    # --- models ---

    def _event(self, fleet: Fleet, event: Event, now: float, notes: list[Note]) -> None:
        if isinstance(event, Asked):
            if event.model in fleet.models:
                notes.append(Note(now, event.model, Kind.ASKED, {"want": event.want.value}))
        elif isinstance(event, Found):
            facts: Fact = {"pid": event.pid, "ready": event.ready}
            notes.append(Note(now, event.model, Kind.FOUND, facts))
        elif isinstance(event, (Progressed, BecameReady, Exited)):
            seen = self._seen.get(event.instance)
            if seen is None:
                return
            if isinstance(event, Progressed):
                if len(seen.stages) < MOST_STAGES and event.progress.stage:
                    seen.stages.setdefault(event.progress.stage, now)
            elif isinstance(event, BecameReady):
                notes.append(Note(now, seen.model, Kind.READY, _load(event, seen, now)))
            else:
                del self._seen[event.instance]
                notes.append(Note(now, seen.model, Kind.ENDED, _end(fleet, event, seen, now)))

    def _start(self, fleet: Fleet, start: Start, now: float, notes: list[Note]) -> None:
        state = fleet.models[start.model]
        facts: Fact = {"claim": dict(start.claim), "waiting": len(state.queue)}
        if state.instance is not None:
            facts["asked"] = state.instance.asked
        notes.append(Note(now, start.model, Kind.STARTS, facts))

    def _instances(self, fleet: Fleet, now: float, notes: list[Note]) -> None:
        """Who was told to leave in this step, or was called back."""
        for instance in fleet.live():
            seen = self._seen.get(instance.id)
            if seen is None:
                state = fleet.models[instance.model]
                expected = state.load_seconds or state.spec.expected
                self._seen[instance.id] = _Seen(instance.model, instance.phase, instance.leaving, expected)
            elif instance.phase is not seen.phase or instance.leaving != seen.leaving:
                if (note := _changed(fleet, instance, seen, now)) is not None:
                    notes.append(note)
                seen.phase, seen.leaving = instance.phase, instance.leaving

    def _waiting(self, fleet: Fleet, now: float, notes: list[Note]) -> None:
        """What each model that is waited for waits for, when that is something else than before."""
        if not fleet.queued and not self._waits:
            return
        look = _look(fleet)
        if look != self._look:
            self._look = look
            waiting = [name for name, state in fleet.models.items() if state.queue]
            self._waits = {name: self._waits[name] for name in waiting if name in self._waits}
            self._unlooked = sorted(waiting, key=self._waits.__contains__, reverse=True)  # new ones at the end
        if not self._unlooked:
            return
        order = [state.spec.id for state, _ in candidates(fleet, now)]
        for _ in range(min(MOST_LOOKED, len(self._unlooked))):
            name = self._unlooked.pop()
            state = fleet.models[name]
            facts = obstacles(fleet, state, now, order) if state.queue else []
            form = shape(facts)
            if facts and form != self._waits.get(name):
                self._waits[name] = form
                notes.append(Note(now, name, Kind.WAITS, {"for": facts, "waiting": len(state.queue)}))


def _look(fleet: Fleet) -> tuple[object, ...]:
    """What must have changed for anybody to wait for something else: much cheaper than asking what each waits for."""
    live = [(i.id, i.phase, i.leaving, i.progress.stage if i.progress is not None else "") for i in fleet.live()]
    waiting = [(name, s.blocked is not None) for name, s in fleet.models.items() if s.queue]
    return (*live, *waiting)


def _changed(fleet: Fleet, instance: Instance, seen: _Seen, now: float) -> Note | None:
    present = {Phase.STARTING, Phase.READY}
    if instance.phase not in present and (seen.phase in present or instance.leaving != seen.leaving):
        return Note(now, instance.model, Kind.LEAVES, leaving(fleet, instance, now))
    if instance.phase is Phase.READY and seen.phase is Phase.DRAINING:
        return Note(now, instance.model, Kind.STAYS, {"was": seen.leaving})
    return None


def _load(event: BecameReady, seen: _Seen, now: float) -> Fact:
    begun = [*seen.stages.items()]
    ends = [*(at for _, at in begun[1:]), now]  # one too many where it named no stage
    stages = {stage: round(end - at, 2) for (stage, at), end in zip(begun, ends, strict=False)}
    expected = None if seen.expected is None else round(seen.expected, 2)
    return {"seconds": round(event.seconds, 2), "expected_s": expected, "stages": stages}


def _end(fleet: Fleet, event: Exited, seen: _Seen, now: float) -> Fact:
    state = fleet.models.get(seen.model)  # a removed model's last trace may be this one
    failure = state.failure if state is not None else None
    wanted = event.expected or seen.phase is Phase.STOPPING
    facts: Fact = {"reason": event.reason, "expected": wanted, "was": seen.phase.value, "left": seen.leaving}
    if not wanted and failure is not None:
        facts |= {"times": len(failure.times), "short": event.short}
        if failure.until > now:
            facts["backoff_s"] = round(failure.until - now, 1)
    return facts
