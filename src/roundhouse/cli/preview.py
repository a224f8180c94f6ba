"""What each model of a configuration would be run as: engine, command line, memory, facts, problems. Starts no model.

Made of the same parts as the serving program, so that `check` says what will be done and nothing else.
"""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.app import programs, specs
from roundhouse.app.machine import box_of
from roundhouse.app.places import Box, place_of
from roundhouse.app.shelving import MEMORY, folder_of
from roundhouse.core.model import is_seat
from roundhouse.engines import visible
from roundhouse.errors import LoadFailed
from roundhouse.observe.past import Past
from roundhouse.ports import Served

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.core.model import Claim
    from roundhouse.observe.redact import Secrets
    from roundhouse.ports import Build, Choice, Engine, ModelFacts, Place

PLACING = (visible.ORDER, *visible.VARIABLES)
PORT = 4_294_967_295
"""Stands for a port that is chosen at the start: no real port is so high, so it can be found and named."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One model.

    Attributes:
        runs: the command line, or the URL of one run by others, or the models of an any-of; secrets hidden.
        memory: estimated bytes per device, in the place that is tried first; elsewhere: in the others.
        context: tokens one request may fill; slots: concurrent requests. None: the engine decides.
        file: what the model's file says, by name.
        profile: the one in force; None where Roundhouse does not write the command line.
        choices: what the profile has the engine told, with reasons.
        as_balanced: whether that is the same as with `balanced`.
        problems: why it can't be loaded as things are.
        conversations: whether they are kept across switches, or why not; '' where there is nothing to say.
    """

    id: str
    engine: str | None = None
    launcher: str | None = None
    runs: str = ""
    memory: Mapping[str, int] = field(default_factory=dict)
    elsewhere: tuple[Mapping[str, int], ...] = ()
    context: int | None = None
    slots: int | None = None
    file: Mapping[str, str | int] = field(default_factory=dict)
    profile: str | None = None
    choices: tuple[Choice, ...] = ()
    as_balanced: bool = True
    problems: tuple[str, ...] = ()
    conversations: str = ""


def preview(config: Config, secrets: Secrets, past: Past | None = None) -> list[Preview]:
    """All models, in order. Looks at files, devices and programs of this machine; an engine may be tried.

    With a `past`, memory is what the last loads were seen to hold, where there were such.
    """
    return asyncio.run(_Bench(config, secrets, past or Past()).all())


class _Bench:
    """Where one configuration is laid out; a program is looked for once."""

    def __init__(self, config: Config, secrets: Secrets, past: Past) -> None:
        self._config = config
        self._past = past
        self._secrets = secrets
        self._builds: dict[str, Build | str] = {}
        self._box = Box({})

    async def all(self) -> list[Preview]:
        self._box = await box_of(self._config)
        return [await self._one(model) for model in self._config.models.values()]

    async def _one(self, model: ModelConfig) -> Preview:
        if model.any_of:
            return Preview(model.id, runs=f"the first that is loaded of {', '.join(model.any_of)}")
        looked = specs.look(model)
        spec = specs.make_spec(model, looked, self._box, self._past.expected, self._past.peaks)
        memory, *elsewhere = (_memory(claim) for claim in (spec.claim, *spec.elsewhere))
        problems = [looked.problem] if looked.problem else []
        command = ""
        choices: tuple[Choice, ...] = ()
        balanced = choices
        if model.url or model.script or (model.service and model.tabby):
            command = model.url or str(model.script or model.service)
        else:
            build = await self._build(model)
            if isinstance(build, str):
                problems.append(build)
            else:
                place = place_of(model, spec.claim, self._box)
                command = _command(model, looked.facts, build, place, self._shelf())
                plain = model.model_copy(update={"profile": "balanced"})
                choices, balanced = (
                    specs.engine_of(model).choices(one, looked.facts, build, place) for one in (model, plain)
                )
        problems += self._too_large(memory)
        plan = specs.engine_of(model).plan(model, looked.facts) if model.script is None else Served()
        return Preview(
            model.id,
            model.engine,
            model.launcher,
            self._secrets.text(command),
            memory,
            tuple(elsewhere),
            plan.context,
            plan.slots,
            _told(looked.facts),
            model.profile if model.path and not model.script else None,
            choices,
            choices == balanced,
            tuple(problems),
            self._conversations(model, looked.facts),
        )

    def _shelf(self) -> Path | None:
        named = (self._config.state_dir / "install-id").exists() or self._config.sessions.store != "memory"
        return folder_of(self._config) if named else MEMORY / "roundhouse"  # the rest of its name comes with a start

    def _conversations(self, model: ModelConfig, facts: ModelFacts | None) -> str:
        told = specs.engine_of(model).conversations(model, facts)
        if told is None or self._config.sessions.store == "off":
            return ""
        return f"not kept across switches: {told}" if isinstance(told, str) else "kept across switches"

    async def _build(self, model: ModelConfig) -> Build | str:
        """The engine's program, or why there is none; a checkout of TabbyAPI is the model's own."""
        engine = specs.engine_of(model)
        name = f"{engine.name} {model.tabby.dir}" if model.tabby else engine.name
        if name not in self._builds:
            self._builds[name] = await self._find(model, engine)
        return self._builds[name]

    async def _find(self, model: ModelConfig, engine: Engine) -> Build | str:
        state = self._config.state_dir
        try:
            # What was found is remembered only where Roundhouse has run: its folder is for `serve` to make.
            cache = state / "engines.json" if state.is_dir() else None
            return await programs.build_of(self._config, model, engine, cache)
        except LoadFailed as error:
            return error.message

    def _too_large(self, memory: Mapping[str, int]) -> list[str]:
        return [
            f"It needs about {size >> 20} MiB on {name}, which has {self._box.sizes[name] >> 20} MiB for models."
            for name, size in memory.items()
            if size > self._box.sizes.get(name, size)
        ]


def _command(
    model: ModelConfig, facts: ModelFacts | None, build: Build, place: Place | None, shelf: Path | None
) -> str:
    """The command line, as a shell would take it: with the variables that say which GPUs it sees."""
    port = model.port or PORT
    made = specs.command_of(model, facts, build, port, place, shelf)
    told = [f"{name}={shlex.quote(made.env[name])}" for name in PLACING if name in made.env]
    return " ".join((*told, shlex.join(made.argv))).replace(str(PORT), "$PORT")


def _memory(claim: Claim) -> dict[str, int]:
    return {name: size for name, size in claim.items() if size and not is_seat(name)}


def _told(facts: ModelFacts | None) -> dict[str, str | int]:
    """What people look for in a model's file."""
    if facts is None:
        return {}
    told: dict[str, str | int | None] = {
        "format": facts.format,
        "architecture": facts.architecture,
        "name": facts.name,
        "quantisation": facts.quantisation,
        "weights": facts.weights,
        "context": facts.context,
        "kind": facts.kind.value if facts.kind else None,
    }
    return {name: value for name, value in told.items() if value}
