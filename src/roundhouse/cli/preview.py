"""What each model of a configuration would be run as: engine, command line, memory, facts, problems. Starts no model.

Made of the same parts as the serving program, so that `check` says what will be done and nothing else.
"""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.app import programs, specs
from roundhouse.core.model import is_seat
from roundhouse.errors import LoadFailed
from roundhouse.ports import Served
from roundhouse.runtime import devices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.app.specs import Looked
    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.observe.redact import Secrets
    from roundhouse.ports import Build, Engine, ModelFacts

PORT = 4_294_967_295
"""Stands for a port that is chosen at the start: no real port is so high, so it can be found and named."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One model.

    Attributes:
        runs: the command line, or the URL of one run by others, or the models of an any-of; secrets hidden.
        memory: estimated bytes per device.
        context: tokens one request may fill; slots: concurrent requests. None: the engine decides.
        file: what the model's file says, by name.
        problems: why it can't be loaded as things are.
    """

    id: str
    engine: str | None = None
    launcher: str | None = None
    runs: str = ""
    memory: Mapping[str, int] = field(default_factory=dict)
    context: int | None = None
    slots: int | None = None
    file: Mapping[str, str | int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def preview(config: Config, secrets: Secrets) -> list[Preview]:
    """All models, in order. Looks at files, devices and programs of this machine; an engine may be tried."""
    return asyncio.run(_Bench(config, secrets).all())


class _Bench:
    """Where one configuration is laid out; a program is looked for once."""

    def __init__(self, config: Config, secrets: Secrets) -> None:
        self._config = config
        self._secrets = secrets
        self._builds: dict[str, Build | str] = {}
        self._room: dict[str, int] = {}

    async def all(self) -> list[Preview]:
        readers = await devices.detect()
        found = (await devices.combine(readers).read({})).total
        self._room = {**found, **self._config.devices}
        return [await self._one(model) for model in self._config.models.values()]

    async def _one(self, model: ModelConfig) -> Preview:
        if model.any_of:
            return Preview(model.id, runs=f"the first that is loaded of {', '.join(model.any_of)}")
        looked = specs.look(model)
        problems = [looked.problem] if looked.problem else []
        command = ""
        if model.url or model.script or (model.service and model.tabby):
            command = model.url or str(model.script or model.service)
        else:
            build = await self._build(model)
            if isinstance(build, str):
                problems.append(build)
            else:
                command = _command(model, looked.facts, build)
        memory = self._memory(model, looked)
        problems += self._too_large(memory)
        plan = specs.engine_of(model).plan(model, looked.facts) if model.script is None else Served()
        return Preview(
            model.id,
            model.engine,
            model.launcher,
            self._secrets.text(command),
            memory,
            plan.context,
            plan.slots,
            _told(looked.facts),
            tuple(problems),
        )

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

    def _memory(self, model: ModelConfig, looked: Looked) -> dict[str, int]:
        default = next((name for name in sorted(self._room) if name.startswith("gpu")), devices.RAM)
        claim = specs.make_spec(model, looked, default, {}, {}, self._room).claim
        return {name: size for name, size in claim.items() if size and not is_seat(name)}

    def _too_large(self, memory: Mapping[str, int]) -> list[str]:
        return [
            f"It needs about {size >> 20} MiB on {name}, which has {self._room[name] >> 20} MiB for models."
            for name, size in memory.items()
            if size > self._room.get(name, size)
        ]


def _command(model: ModelConfig, facts: ModelFacts | None, build: Build) -> str:
    port = model.port or PORT
    words = specs.engine_of(model).command(model, facts, build, port).argv
    return shlex.join(words).replace(str(PORT), "$PORT")


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
