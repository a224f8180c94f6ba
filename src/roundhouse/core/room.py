"""Who starts next and where, and who must leave for it.

Models that somebody waits for are looked at in the order of `turns.rank`, in which each comes first some day: an
earlier one's room is promised to it before a later one may have any. Of the places where a model may run, one that is
free is taken, else the one that costs the least regret. Everything here only reads the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.core import tasks, turns
from roundhouse.core.memory import (
    NO_REGRET,
    Offer,
    fits,
    free,
    give,
    lacking,
    least_regret_set,
    say,
    take,
    usable,
    wanted,
)
from roundhouse.core.model import Kind, Phase, is_seat
from roundhouse.core.turns import reload_cost, wanted_since

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.core.memory import Regret, Room
    from roundhouse.core.model import Claim, DeviceId, Fleet, Instance, InstanceId, ModelState
    from roundhouse.core.turns import Tenure, Want


@dataclass(slots=True)
class Plan:
    """What should happen now.

    Attributes:
        start: models whose engine can be started at once, with what it claims there.
        leave: instances that must drain, with the model they make room for.
        blocked: models that can't fit because of processes that are not ours, with the reason in words.
        impossible: models that can never fit as things are configured, with the reason in words.
        next: the first in the order of turns that can't start yet, of those whose weights can be read meanwhile.
    """

    start: dict[str, Claim] = field(default_factory=dict)
    leave: dict[InstanceId, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    impossible: dict[str, str] = field(default_factory=dict)
    next: str | None = None


def claims(state: ModelState) -> tuple[Claim, ...]:
    """What a model claims, for each of the places where it may run, in the order of preference."""
    return (state.claim, *state.elsewhere)


def plan_room(fleet: Fleet, now: float) -> Plan:
    """Walks the waiting models in the order of their turns and gives each what it needs: free room, or others'."""
    return _Planning(fleet, now).run()


def overgrown(fleet: Fleet, now: float) -> list[tuple[Instance, DeviceId]]:
    """Who must leave as engines turned out to hold more than the budget of a device, and of which.

    Never the last one there, whose claim may be more than the device has: it has run there, so it may go on.
    """
    found: dict[InstanceId, tuple[Instance, DeviceId]] = {}
    present = [i for i in fleet.live() if i.phase in {Phase.STARTING, Phase.READY}]
    held: Room = {}
    for instance in present:
        give(held, instance.claim)
    for device in (d for d, size in held.items() if d in fleet.devices and size > fleet.devices[d].total):
        there = [i for i in present if i.claim.get(device) and i.id not in found]
        excess = sum(i.claim[device] for i in there) - fleet.devices[device].total
        if excess <= 0 or len(there) < 2:
            continue
        may = [i for i in there if i.phase is Phase.READY and not fleet.models[i.model].spec.pinned]
        offers = [Offer(i.id, i.claim, regret_of(fleet, i, now)) for i in may]
        chosen = least_regret_set({device: excess}, {}, offers)
        leaving = {offer.key for offer in chosen[0]} if chosen is not None else set()
        found |= {i.id: (i, device) for i in may if i.id in leaving}
    return list(found.values())


def waiting(fleet: Fleet) -> list[tuple[ModelState, Want]]:
    """Models that somebody waits for and that are not here."""
    found = []
    for state in fleet.models.values():
        if state.instance is None and (state.queue or state.asked is not None):
            want = turns.want_of(state, fleet.policy)
            if want is not None:
                found.append((state, want))
    return found


def candidates(fleet: Fleet, now: float) -> list[tuple[ModelState, Want]]:
    """The same in the order of their turns."""
    return sorted(waiting(fleet), key=lambda item: turns.rank(item[1], now))


class _Planning:
    """One walk: what is free now and what is coming, less what was given or promised so far."""

    def __init__(self, fleet: Fleet, now: float) -> None:
        self._fleet = fleet
        self._now = now
        self._plan = Plan()
        self._room = free(fleet)
        self._coming = dict(self._room)
        self._loading: set[DeviceId] = set()
        for instance in fleet.live():
            if instance.phase is Phase.STARTING:
                self._loading.update(instance.claim)
            elif instance.phase is Phase.STOPPING or (instance.phase is Phase.DRAINING and not instance.for_room):
                give(self._coming, instance.claim)

    def run(self) -> Plan:
        plan = self._plan
        if wants := candidates(self._fleet, self._now):
            limits = Limits(self._fleet)
            offers = self._offers(any(want.asked for _, want in wants))
            for state, want in wants:
                places = limits.possible(state)
                if isinstance(places, Hindrance):
                    (plan.blocked if places.by_others else plan.impossible)[state.spec.id] = places.reason
                    continue
                if fitting := [claim for claim in places if fits(claim, self._coming)]:
                    self._give(state, fitting)
                elif leaving := self._make_room(state, want, places, offers):
                    offers = [(tenure, offer) for tenure, offer in offers if offer not in leaving]
                if plan.next is None and state.spec.local and state.spec.id not in plan.start:
                    plan.next = state.spec.id
        self._place_tasks()
        return plan

    def _offers(self, asked: bool) -> list[tuple[Tenure, Offer]]:
        """The places of those that may be asked to leave at this time by some want; `asked`: one is an operator's."""
        fleet, found = self._fleet, []
        for instance in fleet.live():
            tenure = turns.tenure(fleet, instance)
            if tenure is not None and (asked or tenure.earliest() <= self._now):
                found.append((tenure, Offer(instance.id, instance.claim, regret_of(fleet, instance, self._now))))
        return found

    def _give(self, state: ModelState, fitting: Sequence[Claim]) -> None:
        """Gives a place that is free or will be: the first that is free, best where nothing else is loaded now."""
        free_now = [claim for claim in fitting if fits(claim, self._room)]
        undisturbed = [claim for claim in free_now if self._loading.isdisjoint(claim)]
        claim = (undisturbed or free_now or fitting)[0]
        take(self._coming, claim)
        if free_now:
            take(self._room, claim)
        if undisturbed:
            self._plan.start[state.spec.id] = claim
            self._loading.update(claim)

    def _make_room(
        self, state: ModelState, want: Want, places: Sequence[Claim], offers: list[tuple[Tenure, Offer]]
    ) -> list[Offer]:
        """Promises a place, and says who must leave for it: nobody yet where those who may are not enough."""
        willing = [offer for tenure, offer in offers if tenure.until(want) <= self._now]
        claim, leaving = self._least_regret(places, willing)
        for offer in leaving:
            self._plan.leave[offer.key] = state.spec.id
            give(self._coming, offer.claim)
        take(self._coming, claim)
        return leaving

    def _least_regret(self, places: Sequence[Claim], offers: list[Offer]) -> tuple[Claim, list[Offer]]:
        """The place whose room costs least, and who must leave for it: nobody where those who may are not enough."""
        best: tuple[Regret, Claim, list[Offer]] | None = None
        for claim in places if offers else ():
            found = least_regret_set(claim, self._coming, offers)
            if found is not None and (best is None or found[1] < best[0]):
                best = (found[1], claim, found[0])
        return (best[1], best[2]) if best is not None else (places[0], [])

    def _place_tasks(self) -> None:
        """A background task may start its model only when nothing has to leave for it, after everybody else (D7)."""
        for state in self._fleet.models.values():
            if state.instance is not None or not state.queue or wanted_since(state) is not None:
                continue
            if tasks.host_for(self._fleet, state.queue[0]) is not None:  # it goes there unless its chat comes now
                continue
            for claim in (wanted(self._fleet, place) for place in claims(state)):
                if fits(claim, self._room, self._coming) and self._loading.isdisjoint(claim):
                    self._give(state, [claim])
                    break


def regret_of(fleet: Fleet, instance: Instance, now: float) -> Regret:
    """What is lost with an instance: its reload times how often it was asked for of late (spec D9).

    Embedding and rerank models serve every question about documents, and free little: they go only where nothing else
    makes room. One that leaves already is no loss any more.
    """
    return NO_REGRET if instance.phase is Phase.DRAINING else worth_of(fleet, instance, now)


def worth_of(fleet: Fleet, instance: Instance, now: float) -> Regret:
    """The same, also of one that is on its way out."""
    state, use = fleet.models[instance.model], fleet.use[instance.id]
    rate = fleet.habits[instance.model].rate(now)
    cost = (reload_cost(state) or 1.0) * (rate + 1.0 / (1.0 + now - use.last))
    return (int(state.spec.kind is not Kind.CHAT), int(use.active > 0), cost)


def _staying(fleet: Fleet) -> list[Instance]:
    """Pinned models' instances, unless an operator has told them to leave."""
    here = {Phase.STARTING, Phase.READY}
    return [i for i in fleet.live() if i.phase in here and fleet.models[i.model].spec.pinned]


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a model can't be placed anywhere, in words; `by_others`: programs that are not ours are in the way."""

    reason: str
    by_others: bool


class Limits:
    """What can be had on each device at the most: as things are configured, and as others use it now.

    Pinned models stay, so what they hold can't be had.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._staying = _staying(fleet)
        self._whole = {device.id: device.total for device in fleet.devices.values()}
        self._spare = dict(self._whole)
        self._now = {device.id: usable(device) for device in fleet.devices.values()}
        for instance in self._staying:
            take(self._spare, instance.claim)
            take(self._now, instance.claim)

    def possible(self, state: ModelState) -> tuple[Claim, ...] | Hindrance:
        """What it needs in each place where it would fit if all of ours left but the pinned ones; else what hinders."""
        never, blocked, found = "", "", []
        for claim in claims(state):
            needed = wanted(self._fleet, claim)
            if fits(claim, self._spare) and fits(needed, self._now):
                found.append(needed)
            elif fits(claim, self._spare):
                blocked = blocked or self._held_by_others(needed)
            else:
                never = never or self._never(claim)
        if found:
            return tuple(found)
        return Hindrance(blocked or never, by_others=bool(blocked))

    def _never(self, claim: Claim) -> str:
        """Why a claim can never be met as things are configured."""
        if missing := lacking(claim, self._whole):
            device = next(iter(missing))
            if device not in self._whole:
                return f"it is to run on '{device}', which this machine does not have"
            return (
                f"it needs {say(claim[device])} on {device}, which has {say(self._whole[device])} in all; "
                f"lower its context or slots, or raise the budget (devices.{device})"
            )
        device = next(iter(lacking(claim, self._spare)))
        pinned = ", ".join(instance.model for instance in self._staying if device in instance.claim)
        if is_seat(device):
            return f"it needs the {device.replace(':', ' ')}, which a pinned model ({pinned}) has; unpin or unload it"
        return (
            f"it needs {say(claim[device])} on {device}, of which pinned models ({pinned}) leave "
            f"{say(max(0, self._spare[device]))}; unpin or unload one"
        )

    def _held_by_others(self, needed: Claim) -> str:
        """Who, other than us, holds the memory that a claim would need even if all of ours left."""
        device = self._fleet.devices[next(iter(lacking(needed, self._now)))]
        who = ", ".join(device.holders) or "other programs"
        return (
            f"it needs {say(needed[device.id])} on {device.id}, where {who} leave only "
            f"{say(max(0, self._now[device.id]))}; end one of them or wait"
        )
