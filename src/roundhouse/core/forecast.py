"""When a model that is not loaded is likely to get its turn, and when a refused client may try again. Never decides.

A forecast takes the picture as it stands: who comes later, or ends sooner, changes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.core import turns
from roundhouse.core.memory import Offer, free, give, least_regret_set, wanted
from roundhouse.core.model import Phase
from roundhouse.core.room import candidates, claims, regret_of

if TYPE_CHECKING:
    from roundhouse.core.model import Fleet, Instance, ModelState

UNKNOWN_ANSWER, UNKNOWN_LOAD = 5.0, 30.0
"""Seconds that are reckoned with where nothing was measured yet."""
SOONEST, LATEST = 1.0, 600.0
"""Seconds within which a refused client is asked to come again."""


@dataclass(frozen=True, slots=True)
class InTheWay:
    """A loaded model that keeps its place for now.

    Attributes:
        busy: it has work; else it waits for a session that may go on.
        seconds: until it makes room at the latest, its last answers apart; inf = as long as it has work.
    """

    model: str
    busy: bool
    seconds: float


def in_the_way(fleet: Fleet, state: ModelState, now: float) -> InTheWay | None:
    """Who of those that would have to leave for a waiting model stays longest; None if nobody has to, or all do so."""
    want = turns.want_of(state, fleet.policy)
    if want is None:
        return None
    coming = free(fleet)
    tenures = []
    for instance in fleet.live():
        if instance.phase in {Phase.STOPPING, Phase.DRAINING}:
            give(coming, instance.claim)
        elif (found := turns.tenure(fleet, instance)) is not None:
            tenures.append(found)
    offers = [Offer(t.instance.id, t.instance.claim, regret_of(fleet, t.instance, now)) for t in tenures]
    sets = (least_regret_set(wanted(fleet, claim), coming, offers) for claim in claims(state))
    best = min((found for found in sets if found is not None), key=lambda found: found[1], default=None)
    leavers = {offer.key for offer in best[0]} if best is not None else set()
    staying = [(t.until(want), t) for t in tenures if t.instance.id in leavers]
    until, longest = max(staying, key=lambda item: item[0], default=(-math.inf, None))
    if longest is None or until <= now:
        return None
    return InTheWay(longest.instance.model, longest.busy, until - now)


def ahead_of(fleet: Fleet, state: ModelState, now: float) -> int:
    """Requests for other models whose turn comes before this one's."""
    count = 0
    for other, _ in candidates(fleet, now):
        if other is state:
            break
        count += len(other.queue)
    return count


def retry_after(fleet: Fleet, state: ModelState, now: float) -> float:
    """Seconds after which one more request for this model is likely to be answered (spec D5)."""
    instance = state.instance
    wait = 0.0
    if instance is None or instance.phase not in {Phase.READY, Phase.STARTING}:
        other = in_the_way(fleet, state, now)
        wait = min(other.seconds if other is not None else 0.0, turns.max_wait(state, fleet.policy))
        wait += turns.reload_cost(state) or UNKNOWN_LOAD
    elif instance.phase is Phase.STARTING:
        wait = max(0.0, (turns.reload_cost(state) or UNKNOWN_LOAD) - (now - instance.started))
    return min(LATEST, max(SOONEST, wait + _answers(fleet, state, instance)))


def _answers(fleet: Fleet, state: ModelState, instance: Instance | None) -> float:
    """Seconds for those who wait already, and for a slot where all are taken."""
    slots = (instance.slots if instance is not None else state.spec.slots) or 1
    active = fleet.use[instance.id].active if instance is not None else 0
    rounds = (len(state.queue) + active) // slots
    return rounds * (fleet.habits[state.spec.id].answer or UNKNOWN_ANSWER)
