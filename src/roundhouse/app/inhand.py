"""Requests that have not ended: who waits and for what, who is being answered; one of them told of, or cancelled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from roundhouse.core.model import Cancelled, Phase
from roundhouse.core.turns import place_in_queue
from roundhouse.core.waiting import expected_load, explain, tickets_of
from roundhouse.errors import Conflict, NotFound, RequestCancelled

if TYPE_CHECKING:
    from roundhouse.core.model import Granted, ModelState, Ticket
    from roundhouse.observe.store import Request, Store
    from roundhouse.runtime.supervisor import Supervisor

MOST_TOLD = 500
"""Requests that are told one by one: each reason is worked out anew, on the loop that answers everybody."""


class InHand:
    """Answers from the picture, and from the history about those that have ended."""

    def __init__(self, supervisor: Supervisor, store: Store) -> None:
        self._supervisor = supervisor
        self._store = store

    def queue(self) -> dict[str, Any]:
        """Who waits, who is being answered, the longest first; loads with seconds since they began and as expected.

        Besides, which other programs hold the most of each device.
        """
        fleet, now = self._supervisor.fleet, self._supervisor.now()
        waiting = []
        loads = {}
        for name, state in fleet.models.items():
            if state.instance is not None and state.instance.phase is Phase.STARTING:
                loads[name] = {
                    "elapsed_s": round(now - state.instance.started, 1),
                    "expected_s": round(expected_load(state), 1),
                }
            waiting += [(ticket, place) for place, ticket in enumerate(_in_order(state), 1)]
        waiting.sort(key=lambda one: one[0].arrived)
        answered = sorted(fleet.granted.values(), key=lambda granted: granted.since)
        return {
            "waiting": [self._waiting(ticket, place) for ticket, place in waiting[:MOST_TOLD]],
            "total": len(waiting),
            "answering": [self._answering(granted) for granted in answered[:MOST_TOLD]],
            "loads": loads,
            "holders": {device.id: list(device.holders) for device in fleet.devices.values() if device.holders},
            "pinned": [name for name, state in fleet.models.items() if state.spec.pinned],
        }

    async def one(self, request: str) -> dict[str, Any]:
        """A request as it is now: `state` is waiting, answering or ended, then with its `outcome`.

        Raises:
            NotFound: there is none of that id.
        """
        fleet = self._supervisor.fleet
        for ticket, granted in tickets_of(fleet, request):
            at = time.time() - (self._supervisor.now() - ticket.arrived)
            if granted is not None:
                return {"id": request, "state": "answering", "at": at, **self._answering(granted)}
            place = _in_order(fleet.models[ticket.model]).index(ticket) + 1
            return {"id": request, "state": "waiting", "at": at, **self._waiting(ticket, place)}
        row = await self._ended(request)
        return {"state": "ended", "outcome": outcome(row), **row._asdict()}

    async def cancel(self, request: str, by: str) -> dict[str, Any]:
        """Ends a request, or all of that id where a client used it more than once.

        Args:
            request: its id.
            by: the operator's key.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has ended already.
        """
        found = tickets_of(self._supervisor.fleet, request)
        if not found:
            row = await self._ended(request)
            raise Conflict(f"The request '{request}' has ended already, with status {row.status}.")
        for ticket, _ in found:
            self._supervisor.post(Cancelled(ticket.id, by))
        ticket, granted = found[0]
        return {"id": request, "cancelled": "waiting" if granted is None else "answering", "model": ticket.model}

    async def _ended(self, request: str) -> Request:
        row = await self._store.request(request)
        if row is None:
            raise NotFound(
                f"There is no request '{request}'. Its id is the answer's header x-request-id; GET /api/v1/queue has "
                "those that have not ended, and requests older than the history reaches are forgotten."
            )
        return row

    def _waiting(self, ticket: Ticket, place: int) -> dict[str, Any]:
        fleet, now = self._supervisor.fleet, self._supervisor.now()
        return {
            "ticket": ticket.id,
            "request": ticket.request,
            "model": ticket.model,
            "place": place,
            "waited_s": round(now - ticket.arrived, 1),
            "key": ticket.key,
            "task": ticket.task,
            "why": [text for text in explain(fleet, ticket, now).details if text != ticket.model],
        }

    def _answering(self, granted: Granted) -> dict[str, Any]:
        ticket, now = granted.ticket, self._supervisor.now()
        return {
            "ticket": ticket.id,
            "request": ticket.request,
            "model": self._supervisor.fleet.instances.get(granted.instance, ticket.model),
            "wanted": ticket.model,
            "waited_s": round(granted.since - ticket.arrived, 1),
            "answering_s": round(now - granted.since, 1),
            "key": ticket.key,
            "task": ticket.task,
        }


def outcome(row: Request) -> str:
    """How a request ended, in a word: ok, cancelled, left (its client did), or failed."""
    if row.error.startswith(RequestCancelled.SAID):
        return "cancelled"
    if row.status == RequestCancelled.status:
        return "left"
    return "ok" if row.status < 400 else "failed"


def _in_order(state: ModelState) -> list[Ticket]:
    return sorted(state.queue, key=lambda ticket: place_in_queue(state, ticket))
