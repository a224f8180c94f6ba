"""Who loads, waits, answers and leaves: `step` is the only place that decides.

The same picture, event and time always give the same picture and actions. The rules, in their order:

1. refuse   requests that waited too long, or whose model failed too often, can't fit, or is held up by other programs
2. grant    waiting requests go to their model while it has free slots: interactive before background tasks, then by
            priority, by fair share between keys and users (`shares`), by arrival; a background task of an unloaded
            model goes to a loaded one
3. give up  a load that nobody waits for any more; retire what was idle for its `ttl` (`keeping`)
4. shrink   where engines turned out to hold more than a device may give, who is missed least leaves
5. room     models that are waited for get room in their turn: free memory, or the places that are least regretted
            (`room`) of those whose own turn is over (`turns`). Who must leave drains first (answers are never cut,
            spec D3); whose place is not needed any more is called back
6. stop     what has drained
7. start    what has room, one load per device at a time
8. prefetch the weights of who comes next are read meanwhile (`prefetch`)

They are applied until they decide nothing more: who is called back may be granted to, who starts may be in the way.
Two short ways skip the rules where they could decide nothing: a request for a free slot with nobody waiting, and a
request that ends with nobody waiting.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from roundhouse.core import notes, tasks
from roundhouse.core.forecast import retry_after
from roundhouse.core.keeping import idle_limit
from roundhouse.core.lifecycle import Cue
from roundhouse.core.model import Arrived, Departed, Event, Grant, Granted, Instance, Phase, Start, Stop, Use
from roundhouse.core.prefetch import note_start, read_ahead
from roundhouse.core.records import change, change_instance, move, refuse, refuse_queue, settle_in
from roundhouse.core.room import overgrown, plan_room, waiting
from roundhouse.core.shares import UNKNOWN_ANSWER
from roundhouse.core.turns import has_free_slot, place_in_queue, tenure, wanted_since
from roundhouse.errors import NoRoom, QueueTimeout

if TYPE_CHECKING:
    from roundhouse.core.model import Action, Fleet, ModelState, Ticket
    from roundhouse.core.room import Plan

MOST_PASSES = 20
"""The rules come to rest within a few passes (the simulation proves it); nothing that decides may be able to hang."""


def step(fleet: Fleet, event: Event, now: float) -> list[Action]:
    """Takes one event in and returns what is to be done; `fleet` is changed by replacing its records.

    `now` is seconds of a monotonic clock and never less than at the last call.
    """
    if not fleet.queued:
        quick = _short_way(fleet, event, now)
        if quick is not None:
            return quick
    return whole_step(fleet, event, now)


def whole_step(fleet: Fleet, event: Event, now: float) -> list[Action]:
    """The same as `step` without the short ways (a property test holds the two against each other)."""
    actions: list[Action] = []
    notes.note(fleet, event, now, actions)
    plan = None
    for _ in range(MOST_PASSES):
        _refuse_overdue(fleet, now, actions)
        _grant(fleet, now, actions)
        before = dict(fleet.models)  # what these two did, the rest has seen
        plan = _make_room(fleet, now, actions)
        if fleet.models == before:
            break
    if plan is not None:
        read_ahead(fleet, plan, actions)
    return actions


def _make_room(fleet: Fleet, now: float, actions: list[Action]) -> Plan | None:
    """Rules 3 to 7. Returns what was planned, None while Roundhouse is ending."""
    _give_up_and_retire(fleet, now)
    if fleet.closing:
        _stop(fleet, now, actions)
        return None
    _shrink(fleet, now)
    plan = plan_room(fleet, now)
    _refuse_unplaceable(fleet, plan, now, actions)
    _send_away(fleet, plan, now)
    _stop(fleet, now, actions)
    _start(fleet, plan, now, actions)
    _refuse_tasks(fleet, now, actions)
    return plan


def _short_way(fleet: Fleet, event: Event, now: float) -> list[Action] | None:
    """O(1) answers for the two events that every request causes (10 microseconds or less); None = not one of them."""
    if type(event) is Arrived:
        ticket = event.ticket
        state = fleet.models.get(ticket.model)
        if state is None or fleet.closing or not has_free_slot(fleet, state):
            return None
        instance = state.instance
        assert instance is not None
        if not ticket.task:
            fleet.habits[ticket.model].arrived(ticket.talk, now, busy=fleet.use[instance.id].active > 0)
        return [_admit(fleet, instance, ticket, now, 0.0)]
    if type(event) is Departed:
        granted = fleet.granted.get(event.ticket)
        if granted is None:
            return None
        model = fleet.instances.get(granted.instance)
        instance = fleet.models[model].instance if model is not None else None
        if instance is None or instance.phase is not Phase.READY:
            return None
        notes.note(fleet, event, now, [])
        return []
    return None


def _refuse_overdue(fleet: Fleet, now: float, actions: list[Action]) -> None:
    """Rule 1a: backoff answers at once; waiting ends at `queue.timeout`, which runs only while no load is under way."""
    if not fleet.queued:
        return
    for state in [s for s in fleet.models.values() if s.queue]:
        if (backoff := notes.backoff_error(state, now)) is not None:
            refuse_queue(fleet, state, backoff, actions)
            continue
        limit = _patience_ends(fleet, state)
        for ticket in state.queue:
            if limit is None or max(ticket.arrived, state.idle_since) + limit > now:
                break  # those behind came later
            waited = f"Waited {now - ticket.arrived:.0f} s for model '{ticket.model}'"
            error = QueueTimeout(
                f"{waited} (scheduling.queue.timeout); try again later.", retry_after=retry_after(fleet, state, now)
            )
            refuse(fleet, ticket, error, actions)


def _patience_ends(fleet: Fleet, state: ModelState) -> float | None:
    """The queue limit in seconds, None while this model's load is under way (spec D5)."""
    loading = state.instance is not None and state.instance.phase is Phase.STARTING
    return None if loading else fleet.policy.queue_timeout


def _grant(fleet: Fleet, now: float, actions: list[Action]) -> None:
    """Rule 2: only a READY instance answers, up to its slots."""
    if not fleet.queued:
        return
    queued = [s for s in fleet.models.values() if s.queue]
    for state in queued:
        if state.instance is not None and state.instance.phase is Phase.READY:
            _grant_own(fleet, state, state.instance, now, actions)
    for state in queued:  # only now is known who has a slot left for others
        if state.instance is None:
            _grant_elsewhere(fleet, state, now, actions)


def _grant_own(fleet: Fleet, state: ModelState, instance: Instance, now: float, actions: list[Action]) -> None:
    while state.queue and fleet.use[instance.id].active < instance.slots:
        ticket = min(state.queue, key=partial(place_in_queue, state))
        charge = fleet.habits[state.spec.id].answer or UNKNOWN_ANSWER
        state = _take_from_queue(fleet, state, ticket)
        if state.queue:
            state = change(fleet, state, shares=state.shares.granted(ticket.who, charge))
        actions.append(_admit(fleet, instance, ticket, now, charge if state.queue else 0.0))


def _grant_elsewhere(fleet: Fleet, state: ModelState, now: float, actions: list[Action]) -> None:
    """Background tasks whose own model is neither loaded nor wanted by anybody go to another one."""
    if wanted_since(state) is not None:
        return
    for ticket in state.queue:
        host = tasks.host_for(fleet, ticket) if tasks.held_until(fleet, ticket) <= now else None
        if host is not None:
            _take_from_queue(fleet, fleet.models[state.spec.id], ticket)
            actions.append(_admit(fleet, host, ticket, now, 0.0))


def _take_from_queue(fleet: Fleet, state: ModelState, ticket: Ticket) -> ModelState:
    fleet.queued.pop(ticket.id)
    after = fleet.models[state.spec.id] = state.queued(tuple(t for t in state.queue if t is not ticket))
    return after


def _admit(fleet: Fleet, instance: Instance, ticket: Ticket, now: float, charge: float) -> Grant:
    fleet.granted[ticket.id] = Granted(ticket, instance.id, now, charge)
    use = fleet.use[instance.id]
    fleet.use[instance.id] = Use(use.active + 1, now, use.chores + ticket.task)
    return Grant(ticket, instance.id, instance.model)


def _give_up_and_retire(fleet: Fleet, now: float) -> None:
    """Rule 3."""
    for instance in fleet.live():
        state = fleet.models[instance.model]
        if instance.phase is Phase.STARTING:
            _give_up(fleet, state, instance, now)
        elif instance.phase is Phase.READY and _idle_too_long(fleet, state, fleet.use[instance.id], now):
            move(fleet, instance, Cue.TOLD_TO_LEAVE, now, leaving="idle", for_room=False)


def _give_up(fleet: Fleet, state: ModelState, instance: Instance, now: float) -> None:
    """A load for clients that have all left ends after a grace (spec A8)."""
    if instance.asked or state.queue:
        if instance.unwanted_since is not None:
            change_instance(fleet, instance.id, unwanted_since=None)
    elif instance.unwanted_since is None:
        change_instance(fleet, instance.id, unwanted_since=now)
    elif instance.unwanted_since + fleet.policy.unwanted_grace <= now:
        move(fleet, instance, Cue.TOLD_TO_LEAVE, now, leaving="nobody waits for it any more")


def _idle_too_long(fleet: Fleet, state: ModelState, use: Use, now: float) -> bool:
    if use.active or state.queue:
        return False
    limit = _idle_limit(fleet, state)
    return limit is not None and use.last + limit <= now


def _idle_limit(fleet: Fleet, state: ModelState) -> float | None:
    """Seconds of idleness after which a model is unloaded, None = never."""
    kept = state.spec.pinned or state.spec.remote
    return None if kept else idle_limit(state, fleet.habits[state.spec.id])


def _refuse_unplaceable(fleet: Fleet, plan: Plan, now: float, actions: list[Action]) -> None:
    """Rule 1b: what can never fit is refused at once, what other programs hold up after `memory_wait` (spec D2)."""
    patience = fleet.policy.memory_wait
    for state in list(fleet.models.values()):
        model = state.spec.id
        if model in plan.impossible:
            error = NoRoom(f"Model '{model}' can't be loaded: {plan.impossible[model]}.")
            notes.give_up_waiting(fleet, state, error, now, actions)
        elif model not in plan.blocked:
            if state.blocked is not None:
                change(fleet, state, blocked=None)
        elif state.blocked is None:
            change(fleet, state, blocked=now)
        elif state.blocked + patience <= now:
            error = NoRoom(f"Model '{model}' can't be loaded now: {plan.blocked[model]}.", retry_after=patience)
            notes.give_up_waiting(fleet, state, error, now, actions)


def _shrink(fleet: Fleet, now: float) -> None:
    """Rule 4: more than the budget is held only for as long as answers take to end."""
    for instance, device in overgrown(fleet, now):
        move(fleet, instance, Cue.TOLD_TO_LEAVE, now, leaving=f"more is held on {device} than it may give")


def _send_away(fleet: Fleet, plan: Plan, now: float) -> None:
    """Rule 5: exactly those leave whose place is needed; the others are called back."""
    for instance in fleet.live():
        for_whom = plan.leave.get(instance.id)
        leaving = f"room for {for_whom}"
        if for_whom is not None and instance.phase is Phase.READY:
            move(fleet, instance, Cue.TOLD_TO_LEAVE, now, leaving=leaving, for_room=True)
        elif for_whom is not None and instance.leaving != leaving:
            change_instance(fleet, instance.id, leaving=leaving)
        elif for_whom is None and instance.phase is Phase.DRAINING and instance.for_room:
            move(fleet, instance, Cue.RECALLED, now, leaving="", for_room=False)


def _stop(fleet: Fleet, now: float, actions: list[Action]) -> None:
    """Rule 6: a drained engine is stopped; with a `drain_timeout` set, also one that did not drain in time."""
    limit = fleet.policy.drain_timeout
    for instance in fleet.live():
        current = instance
        overdue = limit is not None and instance.since + limit <= now
        if instance.phase is Phase.DRAINING and (fleet.use[instance.id].active == 0 or overdue):
            moved = move(fleet, instance, Cue.EMPTY, now)
            assert moved is not None
            current = moved
        if current.phase is Phase.STOPPING and not current.stop_sent:
            change_instance(fleet, current.id, stop_sent=True)
            actions.append(Stop(current.id, current.model, current.leaving))


def _start(fleet: Fleet, plan: Plan, now: float, actions: list[Action]) -> None:
    """Rule 7."""
    for model, claim in plan.start.items():
        state = fleet.models[model]
        if state.instance is not None or (state.asked is None and not state.queue):
            continue
        number = fleet.next_instance
        fleet.next_instance += 1
        asked = state.asked is not None
        settings = state.spec.settings
        settle_in(fleet, Instance(number, model, Phase.STARTING, claim, now, now, asked=asked, settings=settings), now)
        note_start(fleet, model)
        actions.append(Start(number, model, claim))


def _refuse_tasks(fleet: Fleet, now: float, actions: list[Action]) -> None:
    """A background task that nothing loaded can serve is told so soon (spec D7)."""
    if not fleet.queued:
        return
    for state in [s for s in fleet.models.values() if s.queue and s.instance is None]:
        for ticket in state.queue:
            if not ticket.task or tasks.held_until(fleet, ticket) > now:
                continue
            if (error := tasks.refusal(fleet, fleet.models[state.spec.id], ticket)) is not None:
                refuse(fleet, ticket, error, actions)


def next_wakeup(fleet: Fleet, now: float) -> float | None:
    """When time alone may change something, so that a Tick is due then; None = never.

    Stays right (at worst early) while requests come and go the short ways, so that these need not ask again. Each time
    is the same sum that its rule compares with `now`: rounding must not make a Tick come just too early for ever.
    """
    policy = fleet.policy
    times: list[float] = []
    for state in fleet.models.values():
        if state.queue:
            limit = _patience_ends(fleet, state)
            if limit is not None:
                times.append(max(state.queue[0].arrived, state.idle_since) + limit)
            if state.instance is None and wanted_since(state) is None:
                times += [held for ticket in state.queue if (held := tasks.held_until(fleet, ticket)) > now]
        if state.blocked is not None:
            times.append(state.blocked + policy.memory_wait)
        if state.instance is not None:
            times += _instance_times(fleet, state, state.instance, now)
    times += _turn_times(fleet, now)
    return min(times, default=None)


def _turn_times(fleet: Fleet, now: float) -> list[float]:
    """When a model that is waited for is due, and when those that are loaded have kept their places for long enough."""
    if not fleet.queued and all(state.asked is None for state in fleet.models.values()):
        return []
    wants = waiting(fleet)
    if not wants:
        return []
    times = [want.due for _, want in wants]
    for instance in fleet.live():
        if (found := tenure(fleet, instance)) is not None:
            times += found.times()
    return [at for at in times if now < at < math.inf]


def _instance_times(fleet: Fleet, state: ModelState, instance: Instance, now: float) -> list[float]:
    policy = fleet.policy
    times: list[float] = []
    if instance.phase is Phase.STARTING and instance.unwanted_since is not None:
        times.append(instance.unwanted_since + policy.unwanted_grace)
    if instance.phase is Phase.READY and (kept := _idle_limit(fleet, state)) is not None:
        use = fleet.use[instance.id]
        times.append((now if use.active else use.last) + kept)
    if instance.phase is Phase.DRAINING and policy.drain_timeout is not None:
        times.append(instance.since + policy.drain_timeout)
    return times
