"""Who starts next, and who must leave for it.

Models that somebody waits for are looked at in the order of their oldest waiting request, so nobody waits for ever: an
earlier one's room is promised to it before a later one may have any. Everything here only reads the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.core.memory import fits, free, give, lacking, say, smallest_set, take, usable, wanted
from roundhouse.core.model import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from roundhouse.core.memory import Room
    from roundhouse.core.model import Claim, Fleet, Instance, InstanceId, ModelState


@dataclass(slots=True)
class Plan:
    """What should happen now.

    Attributes:
        start: models whose engine can be started at once.
        leave: instances that must drain, with the model they make room for.
        blocked: models that can't fit because of processes that are not ours, with the reason in words.
        impossible: models that can never fit as things are configured, with the reason in words.
    """

    start: list[str] = field(default_factory=list)
    leave: dict[InstanceId, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    impossible: dict[str, str] = field(default_factory=dict)


def wanted_since(state: ModelState) -> float | None:
    """Since when somebody waits for this model in a way that may cause a switch: background tasks don't (spec D7)."""
    times = [ticket.arrived for ticket in state.queue if not ticket.task]
    if state.asked is not None:
        times.append(state.asked)
    return min(times, default=None)


def plan_room(fleet: Fleet, now: float) -> Plan:
    """Walks the waiting models from the oldest on and gives each what it needs: free room, or others' places."""
    plan = Plan()
    room = free(fleet)
    coming = dict(room)
    for instance in fleet.live():
        if instance.phase is Phase.STOPPING or (instance.phase is Phase.DRAINING and not instance.for_room):
            give(coming, instance.claim)
    for state, since in _candidates(fleet):
        reason = _impossible(fleet, state)
        if reason:
            plan.impossible[state.spec.id] = reason
            continue
        foreign = _blocked(fleet, state)
        if foreign:
            plan.blocked[state.spec.id] = foreign
            continue
        _place(fleet, state, since, now, room, coming, plan)
    _place_tasks(fleet, room, coming, plan)
    return plan


def _candidates(fleet: Fleet) -> list[tuple[ModelState, float]]:
    found = []
    for state in fleet.models.values():
        if state.instance is None:
            since = wanted_since(state)
            if since is not None:
                found.append((state, since))
    found.sort(key=lambda item: item[1])
    return found


def _place(fleet: Fleet, state: ModelState, since: float, now: float, room: Room, coming: Room, plan: Plan) -> None:
    """Gives one model its place: now, after others have left, or a promise."""
    claim = wanted(fleet, state.claim)
    if fits(claim, room, coming):
        take(room, claim)
        take(coming, claim)
        if not _loading_beside(fleet, claim, plan.start):
            plan.start.append(state.spec.id)
        return
    if not fits(claim, coming):
        offers = [(i.id, i.claim) for i in _victims(fleet, since, now) if i.id not in plan.leave]
        for key in smallest_set(claim, coming, offers) or ():
            plan.leave[key] = state.spec.id
            leaver = fleet.models[fleet.instances[key]].instance
            assert leaver is not None
            give(coming, leaver.claim)
    take(coming, claim)


def _place_tasks(fleet: Fleet, room: Room, coming: Room, plan: Plan) -> None:
    """A background task may start its model only when nothing has to leave for it, after everybody else (spec D7)."""
    for state in fleet.models.values():
        idle = state.instance is None and state.queue and wanted_since(state) is None
        claim = wanted(fleet, state.claim)
        if idle and fits(claim, room, coming) and not _loading_beside(fleet, claim, plan.start):
            take(room, claim)
            take(coming, claim)
            plan.start.append(state.spec.id)


def _loading_beside(fleet: Fleet, claim: Claim, starting: Iterable[str]) -> bool:
    """Whether a load is under way on one of these devices: loads on one device happen one at a time (spec D2)."""
    loading = [i.claim for i in fleet.live() if i.phase is Phase.STARTING]
    loading += [fleet.models[name].claim for name in starting]
    return any(device in other for other in loading for device in claim)


def _victims(fleet: Fleet, since: float, now: float) -> list[Instance]:
    """Instances that may be asked to leave for somebody who waits since `since`, the least missed first.

    Already leaving ones first, then idle ones by last use, then busy ones (they drain, spec D3). Never a pinned one,
    one within its `min_resident`, nor one with a request waiting for longer than the one who wants the room.
    """
    found = []
    for instance in fleet.live():
        state = fleet.models[instance.model]
        leaving = instance.phase is Phase.DRAINING and instance.for_room
        if not leaving and instance.phase is not Phase.READY:
            continue
        if state.spec.pinned or (not leaving and now < instance.since + state.spec.min_resident):
            continue
        older = wanted_since(state)
        if older is not None and older < since:
            continue
        use = fleet.use[instance.id]
        found.append((not leaving, use.active > 0, use.last, instance.id, instance))
    found.sort(key=lambda item: item[:4])
    return [item[-1] for item in found]


def _staying(fleet: Fleet) -> list[Instance]:
    """Pinned models' instances, unless an operator has told them to leave."""
    here = {Phase.STARTING, Phase.READY}
    return [i for i in fleet.live() if i.phase in here and fleet.models[i.model].spec.pinned]


def _impossible(fleet: Fleet, state: ModelState) -> str | None:
    """Why a model can never be loaded as things are configured."""
    whole = {device.id: device.total for device in fleet.devices.values()}
    if missing := lacking(state.claim, whole):
        device = next(iter(missing))
        if device not in fleet.devices:
            return f"it is to run on '{device}', which this machine does not have"
        return (
            f"it needs {say(state.claim[device])} on {device}, which has {say(whole[device])} in all; "
            f"lower its context or slots, or raise the budget (devices.{device})"
        )
    staying = _staying(fleet)
    for instance in staying:
        take(whole, instance.claim)
    if missing := lacking(state.claim, whole):
        device = next(iter(missing))
        pinned = ", ".join(instance.model for instance in staying if device in instance.claim)
        return (
            f"it needs {say(state.claim[device])} on {device}, of which pinned models ({pinned}) leave "
            f"{say(max(0, whole[device]))}; unpin or unload one"
        )
    return None


def _blocked(fleet: Fleet, state: ModelState) -> str | None:
    """Who, other than us, holds the memory that this model would need even if all of ours left."""
    most = {device.id: usable(device) for device in fleet.devices.values()}
    for instance in _staying(fleet):
        take(most, instance.claim)
    claim = wanted(fleet, state.claim)
    missing = lacking(claim, most)
    if not missing:
        return None
    device = fleet.devices[next(iter(missing))]
    who = ", ".join(device.holders) or "other programs"
    return (
        f"it needs {say(claim[device.id])} on {device.id}, where {who} leave only "
        f"{say(max(0, most[device.id]))}; end one of them or wait"
    )
