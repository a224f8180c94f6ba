"""What people and programs see of the box: `/health`, `/v1/models` and the state of the admin API, from one snapshot.

Pure: a fleet and facts in, JSON-able values out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roundhouse.core.model import Kind, Phase, is_seat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Claim, Fleet, InstanceId, ModelState
    from roundhouse.ports import Endpoint, ModelFacts

    Held = Mapping[InstanceId, Mapping[str, int]]

OPENAI_STATUS = {
    "ready": "loaded",
    "draining": "loaded",
    "loading": "loading",
    "stopping": "unloaded",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while it runs: `created` is seconds since the epoch; no `facts` where files say nothing."""

    config: ModelConfig
    created: int
    facts: ModelFacts | None
    problem: str | None = None


def word(state: ModelState) -> str:
    """A model's state in the words of the API: unloaded, loading, ready, draining, stopping or failed."""
    if state.instance is not None:
        return state.instance.phase.value
    return "failed" if state.failure is not None else "unloaded"


def model_entry(about: About, state: ModelState) -> dict[str, Any]:
    """One model as `/v1/models` lists it; which fields Open WebUI shows is in its documentation page of ours."""
    config, facts = about.config, about.facts
    value = OPENAI_STATUS.get(word(state), "unloaded")
    entry: dict[str, Any] = {
        "id": config.id,
        "object": "model",
        "created": about.created,
        "owned_by": config.engine or "roundhouse",
        "name": config.name or config.id,
        "loaded": value == "loaded",
        "status": {"value": value},
        "tags": [{"name": tag} for tag in config.tags],
        "info": {"meta": {"description": config.description, "capabilities": {"usage": True}}},
        "aliases": list(config.aliases),
        "engine": config.engine,
        "kind": state.spec.kind.value,
    }
    context = config.context or (facts.context if facts else None)
    if context:
        entry["context_length"] = context
    if facts is not None:
        entry |= {"quantization": facts.quantisation, "size": facts.weights, "architecture": facts.architecture}
        entry["info"]["meta"]["capabilities"]["vision"] = facts.vision
    if value == "failed" and state.failure is not None:
        entry["status"]["error"] = state.failure.reason
    return entry


def virtual_entry(config: ModelConfig, is_loaded: Callable[[str], bool]) -> dict[str, Any]:
    """An any-of model as `/v1/models` lists it."""
    loaded = any(is_loaded(name) for name in config.any_of or ())
    return {
        "id": config.id,
        "object": "model",
        "created": 0,
        "owned_by": "roundhouse",
        "name": config.name or config.id,
        "loaded": loaded,
        "status": {"value": "loaded" if loaded else "unloaded"},
        "tags": [{"name": tag} for tag in config.tags],
        "info": {"meta": {"description": config.description, "capabilities": {"usage": True}}},
        "aliases": list(config.aliases),
        "any_of": list(config.any_of or ()),
    }


def model_state(fleet: Fleet, state: ModelState, now: float, held: Held | None = None) -> dict[str, Any]:
    """One model in `/health`; `held`: bytes by instance and device, as last measured."""
    instance = state.instance
    active = fleet.use[instance.id].active if instance else 0
    error = state.failure.reason if state.failure is not None and instance is None else None
    found: dict[str, Any] = {
        "state": word(state),
        "engine": None,
        "device": _memory(instance.claim if instance else state.claim),
        "estimate": _memory(state.claim),
        "measured": dict((held or {}).get(instance.id, {})) if instance else {},
        "since": round(now - instance.since, 3) if instance else None,
        "active": active,
        "waiting": len(state.queue),
        "error": error,
        "pinned": state.spec.pinned,
    }
    if instance is not None:
        found |= {"slots": instance.slots, "leaving": instance.leaving or None, "pid": instance.pid}
        if instance.phase is Phase.STARTING:
            found["expected_s"] = state.load_seconds or state.spec.expected
        if instance.phase is Phase.STARTING and instance.progress is not None:
            found["progress"] = {"fraction": instance.progress.fraction, "stage": instance.progress.stage}
    if state.failure is not None and state.failure.until > now:
        found["retry_in"] = math.ceil((state.failure.until - now) * 10) / 10
    return found


def _memory(claim: Claim) -> dict[str, int]:
    return {device: size for device, size in claim.items() if not is_seat(device)}


def health(
    fleet: Fleet,
    engines: Mapping[str, str | None],
    endpoints: Mapping[str, Endpoint],
    *,
    version: str,
    uptime: float,
    now: float,
    held: Held | None = None,
) -> dict[str, Any]:
    """`GET /health` (spec H). `engines` by model, `endpoints` of those that run, `held` as for `model_state`."""
    models = {}
    for name, state in fleet.models.items():
        models[name] = model_state(fleet, state, now, held) | {"engine": engines.get(name)}
    degraded = any(m["state"] == "failed" for m in models.values())
    return {
        "status": "degraded" if degraded else "healthy",
        "version": version,
        "uptime_s": round(uptime, 1),
        "current_model": current_model(fleet),
        "models": models,
        "backends": _backends(fleet, engines, endpoints),
        "devices": devices(fleet),
        "queue": len(fleet.queued),
    }


def current_model(fleet: Fleet) -> str | None:
    """The chat model that was used last, of those that are loaded."""
    loaded = [i for i in fleet.live() if i.phase is Phase.READY and fleet.models[i.model].spec.kind is Kind.CHAT]
    return max(loaded, key=lambda i: fleet.use[i.id].last).model if loaded else None


def devices(fleet: Fleet) -> dict[str, dict[str, int]]:
    """Memory per device in bytes: what may be used, what is, by us and by others."""
    found = {}
    for device in fleet.devices.values():
        if is_seat(device.id):
            continue
        ours = sum(instance.claim.get(device.id, 0) for instance in fleet.live())
        found[device.id] = {
            "total": device.total,
            "used": ours + device.foreign,
            "ours": ours,
            "foreign": device.foreign,
        }
    return found


def _backends(
    fleet: Fleet, engines: Mapping[str, str | None], endpoints: Mapping[str, Endpoint]
) -> dict[str, dict[str, str | None]]:
    """Per engine: the state of its most alive model, and where that answers."""
    found: dict[str, dict[str, str | None]] = {}
    order = ["unloaded", "failed", "stopping", "loading", "draining", "ready"]
    for name, state in fleet.models.items():
        engine = engines.get(name)
        if engine is None:
            continue
        now = word(state)
        known = found.setdefault(engine, {"state": "unloaded", "url": None})
        if order.index(now) >= order.index(known["state"] or "unloaded"):
            endpoint = endpoints.get(name)
            url = f"{'https' if endpoint.tls else 'http'}://{endpoint.host}:{endpoint.port}" if endpoint else None
            found[engine] = {"state": now, "url": url}
    return found
