"""Whose turn it is (spec D4): which model is brought in next, and until when those that are loaded keep their places.

Without this, agents that alternate between models reload at every request, and a busy model starves the others: both
were seen with routers that switch whenever the loaded model is idle, and only then. The rules, which together bound
every wait (a test holds generated traffic to that):

- quantum   A turn lasts `TURN_LOADS` times what loading that model again costs, if it has work: so under load, about a
            third of the time goes into switching.
- max_wait  After its quantum, a model that has work keeps its place until somebody has waited for `max_wait`; from then
            on it admits nobody new, finishes its answers and leaves.
- linger    A model without work leaves for who waits, unless a live session's next request is likely to come sooner
            than half a reload takes; then it is waited for, within quantum and `max_wait` ("anticipatory scheduling",
            Iyer and Druschel, SOSP '01).
- a batch   What waited for a model is granted, up to its slots, in the step in which it becomes ready: no turn is
            empty.

What an operator asks for comes at once. `max_wait: 0s` is the strict order of arrival: no quantum, no linger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from roundhouse.core.model import Phase

if TYPE_CHECKING:
    from roundhouse.core.model import Fleet, Instance, ModelState, Policy, Ticket

TURN_LOADS = 2.0
LEAST_MAX_WAIT, MAX_WAIT_LOADS = 60.0, 5.0
PATIENCE_SHARE = 0.5
"""Part of `queue.timeout` that an automatic `max_wait` and a quantum may take: a turn must come before waiting ends."""
THINK_SHARE = 0.5
"""Part of a reload that a think time may last to be worth waiting for."""
NEVER, AT_ONCE = math.inf, -math.inf


class Want(NamedTuple):
    """That a model is wanted which is not loaded.

    Attributes:
        since: when the oldest interactive request came (or an operator asked), but not before its last turn was over:
            an overloaded model's oldest request would always be the oldest of all.
        due: when it has waited for long enough: from then on it comes before all that have not.
        priority: the highest of those who wait.
        asked: by an operator.
    """

    since: float
    due: float
    priority: int = 0
    asked: bool = False


def has_free_slot(fleet: Fleet, state: ModelState) -> bool:
    """Whether the next request for this model is answered at once."""
    instance = state.instance
    if instance is None or instance.phase is not Phase.READY or state.queue:
        return False
    return fleet.use[instance.id].active < instance.slots


def wanted_since(state: ModelState) -> float | None:
    """Since when somebody waits for this model in a way that may cause a switch: background tasks don't (spec D7)."""
    if state.asked is None or state.oldest is None:
        return state.asked if state.oldest is None else state.oldest
    return min(state.oldest, state.asked)


def want_of(state: ModelState, policy: Policy) -> Want | None:
    """How a model is wanted, None if it is not. What an operator asks for is due at once."""
    oldest = state.oldest
    if state.asked is not None:
        asked = state.asked if oldest is None else min(oldest, state.asked)
        return Want(asked, asked, state.highest, asked=True)
    if oldest is None:
        return None
    since = state.made_room if oldest < state.made_room and policy.max_wait != 0 else oldest
    return Want(since, since + max_wait(state, policy), state.highest)


def rank(want: Want, now: float) -> tuple[bool, int, float]:
    """The order in which models get room: those that are due by age, then the others by priority and age."""
    due = want.due <= now
    return (not due, 0 if due else -want.priority, want.since)


def place_in_queue(state: ModelState, ticket: Ticket) -> tuple[bool, int, float, float, int]:
    """The order in which a model's own requests are granted, as things stand: the least is next (spec D5)."""
    return ticket.task, -ticket.priority, state.shares.of(ticket.who), ticket.arrived, ticket.id


def max_wait(state: ModelState, policy: Policy) -> float:
    """Seconds after which a model that is waited for gets its turn."""
    if policy.max_wait is not None:
        return policy.max_wait
    scaled = min(MAX_WAIT_LOADS * reload_cost(state), PATIENCE_SHARE * policy.queue_timeout)
    return max(LEAST_MAX_WAIT, scaled)


def turn_length(state: ModelState, policy: Policy) -> float:
    """Seconds that a turn of this model may last whoever waits."""
    return min(TURN_LOADS * reload_cost(state), PATIENCE_SHARE * policy.queue_timeout)


def reload_cost(state: ModelState) -> float:
    """Seconds that it takes to load this model again; 0 while that is not known."""
    return state.load_seconds or state.spec.expected or 0.0


@dataclass(frozen=True, slots=True)
class Tenure:
    """By what a loaded instance keeps its place, all of it times.

    Attributes:
        own: since when somebody waits for its own model, None = nobody does.
        busy: it answers or has requests waiting, background tasks apart.
        quantum: when its turn has lasted long enough; lingers: until when it is worth waiting for when idle.
        settled: the end of its `min_resident`.
        leaving: it makes room already, and goes on doing so unless the order of arrival is strict and speaks for it.
        in_order: that order is strict.
    """

    instance: Instance
    own: float | None
    busy: bool
    quantum: float
    lingers: float
    settled: float
    leaving: bool
    in_order: bool

    def until(self, want: Want) -> float:
        """Until when it keeps its place against who is wanted so; a time that has passed: it may be asked to leave."""
        if self.in_order and self.own is not None and self.own < want.since:
            return NEVER
        if self.leaving:
            return AT_ONCE
        if self.in_order or want.asked:
            return self.settled
        kept = max(self.quantum, want.due) if self.busy else min(self.lingers, want.due)
        return max(kept, self.settled)

    def earliest(self) -> float:
        """No want that came by itself makes it leave before this time."""
        if self.leaving or self.in_order or not self.busy:
            return AT_ONCE
        return max(self.quantum, self.settled)

    def times(self) -> tuple[float, ...]:
        """When `until` may change by time alone, the wants' own times apart."""
        if self.in_order:
            return (self.settled,)
        return (self.quantum if self.busy else self.lingers, self.settled)


def tenure(fleet: Fleet, instance: Instance) -> Tenure | None:
    """That of an instance, None if it is not loaded, or pinned."""
    state, policy = fleet.models[instance.model], fleet.policy
    leaving = instance.phase is Phase.DRAINING and instance.for_room
    if state.spec.pinned or not (leaving or instance.phase is Phase.READY):
        return None
    own, use = wanted_since(state), fleet.use[instance.id]
    busy = own is not None or use.active > use.chores
    quantum = instance.turn + turn_length(state, policy)
    return Tenure(
        instance,
        own,
        busy=busy,
        quantum=quantum,
        lingers=AT_ONCE if busy else _lingers_until(fleet, instance, state, quantum),
        settled=instance.since + state.spec.min_resident,
        leaving=leaving,
        in_order=policy.max_wait == 0,
    )


def _lingers_until(fleet: Fleet, instance: Instance, state: ModelState, quantum: float) -> float:
    """Until when an idle model is worth waiting for."""
    policy = fleet.policy
    if policy.linger is not None:
        return fleet.use[instance.id].last + policy.linger if policy.linger else AT_ONCE
    longest = THINK_SHARE * reload_cost(state)
    latest = AT_ONCE
    for session in fleet.habits[instance.model].sessions.values():
        think = session.think_time() if session.ended is not None else None
        if session.ended is not None and think is not None and think <= longest:
            latest = max(latest, session.ended + think)
    return min(latest, quantum)
