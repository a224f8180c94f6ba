"""What each event changes in the picture, before anybody decides anything. The deciding is in `planner`."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import replace
from typing import TYPE_CHECKING

from roundhouse.core.forecast import retry_after
from roundhouse.core.lifecycle import Cue
from roundhouse.core.memory import wanted
from roundhouse.core.model import (
    Arrived,
    Asked,
    BecameReady,
    Cancelled,
    ClosingTime,
    Cut,
    Departed,
    Event,
    Exited,
    Failure,
    Found,
    Instance,
    Measured,
    Objected,
    Phase,
    Progressed,
    Refuse,
    Reloaded,
    Started,
    Surveyed,
    Tick,
    Use,
    Want,
    is_seat,
)
from roundhouse.core.records import change, change_instance, move, refuse, refuse_queue, settle_in
from roundhouse.core.reload import comes_back, forget, is_outdated, reloaded, removed_error
from roundhouse.core.turns import has_free_slot
from roundhouse.errors import LoadFailed, QueueFull, RequestCancelled, RouterError, ShuttingDown, TooManyRequests

if TYPE_CHECKING:
    from roundhouse.core.model import Action, Claim, DeviceId, Fleet, ModelState, Ticket, TicketId

FAILURE_MEMORY = 600.0
"""Seconds for which a crash or failed load is remembered (spec A9)."""
PATIENT_FAILURES = 2
"""Failures within that time that are forgiven; the next one starts the backoff."""
BACKOFF_FIRST, BACKOFF_MOST = 5.0, 300.0
GROWTH = 1.25
"""By what the estimate of a model is raised that found too little memory."""
DEFAULT_SLOTS = 1
"""For an engine that neither says its slots nor has them set: one answer at a time is always right."""


def note(fleet: Fleet, event: Event, now: float, actions: list[Action]) -> None:  # noqa: C901, PLR0912  # one case per event: the type checker finds a missing one
    """Writes an event into the picture; refusals that need no plan go to `actions`."""
    match event:
        case Arrived(ticket):
            _arrived(fleet, ticket, now, actions)
        case Departed(ticket_id):
            _departed(fleet, ticket_id, now)
        case Started(instance, pid):
            change_instance(fleet, instance, pid=pid)
        case Progressed():
            _progressed(fleet, event)
        case BecameReady():
            _became_ready(fleet, event, now)
        case Exited():
            _exited(fleet, event, now, actions)
        case Measured():
            _measured(fleet, event)
        case Surveyed(devices):
            fleet.devices.update({device.id: device for device in devices})
        case Asked(model, want):
            _asked(fleet, model, want, now)
        case Cancelled(ticket_id, by):
            _cancelled(fleet, ticket_id, by, actions)
        case Objected(model, reason):
            _objected(fleet, model, reason, now)
        case Found():
            _found(fleet, event, now)
        case Reloaded():
            reloaded(fleet, event, now, actions)
        case ClosingTime():
            _closing_time(fleet, actions)
        case Tick():
            pass


def give_up_waiting(fleet: Fleet, state: ModelState, error: RouterError, now: float, actions: list[Action]) -> None:
    """Refuses everybody who waits for a model; an operator's wish for it ends as a failure that can be looked up."""
    failure = state.failure
    if state.asked is not None:
        times = failure.times if failure is not None else ()
        failure = Failure(error.message, times, now)
    refuse_queue(fleet, change(fleet, state, asked=None, blocked=None, failure=failure), error, actions)


def backoff_error(state: ModelState, now: float) -> LoadFailed | None:
    """The answer for a model that must not be tried now, None if it may."""
    failure = state.failure
    if failure is None or failure.until <= now or state.instance is not None:
        return None
    wait, times = failure.until - now, len(failure.times)
    return LoadFailed(
        f"Model '{state.spec.id}' failed {times} times in a row and is tried again in {math.ceil(wait)} s: "
        f"{failure.reason}",
        retry_after=wait,
    )


def _arrived(fleet: Fleet, ticket: Ticket, now: float, actions: list[Action]) -> None:
    error = _objection(fleet, ticket, now)
    if error is not None:
        actions.append(Refuse(ticket, error))
        return
    state = fleet.models[ticket.model]
    if not ticket.task:
        instance = state.instance
        busy = bool(state.queue) or (instance is not None and fleet.use[instance.id].active > 0)
        fleet.habits[ticket.model].arrived(ticket.talk, now, busy=busy)
    fleet.queued[ticket.id] = ticket.model
    queue = [*state.queue]
    insort(queue, ticket, key=lambda other: (other.arrived, other.id))  # a slow body may come in after a later request
    fleet.models[ticket.model] = state.queued(tuple(queue))


def _objection(fleet: Fleet, ticket: Ticket, now: float) -> RouterError | None:
    """Why a request can't even wait."""
    if fleet.closing:
        return ShuttingDown("Roundhouse is shutting down; try again soon.")
    state = fleet.models.get(ticket.model)
    if state is None or ticket.model in fleet.removed:
        return removed_error(ticket.model)
    if (error := backoff_error(state, now)) is not None:
        return error
    if has_free_slot(fleet, state):
        return None
    policy = fleet.policy
    mine = sum(1 for s in fleet.models.values() for t in s.queue if t.key == ticket.key)
    if mine >= policy.queue_per_key:
        return TooManyRequests(
            f"{mine} requests of this key are waiting already, the limit per key (scheduling.queue.per_key); "
            "wait for some to end.",
            retry_after=retry_after(fleet, state, now),
        )
    if len(fleet.queued) >= policy.queue_limit:
        return QueueFull(
            f"{len(fleet.queued)} requests are waiting already, the limit (scheduling.queue.limit); try again later.",
            retry_after=retry_after(fleet, state, now),
        )
    return None


def _departed(fleet: Fleet, ticket_id: int, now: float) -> None:
    model = fleet.queued.pop(ticket_id, None)
    if model is not None:
        state = fleet.models[model]
        fleet.models[model] = state.queued(tuple(t for t in state.queue if t.id != ticket_id))
        return
    granted = fleet.granted.pop(ticket_id, None)
    if granted is None:
        return
    ticket, seconds = granted.ticket, now - granted.since
    if not ticket.task:
        fleet.habits[ticket.model].departed(ticket.talk, now, seconds)
    state = fleet.models[ticket.model]
    if state.shares.charged:
        change(fleet, state, shares=state.shares.ended(ticket.who, granted.charged, seconds))
    use = fleet.use.get(granted.instance)
    if use is not None:
        fleet.use[granted.instance] = Use(use.active - 1, now, use.chores - ticket.task)
    forget(fleet)


def _cancelled(fleet: Fleet, ticket_id: TicketId, by: str, actions: list[Action]) -> None:
    """Who waits is refused. Who is being answered keeps the slot until it has departed, as when its client leaves."""
    error = RequestCancelled(by)
    if (model := fleet.queued.get(ticket_id)) is not None:
        ticket = next(ticket for ticket in fleet.models[model].queue if ticket.id == ticket_id)
        refuse(fleet, ticket, error, actions)
    elif (granted := fleet.granted.get(ticket_id)) is not None:
        actions.append(Cut(granted.ticket, error))


def _progressed(fleet: Fleet, event: Progressed) -> None:
    """Takes a load's progress; what the engine says itself is not overwritten by our guess."""
    model = fleet.instances.get(event.instance)
    instance = fleet.models[model].instance if model is not None else None
    if instance is None:
        return
    known = instance.progress
    if event.progress.guessed and known is not None and known.fraction is not None and not known.guessed:
        return
    change_instance(fleet, event.instance, progress=event.progress)


def _became_ready(fleet: Fleet, event: BecameReady, now: float) -> None:
    model = fleet.instances.get(event.instance)
    if model is None:
        return
    state = fleet.models[model]
    assert state.instance is not None
    slots = state.spec.slots or event.slots or DEFAULT_SLOTS
    move(fleet, state.instance, Cue.PASSED_PROBE, now, turn=now, slots=slots, progress=None, unwanted_since=None)
    fleet.use[event.instance] = Use(0, now)
    change(fleet, fleet.models[model], load_seconds=event.seconds, idle_since=now, grown=False)


def _exited(fleet: Fleet, event: Exited, now: float, actions: list[Action]) -> None:
    model = fleet.instances.get(event.instance)
    if model is None:
        return
    instance = fleet.models[model].instance
    assert instance is not None
    was = instance.phase
    move(fleet, instance, Cue.GONE, now)
    state = change(fleet, fleet.models[model], idle_since=now)
    if instance.for_room and was is Phase.STOPPING:
        state = change(fleet, state, made_room=now)
    if comes_back(fleet, instance):
        state = change(fleet, state, asked=now)
    forget(fleet)
    if event.expected or was is Phase.STOPPING:
        return
    state = change(fleet, state, failure=_failed(state.failure, event.reason, now))
    if event.short and _grow(fleet, state) and was is Phase.STARTING:
        # Once more, with the room of others: who waits goes on waiting (spec D10).
        change(fleet, fleet.models[model], grown=True, asked=now if instance.asked else state.asked)
        return
    state = fleet.models[model]
    if was is Phase.STARTING:
        assert state.failure is not None
        error = LoadFailed(
            f"Model '{model}' could not be loaded: {event.reason}", retry_after=max(1.0, state.failure.until - now)
        )
        refuse_queue(fleet, state, error, actions)


def _failed(before: Failure | None, reason: str, now: float) -> Failure:
    """Adds one failure; from the third within 10 minutes there is a backoff of 5 s, doubling to 5 min (spec A9)."""
    times = (*(t for t in (before.times if before else ()) if now - t < FAILURE_MEMORY), now)
    beyond = len(times) - PATIENT_FAILURES - 1
    until = now if beyond < 0 else now + min(BACKOFF_MOST, BACKOFF_FIRST * 2**beyond)
    return Failure(reason, times, until)


def _measured(fleet: Fleet, event: Measured) -> None:
    model = fleet.instances.get(event.instance)
    if model is None:
        return
    state = fleet.models[model]
    assert state.instance is not None
    change_instance(fleet, event.instance, claim={**state.instance.claim, **event.claim})
    if is_outdated(fleet, state.instance):
        return  # its figures say nothing of later starts
    _relearn(fleet, fleet.models[model], _memory_of(state.instance.claim), event.learned)


def _memory_of(claim: Claim) -> set[DeviceId]:
    return {device for device in claim if not is_seat(device)}


def _relearn(fleet: Fleet, state: ModelState, measured: set[DeviceId], sizes: Claim) -> None:
    """Takes figures of one place over into the claims of those like it: the same devices, or one GPU for another.

    More than a device has must not make a model impossible that has just run there: it then has it for itself.
    """

    def within(device: DeviceId, size: int) -> int:
        least = max(size, state.spec.told.get(device, 0))
        return min(least, fleet.devices[device].total) if device in fleet.devices else least

    def renewed(claim: Claim) -> Claim:
        own = _memory_of(claim)
        if own == measured:
            return {**claim, **{device: within(device, size) for device, size in sizes.items()}}
        if len(own) == len(sizes) == 1 and "ram" not in {*own, *sizes}:
            (device,), (size,) = own, sizes.values()
            return {**claim, device: within(device, size)}
        return claim

    change(fleet, state, claim=renewed(state.claim), elsewhere=tuple(renewed(claim) for claim in state.elsewhere))


def _grow(fleet: Fleet, state: ModelState) -> bool:
    """Raises the estimates of a model that found too little memory; False if it was done already, or it had it all."""
    if state.grown:
        return False

    def grown(claim: Claim) -> Claim:
        return {
            device: size
            if is_seat(device)
            else min(max(int(size * GROWTH), size + 1), fleet.devices[device].total)
            if device in fleet.devices
            else size
            for device, size in claim.items()
        }

    after = change(fleet, state, claim=grown(state.claim), elsewhere=tuple(grown(claim) for claim in state.elsewhere))
    return after.claim != state.claim or after.elsewhere != state.elsewhere


def _asked(fleet: Fleet, model: str, want: Want, now: float) -> None:
    state = fleet.models.get(model)
    if state is None or (want is not Want.UNLOAD and model in fleet.removed):
        return
    instance = state.instance
    if want in {Want.PIN, Want.UNPIN}:
        pinned, configured = want is Want.PIN, state.spec.pinned is not state.pin_asked
        change(fleet, state, spec=replace(state.spec, pinned=pinned), pin_asked=pinned is not configured)
        return
    if want is Want.LOAD:
        if fleet.closing:
            return
        if instance is None or instance.phase is Phase.STOPPING or is_outdated(fleet, instance):
            change(fleet, state, asked=now, failure=None)
        elif instance.phase is Phase.DRAINING:
            move(fleet, instance, Cue.RECALLED, now, leaving="", for_room=False, asked=True)
        else:
            change_instance(fleet, instance.id, asked=True, unwanted_since=None)
        return
    loading = instance is not None and instance.phase is Phase.STARTING
    change(fleet, state, asked=None, idle_since=now if loading else state.idle_since)
    if instance is not None and instance.phase in {Phase.STARTING, Phase.READY}:
        move(fleet, instance, Cue.TOLD_TO_LEAVE, now, leaving="unload asked", for_room=False, asked=False)
    elif instance is not None and instance.phase is Phase.DRAINING:
        change_instance(fleet, instance.id, leaving="unload asked", for_room=False)


def _objected(fleet: Fleet, model: str, reason: str, now: float) -> None:
    """It is shown as a failure, but is none of the engine's, so it leads to no backoff: it may be mended any time."""
    state = fleet.models.get(model)
    if state is None:
        return
    times = state.failure.times if state.failure is not None else ()
    change(fleet, state, failure=Failure(reason, times, now))


def _found(fleet: Fleet, event: Found, now: float) -> None:
    state = fleet.models[event.model]
    phase = Phase.READY if event.ready else Phase.STARTING
    slots = state.spec.slots or event.slots or DEFAULT_SLOTS
    claim = wanted(fleet, event.claim or state.claim)
    found = Instance(event.instance, event.model, phase, claim, now, now, turn=now, slots=slots, pid=event.pid)
    settle_in(fleet, replace(found, asked=True, settings=state.spec.settings), now)
    fleet.next_instance = max(fleet.next_instance, event.instance + 1)


def _closing_time(fleet: Fleet, actions: list[Action]) -> None:
    fleet.closing = True
    for state in list(fleet.models.values()):
        refuse_queue(fleet, state, ShuttingDown("Roundhouse is shutting down; try again soon."), actions)
        change(fleet, fleet.models[state.spec.id], asked=None, blocked=None)
