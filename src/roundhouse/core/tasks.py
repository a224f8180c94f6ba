"""Background tasks (spec D7): titles, tags and other chores never cause a switch of models.

A task runs on its own model if that is loaded or loading; else on a loaded chat model (`tasks: resident`), else on
`task_model`, else it gets a quick refusal. Before it goes elsewhere or is refused it is held for a moment: Open WebUI
sends a title up to half a second ahead of its chat (1 to 435 ms, 47 of 49 new chats measured), whose load it then
joins. Starting its own model where nothing must leave is decided in `room`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.core.model import Kind, Phase, TaskRule
from roundhouse.core.notes import has_free_slot
from roundhouse.core.turns import wanted_since
from roundhouse.errors import TaskRefused

if TYPE_CHECKING:
    from roundhouse.core.model import Fleet, Instance, ModelState, Ticket


def held_until(fleet: Fleet, ticket: Ticket) -> float:
    """Until when a task of a model that nobody else wants waits for its chat."""
    return ticket.arrived + fleet.policy.task_hold


def host_for(fleet: Fleet, ticket: Ticket) -> Instance | None:
    """Where a task of an unloaded model may run now, None if nothing loaded has a free slot for it."""
    return next((state.instance for state in _hosts(fleet, ticket) if has_free_slot(fleet, state)), None)


def refusal(fleet: Fleet, state: ModelState, ticket: Ticket) -> TaskRefused | None:
    """Why a waiting task should not wait any longer, None if it should."""
    if fleet.policy.tasks is TaskRule.QUEUE or state.instance is not None or wanted_since(state) is not None:
        return None
    if _hosts(fleet, ticket):
        return None
    return TaskRefused(
        f"Background task refused: model '{ticket.model}' is not loaded, and a background task never switches models "
        "(scheduling.tasks; scheduling.task_model names a model for such work).",
        retry_after=30.0,
    )


def _hosts(fleet: Fleet, ticket: Ticket) -> list[ModelState]:
    """Loaded models that may serve a task in place of its own: the most recently used first, `task_model` last."""
    if fleet.policy.tasks is not TaskRule.RESIDENT:
        return []
    wanted = fleet.models[ticket.model]
    if wanted.spec.kind is not Kind.CHAT:
        return []
    found = [s for s in fleet.models.values() if _may_host(s, ticket)]
    found.sort(key=lambda s: (s.spec.id == fleet.policy.task_model, -_last_use(fleet, s)))
    return found


def _last_use(fleet: Fleet, state: ModelState) -> float:
    return fleet.use[state.instance.id].last if state.instance is not None else 0.0


def _may_host(state: ModelState, ticket: Ticket) -> bool:
    ready = state.instance is not None and state.instance.phase is Phase.READY
    allowed = ticket.allowed is None or state.spec.id in ticket.allowed
    return ready and allowed and state.spec.kind is Kind.CHAT and not state.spec.remote
