"""What a model waits for, and why others stay or leave, as plain values for whoever writes it down. Never decides.

Facts are mappings of plain JSON values; times in them are seconds from now.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from roundhouse.core import turns
from roundhouse.core.forecast import in_the_way
from roundhouse.core.model import Kind, Phase
from roundhouse.core.room import Hindrance, Limits, worth_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from roundhouse.core.model import Fleet, Instance, ModelState

Fact = dict[str, object]
MOST_NAMED = 8
"""Others that are named at the most: a house may have fifty models."""


def obstacles(fleet: Fleet, state: ModelState, now: float, order: Sequence[str]) -> list[Fact]:
    """What the requests of a model wait for, the most telling first; empty if only the next step is waited for.

    `order`: the models that wait for room, in the order of their turns.
    """
    instance = state.instance
    if instance is not None:
        return [_own(fleet, state, instance)]
    found = [*_under_way(fleet, state)]
    if not found and (other := in_the_way(fleet, state, now)) is not None:
        until = None if math.isinf(other.seconds) else round(other.seconds, 1)
        found.append({"what": "turn" if other.busy else "session", "model": other.model, "until_s": until})
    if before := list(order[: order.index(state.spec.id)]) if state.spec.id in order else []:
        found.append({"what": "order", "models": before[:MOST_NAMED]})
    if state.blocked is not None:
        places = Limits(fleet).possible(state)
        reason = places.reason if isinstance(places, Hindrance) else "other programs hold the memory"
        found.append({"what": "memory", "reason": reason})
    return found


def here(fleet: Fleet) -> list[Fact]:
    """What is loaded, comes or goes."""
    live = fleet.live()[:MOST_NAMED]
    return [
        {"model": i.model, "state": i.phase.value, "active": fleet.use[i.id].active, "slots": i.slots} for i in live
    ]


def leaving(fleet: Fleet, instance: Instance, now: float) -> Fact:
    """Why an instance has been told to leave just now; for another model's room also why this one and no other."""
    use, spec = fleet.use[instance.id], fleet.models[instance.model].spec
    fact: Fact = {"why": instance.leaving, "active": use.active, "idle_s": round(max(0.0, now - use.last), 1)}
    if spec.ttl is not None and instance.leaving == "idle":
        fact["ttl_s"] = spec.ttl
    if not instance.for_room:
        return fact
    beneficiary = fleet.models.get(instance.leaving.removeprefix("room for "))
    if beneficiary is None:
        return fact
    fact |= {"for": beneficiary.spec.id, "waiting": len(beneficiary.queue), **_regret(fleet, instance, now)}
    fact["others"] = [*_others(fleet, instance, beneficiary, now)][:MOST_NAMED]
    return fact


def _regret(fleet: Fleet, instance: Instance, now: float) -> Fact:
    _protected, _busy, cost = worth_of(fleet, instance, now)
    reload = turns.reload_cost(fleet.models[instance.model])
    rate = fleet.habits[instance.model].rate(now)
    return {"regret": round(cost, 2), "reload_s": round(reload, 1) or None, "requests_of_late": round(rate, 2)}


def _others(fleet: Fleet, leaver: Instance, beneficiary: ModelState, now: float) -> Iterator[Fact]:
    """The others whose place would have been of use, each with what kept it."""
    needed = {device for claim in (beneficiary.claim, *beneficiary.elsewhere) for device, size in claim.items() if size}
    want = turns.want_of(beneficiary, fleet.policy)
    for other in fleet.live():
        if other.id == leaver.id or needed.isdisjoint(other.claim) or other.leaving == leaver.leaving:
            continue
        spec, tenure = fleet.models[other.model].spec, turns.tenure(fleet, other)
        told: Fact = {"model": other.model}
        if spec.pinned:
            told["kept"] = "pinned"
        elif other.phase is not Phase.READY:
            told["kept"] = other.phase.value
        elif tenure is not None and want is not None and (until := tenure.until(want)) > now:
            told["kept"] = "resident" if until == tenure.settled else "turn" if tenure.busy else "session"
            told["until_s"] = None if math.isinf(until) else round(until - now, 1)
        else:
            told |= {"kept": "protected" if spec.kind is not Kind.CHAT else "regret", **_regret(fleet, other, now)}
            told["active"] = fleet.use[other.id].active
        yield told


def _own(fleet: Fleet, state: ModelState, instance: Instance) -> Fact:
    """What is waited for where the model itself is here, or on its way in or out."""
    if instance.phase is Phase.STARTING:
        return {"what": "load", "stage": instance.progress.stage if instance.progress is not None else ""}
    active = fleet.use[instance.id].active
    if instance.phase is Phase.READY:
        return {"what": "slots", "slots": instance.slots, "waiting": len(state.queue)}
    return {"what": "return", "why": instance.leaving, "active": active}


def _under_way(fleet: Fleet, state: ModelState) -> Iterator[Fact]:
    """Others that leave or load now."""
    ours = f"room for {state.spec.id}"
    for other in fleet.live():
        active = fleet.use[other.id].active
        fact: Fact = {"model": other.model, "ours": other.leaving == ours}
        if other.phase is Phase.DRAINING:
            yield {"what": "drain", "answers": active, **fact}
        elif other.phase is Phase.STOPPING:
            yield {"what": "unload", **fact}
        elif other.phase is Phase.STARTING:
            yield {"what": "other_load", **fact}


def shape(facts: list[Fact]) -> tuple[tuple[object, ...], ...]:
    """What of obstacles makes them others, numbers apart."""
    return tuple((f["what"], f.get("model"), f.get("stage"), *_names(f)) for f in facts)


def _names(fact: Mapping[str, object]) -> tuple[object, ...]:
    models = fact.get("models")
    return tuple(models) if isinstance(models, list) else ()
