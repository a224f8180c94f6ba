"""One engine instance as the runtime sees it, and what is needed to run its model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Claim
    from roundhouse.ports import (
        Command,
        Conversations,
        Endpoint,
        Engine,
        Exit,
        Handle,
        KeyFile,
        Launcher,
        Loads,
        ModelFacts,
        Place,
        Served,
    )


@dataclass(frozen=True, slots=True)
class Runnable:
    """Everything needed to run a model: its configuration, engine and launcher, and how to learn the rest.

    Attributes:
        settings: fingerprint of what decides how the engine runs.
        identity: fingerprint of the process that serves it: `settings`, or less where a process stays.
        remote: where it answers, if others run it.
        port: where it will listen; None for any free port.
        loads: how the model gets into a process that stays, None where the process is the model.
        facts: what its files say. Raises LoadFailed.
        place: what a claim means to its engine; None where nothing is said of devices.
        command: what to run on a port, in a place. Raises LoadFailed.
        conversations: how its slots are saved, None where they are not.
        state: fingerprint of all that a saved slot depends on but for the engine's build.
        stop: what to run before an engine on a port is ended (`stop_command`); () for nothing.
    """

    config: ModelConfig
    settings: str
    identity: str
    engine: Engine
    launcher: Launcher
    remote: Endpoint | None
    port: int | None
    loads: Loads | None
    keys: KeyFile | None
    facts: Callable[[], Awaitable[ModelFacts | None]]
    place: Callable[[Claim], Place | None]
    command: Callable[[int, Place | None], Awaitable[Command]]
    stop: Callable[[int], tuple[str, ...]]
    conversations: Conversations | None = None
    state: Callable[[], str] = str


@dataclass(slots=True)
class Life:
    """One instance: since when (`started`), what it was given of the devices, what it is now, and when it last moved.

    `claim` is {} for one that was found, where that is not known.
    `ended` is how its process ended by itself, `kills` how many the kernel had ended for want of memory before.
    """

    runnable: Runnable
    started: float
    claim: Claim = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    handle: Handle | None = None
    endpoint: Endpoint | None = None
    served: Served | None = None
    ready: bool = False
    stopping: bool = False
    leaving: bool = False
    dismissed: bool = False
    settled: bool = False
    moved: float = 0.0
    ended: Exit | None = None
    kills: int = 0
    spoke: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def place(self) -> Place | None:
        """Where its engine runs; None where nothing is said of that."""
        return self.runnable.place(self.claim) if self.claim else None
