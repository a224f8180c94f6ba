"""Why requests waited and models came and went: notes what was decided, and tells it to whoever asks (spec G5)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from roundhouse.core.chronicle import Chronicle, Kind
from roundhouse.core.obstacles import obstacles
from roundhouse.core.room import candidates
from roundhouse.core.waiting import tickets_of
from roundhouse.errors import NotFound
from roundhouse.observe.store import NoteRow, Request
from roundhouse.observe.why import LOOK_BACK, of_model, of_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from roundhouse.api.record import Record
    from roundhouse.core.chronicle import Note
    from roundhouse.core.model import Action, Event, Fleet, Ticket
    from roundhouse.observe.store import Store
    from roundhouse.observe.why import Line


class Reasons:
    """Keeps them. `clock` is the planner's."""

    def __init__(self, fleet: Fleet, store: Store, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._store = store
        self._clock = clock
        self._chronicle = Chronicle()

    def saw(self, event: Event, actions: list[Action], now: float) -> None:
        """A step, and what followed from it."""
        for note in self._chronicle.saw(self._fleet, event, actions, now):
            self._store.record_note(NoteRow(self._wall(note.at), note.model, note.kind, _beneficiary(note), note.facts))

    def story(self, record: Record) -> str:
        """How a request fared that has ended, for the history; '' if it was answered at once, with nothing to tell."""
        story, talk = self._chronicle.take(record.id), record.conversation
        if talk is not None and (story is not None or talk["restored"]):
            story = {**(story or {"arrived": None}), "conversation": talk}
        return orjson.dumps(story).decode() if story is not None else ""

    async def of_request(self, request: str, key: str | None = None) -> dict[str, Any]:
        """The story of a request, waiting, being answered or ended; `key`: whose it must be, None = anybody's.

        Raises:
            NotFound: there is none of that id.
        """
        live = self._live(request)
        found = live[0] if live is not None else await self._store.request(request)
        if found is None or key not in {None, found.key}:
            raise NotFound(
                f"There is no request '{request}' in the history. Its id is the answer's header x-request-id; "
                "requests older than the history reaches are forgotten."
            )
        wanted = found.wanted or found.model
        notes = await self._store.notes(wanted, found.at - LOOK_BACK, found.at + (found.total_s or 0.0) + 1.0)
        lines = of_request(found, notes, live[1] if live is not None else None)
        return {"id": request, "model": wanted, "ended": live is None, "lines": as_told(lines)}

    async def of_model(self, model: str) -> dict[str, Any]:
        """What became of a model of late, and how it is now."""
        notes = await self._store.notes(model, 0.0, time.time() + 1.0, 40)
        return {"model": model, "now": self._now(model), "lines": as_told(of_model(notes, model))}

    def _wall(self, at: float) -> float:
        return time.time() - (self._clock() - at)

    def _live(self, request: str) -> tuple[Request, list[dict[str, object]] | None] | None:
        """A request that waits or is being answered, with what it waits for; None if it is neither."""
        fleet, now = self._fleet, self._clock()
        for ticket, granted in tickets_of(fleet, request):
            if granted is not None:
                return self._unended(ticket, fleet.instances.get(granted.instance, ""), now), None
            order = [state.spec.id for state, _ in candidates(fleet, now)]
            return self._unended(ticket, "", now), obstacles(fleet, fleet.models[ticket.model], now, order)
        return None

    def _unended(self, ticket: Ticket, model: str, now: float) -> Request:
        story = self._chronicle.requests.get(ticket.request)
        why = orjson.dumps(story).decode() if story is not None else ""
        task = "background task" if ticket.task else ""
        at, total = self._wall(ticket.arrived), now - ticket.arrived
        return Request(ticket.request, at, model, ticket.key, task, 0, total_s=total, wanted=ticket.model, why=why)

    def _now(self, model: str) -> str:
        fleet, now = self._fleet, self._clock()
        state = fleet.models[model]
        instance = state.instance
        if instance is not None:
            use = fleet.use[instance.id]
            since = f"for {now - instance.since:.0f} s"
            doing = f", answering {use.active} of at most {instance.slots}" if instance.phase.value == "ready" else ""
            kept = ", pinned" if state.spec.pinned else ""
            leaving = f" ({instance.leaving})" if instance.leaving else ""
            return f"{model} is {instance.phase.value} {since}{doing}{kept}{leaving}."
        if state.queue:
            return f"{model} is not loaded; {len(state.queue)} waiting."
        if state.failure is not None:
            return f"{model} is not loaded; it failed last: {state.failure.reason}"
        return f"{model} is not loaded, and nobody waits for it."


def _beneficiary(note: Note) -> str:
    """For whose room it happened, '' if for nobody's."""
    if note.kind is Kind.LEAVES:
        return str(note.facts.get("for", ""))
    left = str(note.facts.get("left", "")) if note.kind is Kind.ENDED else ""
    return left.removeprefix("room for ") if left.startswith("room for ") else ""


def as_told(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Lines as JSON."""
    return [{"at": round(line.at, 3), "text": line.text} for line in lines]
