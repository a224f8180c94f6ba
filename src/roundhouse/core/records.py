"""How the records of the picture are replaced: a model's, an instance's, who waits. Decides nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from roundhouse.core.lifecycle import Cue, advance
from roundhouse.core.model import Instance, Refuse, Use

if TYPE_CHECKING:
    from roundhouse.core.model import Action, Fleet, InstanceId, ModelState, Ticket
    from roundhouse.errors import RouterError


def change(fleet: Fleet, state: ModelState, **fields: object) -> ModelState:
    """Replaces a model's record."""
    after = replace(state, **fields)  # type: ignore[arg-type]  # names are checked by the dataclass itself
    fleet.models[state.spec.id] = after
    return after


def change_instance(fleet: Fleet, instance_id: InstanceId, **fields: object) -> None:
    """Replaces a living instance's record; nothing happens for one that is gone."""
    model = fleet.instances.get(instance_id)
    if model is None:
        return
    state = fleet.models[model]
    if state.instance is not None:
        change(fleet, state, instance=replace(state.instance, **fields))  # type: ignore[arg-type]  # as above


def move(fleet: Fleet, instance: Instance, cue: Cue, now: float, **fields: object) -> Instance | None:
    """Takes an instance through the lifecycle table and returns its new record, None when it is no more."""
    state = fleet.models[instance.model]
    phase = advance(instance.phase, cue)
    if phase is None:
        del fleet.instances[instance.id], fleet.use[instance.id]
        change(fleet, state, instance=None)
        return None
    since = instance.since if phase is instance.phase else now
    after = replace(instance, phase=phase, since=since, **fields)  # type: ignore[arg-type]  # as above
    change(fleet, state, instance=after)
    return after


def settle_in(fleet: Fleet, instance: Instance, now: float) -> None:
    """Gives a new instance its place in the picture; whoever asked for its model has got it.

    What it reads may push out of the page cache what was read ahead, so that is looked at anew.
    """
    fleet.ahead = None
    fleet.instances[instance.id] = instance.model
    fleet.use[instance.id] = Use(0, now)
    change(fleet, fleet.models[instance.model], instance=instance, asked=None, blocked=None)


def refuse(fleet: Fleet, ticket: Ticket, error: RouterError, actions: list[Action]) -> None:
    """Takes a waiting ticket out of its queue with an error."""
    model = fleet.queued.pop(ticket.id)
    state = fleet.models[model]
    fleet.models[model] = state.queued(tuple(t for t in state.queue if t.id != ticket.id))
    actions.append(Refuse(ticket, error))


def refuse_queue(fleet: Fleet, state: ModelState, error: RouterError, actions: list[Action]) -> None:
    """Refuses everybody who waits for a model."""
    for ticket in state.queue:
        refuse(fleet, ticket, error, actions)
