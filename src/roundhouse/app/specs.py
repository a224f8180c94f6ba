"""From a model's configuration to what the planner knows of it (`ModelSpec`) and what runs it (`Runnable`)."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from roundhouse.api.state import About
from roundhouse.core.model import Kind, ModelSpec, Policy, TaskRule
from roundhouse.engines import ENGINES
from roundhouse.engines.openai import endpoint_of
from roundhouse.errors import LoadFailed
from roundhouse.formats.errors import FormatError
from roundhouse.ports import Build
from roundhouse.runtime.effects import Runnable
from roundhouse.runtime.files import facts_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.ports import Engine, Launcher, ModelFacts

    Builds = Callable[[Engine], Awaitable[Build]]
    Learned = Mapping[tuple[str, str], float]
    Peaks = Mapping[tuple[str, str], Mapping[str, int]]

TTL_LOADS, TTL_LEAST, TTL_MOST = 10.0, 300.0, 3600.0
"""`ttl: auto` without power figures: ten load times, within 5 and 60 minutes (spec D8)."""
PEAK_MARGIN = 1.05
"""What is added to a measured peak for the next load: the next answer may be a little longer."""
_NOT_ENGINE = {
    *("id", "name", "description", "tags", "unlisted", "aliases", "set", "strip", "status", "any_of"),
    *("ttl", "pinned", "preload", "priority", "min_resident", "max_instances", "load_timeout", "memory", "devices"),
}
"""Keys that say nothing of how the engine process runs, so that changing one restarts nothing."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A model's files as looked at once: facts, or the problem with them in words.

    `created` is their time of change in seconds since the epoch, `stamp` what changes when they do.
    """

    facts: ModelFacts | None
    problem: str | None
    created: int
    stamp: tuple[int, int] | None = None


def look(model: ModelConfig) -> Looked:
    """Reads a model's headers. Never raises: what is wrong is told when the model is asked for (spec A4)."""
    if model.path is None:
        return Looked(None, None, 0)
    try:
        stamp = _stamp(model.path)
        return Looked(facts_of(model.path), None, stamp[0] // 10**9, stamp)
    except FileNotFoundError:
        return Looked(None, f"{model.path} does not exist", 0)
    except (FormatError, OSError) as error:
        return Looked(None, str(error), 0)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def fingerprint(model: ModelConfig, looked: Looked) -> str:
    """Changes when the engine of this model would run differently."""
    fields = model.model_dump(mode="json", exclude=_NOT_ENGINE)
    secret = model.api_key.get_secret_value() if model.api_key else ""
    facts = looked.facts.fingerprint if looked.facts else ""
    seen = orjson.dumps([fields, facts], option=orjson.OPT_SORT_KEYS) + secret.encode()
    return hashlib.sha256(seen).hexdigest()[:16]


def make_spec(
    model: ModelConfig, looked: Looked, default_device: str, learned: Learned, peaks: Peaks, sizes: Mapping[str, int]
) -> ModelSpec:
    """What the planner knows of a model; `sizes` are bytes per device, which no remembered peak may exceed."""
    settings = fingerprint(model, looked)
    expected = model.load_timeout.expected or learned.get((model.id, settings))
    remote = model.launcher == "attached"
    peak = {d: min(int(size * PEAK_MARGIN), sizes.get(d, 0)) for d, size in peaks.get((model.id, settings), {}).items()}
    claim = {} if remote else _claim(model, looked, default_device, peak)
    return ModelSpec(
        id=model.id,
        settings=settings,
        kind=_kind(model, looked),
        claim=claim,
        slots=model.slots,
        pinned=model.pinned,
        preload=model.preload,
        priority=model.priority,
        ttl=_ttl(model, expected),
        min_resident=model.min_resident,
        expected=expected,
        remote=remote,
    )


def make_runnable(model: ModelConfig, looked: Looked, launcher: Launcher, builds: Builds) -> Runnable:
    """What is needed to run a model. Its files are read again before a start if they have changed since."""
    engine = ENGINES[model.engine or "openai"]
    latest = looked

    async def facts() -> ModelFacts | None:
        nonlocal latest
        if model.path is None:
            return None
        with suppress(OSError):
            if latest.problem is None and latest.stamp == _stamp(model.path):
                return latest.facts
        latest = await asyncio.to_thread(look, model)
        if latest.problem is not None:
            raise LoadFailed(latest.problem)
        return latest.facts

    async def build() -> Build:
        return await builds(engine) if engine.binaries else Build(())

    secret = model.api_key.get_secret_value() if model.api_key else None
    remote = endpoint_of(model.url, secret) if model.url else None
    return Runnable(model, fingerprint(model, looked), engine, launcher, remote, facts, build)


def make_policy(config: Config) -> Policy:
    """The scheduling settings."""
    scheduling = config.scheduling
    return Policy(
        queue_limit=scheduling.queue.limit,
        queue_per_key=scheduling.queue.per_key,
        queue_timeout=scheduling.queue.timeout,
        tasks=TaskRule(scheduling.tasks),
        task_model=scheduling.task_model,
        drain_timeout=scheduling.drain_timeout,
    )


def about(model: ModelConfig, looked: Looked) -> About:
    """What `/v1/models` tells of it."""
    return About(model, looked.created, looked.facts, looked.problem)


def cannot_run(model: ModelConfig) -> str | None:
    """Why this version can't run the model, None if it can."""
    if model.engine not in ENGINES:
        return f"Engine '{model.engine}' of model '{model.id}' is not supported by this version of Roundhouse."
    if model.launcher == "systemd":
        return f"Model '{model.id}' is to be run by systemd, which this version of Roundhouse does not support."
    if model.script is not None:
        return f"Model '{model.id}' has a start script, which this version does not run; use `command:` or `path:`."
    return None


def _claim(model: ModelConfig, looked: Looked, default_device: str, peak: Mapping[str, int]) -> dict[str, int]:
    """Bytes per device, and seats: a fixed port can be had by one engine only (spec C3b)."""
    device = model.devices[0] if model.devices else default_device
    if peak:
        claim = dict(peak)
    elif model.memory is not None:
        claim = {d or device: size for d, size in model.memory.items()}
    else:
        engine = ENGINES.get(model.engine or "")
        claim = {device: engine.footprint(model, looked.facts) or 0} if engine is not None else {}
    if model.port is not None:
        claim[f"port:{model.port}"] = 1
    return claim


def _kind(model: ModelConfig, looked: Looked) -> Kind:
    if model.kind != "auto":
        return Kind(model.kind)
    return (looked.facts.kind if looked.facts else None) or Kind.CHAT


def _ttl(model: ModelConfig, expected: float | None) -> float | None:
    if model.ttl != "auto":
        return model.ttl
    return min(TTL_MOST, max(TTL_LEAST, TTL_LOADS * (expected or 0.0)))
