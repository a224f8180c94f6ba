"""From a model's configuration to what the planner knows of it (`ModelSpec`) and what runs it (`Runnable`)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

from roundhouse.api.state import About
from roundhouse.app import claims
from roundhouse.app.places import place_of
from roundhouse.config.discover import absence
from roundhouse.core.model import Kind, ModelSpec, Policy, ReadAhead, TaskRule
from roundhouse.engines import ENGINES, visible
from roundhouse.engines.openai import endpoint_of, words_of
from roundhouse.errors import LoadFailed
from roundhouse.formats.errors import FormatError
from roundhouse.ports import Build, Command
from roundhouse.runtime.files import facts_of
from roundhouse.runtime.life import Runnable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from roundhouse.app.claims import Peaks
    from roundhouse.app.places import Box
    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.ports import Engine, Launcher, ModelFacts, Place

    Builds = Callable[[ModelConfig, Engine], Awaitable[Build]]
    Learned = Mapping[tuple[str, str], float]

_NOT_ENGINE = {
    *("id", "name", "description", "tags", "unlisted", "aliases", "set", "strip", "status", "any_of"),
    *("ttl", "pinned", "preload", "priority", "min_resident", "max_instances", "load_timeout", "memory"),
}
"""Keys that say nothing of how the engine process runs, so that changing one restarts nothing."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A model's files as looked at once: facts, or why the model can't be loaded, in words.

    `created` is their time of change in seconds since the epoch, `stamp` what changes when they do.
    """

    facts: ModelFacts | None
    problem: str | None
    created: int
    stamp: tuple[int, int] | None = None


def engine_of(model: ModelConfig) -> Engine:
    """The description of the engine that runs it."""
    return ENGINES[model.engine or "openai"]


def look(model: ModelConfig) -> Looked:
    """Reads a model's headers. Never raises: what is wrong is told when the model is asked for (spec A4)."""
    engine = engine_of(model)
    source = engine.source(model)
    facts, created, stamp = None, 0, None
    try:
        if source is not None:
            stamp = _stamp(source)
            created = stamp[0] // 10**9
            facts = facts_of(source)
    except FileNotFoundError:
        return Looked(None, f"{source} does not exist", 0)
    except (FormatError, OSError) as error:
        return Looked(None, (source and absence(source)) or str(error), 0)
    present = frozenset(path for path in engine.witnesses(model) if absence(path) is None)
    return Looked(facts, engine.objection(model, facts, present) or _no_script(model), created, stamp)


def _no_script(model: ModelConfig) -> str | None:
    """What is wrong with a start script: the first two things that the original's troubleshooting looks at."""
    if model.script is None:
        return None
    try:
        is_file = model.script.is_file()
    except OSError:
        return f"its start script: {absence(model.script)}"
    if not is_file:
        return f"its start script {model.script} does not exist"
    if not os.access(model.script, os.X_OK):
        return f"its start script {model.script} is not executable; run: chmod +x {shlex.quote(str(model.script))}"
    return None


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def fingerprint(model: ModelConfig, looked: Looked) -> str:
    """Changes when the engine of this model would run differently."""
    fields = model.model_dump(mode="json", exclude=_NOT_ENGINE)
    facts = looked.facts.fingerprint if looked.facts else ""
    return _digest(model, [fields, facts])


def process_identity(model: ModelConfig, process: str) -> str:
    """Changes when a process that stays, for several models, would run differently."""
    return _digest(model, [process, model.service, list(model.args), dict(model.env)])


def _digest(model: ModelConfig, told: object) -> str:
    secret = model.api_key.get_secret_value() if model.api_key else ""
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS) + secret.encode()).hexdigest()[:16]


def make_spec(model: ModelConfig, looked: Looked, box: Box, learned: Learned, peaks: Peaks) -> ModelSpec:
    """What the planner knows of a model."""
    settings = fingerprint(model, looked)
    expected = model.load_timeout.expected or learned.get((model.id, settings))
    # A process of others' that takes our models one after another can hold only one of them.
    remote = model.launcher == "attached" and engine_of(model).loads(model) is None
    first, *others = claims.claims(model, looked.facts, box, claims.measured(model.id, settings, peaks))
    seats = _seats(model)
    return ModelSpec(
        id=model.id,
        settings=settings,
        kind=_kind(model, looked),
        claim={} if remote else {**first, **seats},
        elsewhere=tuple({**claim, **seats} for claim in others),
        told=claims.told(model, box, (first, *others)),
        slots=model.slots,
        pinned=model.pinned,
        preload=model.preload,
        priority=model.priority,
        ttl=None if model.ttl == "auto" else model.ttl,
        ttl_auto=model.ttl == "auto",
        min_resident=model.min_resident,
        expected=expected,
        remote=remote,
        local=not remote and looked.facts is not None,
    )


def make_runnable(
    model: ModelConfig, looked: Looked, launcher: Launcher, builds: Builds, box: Box, shelf: Path | None = None
) -> Runnable:
    """What is needed to run a model. Its files are read again before a start if they have changed since.

    `shelf` is the folder of saved conversations, None where none are saved.
    """
    engine, latest = engine_of(model), looked
    source = engine.source(model)

    async def facts() -> ModelFacts | None:
        nonlocal latest
        with suppress(OSError):
            if latest.problem is None and latest.stamp == (_stamp(source) if source is not None else None):
                return latest.facts
        latest = await asyncio.to_thread(look, model)
        if latest.problem is not None:
            raise LoadFailed(latest.problem)
        return latest.facts

    async def command(port: int, place: Place | None) -> Command:
        found = await facts()
        if model.launcher == "attached":
            return Command(())
        if model.script is not None:
            env = {**visible.environment(place, model.env, numbers=True), **model.env}
            return Command((str(model.script),), env, unit=model.service, script=True)
        as_it_is = model.service is not None and model.tabby is not None
        build = Build(()) if as_it_is else await builds(model, engine)
        made = command_of(model, found, build, port, place, shelf)
        return replace(made, unit=model.service, argv=() if as_it_is else made.argv)

    told = engine.conversations(model, looked.facts)
    kept = None if isinstance(told, str) or shelf is None else told
    settings, loads = fingerprint(model, looked), engine.loads(model)
    secret = model.api_key.get_secret_value() if model.api_key else None
    return Runnable(
        config=model,
        settings=settings,
        identity=process_identity(model, loads.process(model)) if loads is not None else settings,
        engine=engine,
        launcher=launcher,
        remote=endpoint_of(model.url, secret) if model.url else None,
        port=port_of(model),
        loads=loads,
        keys=engine.keys(model),
        facts=facts,
        place=lambda claim: place_of(model, claim, box),
        command=command,
        stop=lambda port: words_of(model.stop_command or "", model, port),
        conversations=kept,
        state=lambda: f"{settings}:{latest.stamp}",
    )


def command_of(
    model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None, shelf: Path | None
) -> Command:
    """What runs it on a port: its engine's command, and where its conversations are kept."""
    engine = engine_of(model)
    made = engine.command(model, facts, build, port, place)
    kept = engine.conversations(model, facts)
    if shelf is None or kept is None or isinstance(kept, str):
        return made
    return replace(made, argv=(*made.argv, *kept.arguments(shelf, build)))


def port_of(model: ModelConfig) -> int | None:
    """Where its engine listens, None for any free port: what we don't start by our own words has a port of its own."""
    ours_to_choose = model.script is None and model.tabby is None
    return model.port or (None if ours_to_choose else engine_of(model).default_port)


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
        max_wait=None if scheduling.max_wait == "auto" else scheduling.max_wait,
        prefetch=ReadAhead(scheduling.prefetch),
        linger=0.0 if scheduling.linger == "off" else None if scheduling.linger == "auto" else scheduling.linger,
    )


def about(model: ModelConfig, looked: Looked) -> About:
    """What `/v1/models` tells of it."""
    return About(model, looked.created, looked.facts, looked.problem)


def _seats(model: ModelConfig) -> dict[str, int]:
    """A fixed port and a unit can be had by one engine only (spec C3b)."""
    port = port_of(model)
    seats = {f"port:{port}": 1} if port is not None else {}
    return seats | ({f"unit:{model.service}": 1} if model.service is not None else {})


def _kind(model: ModelConfig, looked: Looked) -> Kind:
    if model.kind != "auto":
        return Kind(model.kind)
    return (looked.facts.kind if looked.facts else None) or Kind.CHAT
