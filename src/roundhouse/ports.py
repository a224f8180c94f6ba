"""What the loop asks of the outside: engines described, launchers that start them, devices that are read.

Engines are pure descriptions; launchers and device readers do I/O. Values exchanged between them live here, so that
formats, engines, launchers and runtime need not know one another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import DeviceId, InstanceId, Kind, Progress


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's own files say (bytes, tokens, counts). Unknown figures are 0, None or empty.

    Attributes:
        format: gguf | safetensors | exl2 | exl3.
        weights: sum of the tensors' bytes over all parts.
        context: tokens it was trained for.
        heads_kv: per layer.
        sliding: per layer, true where attention is a sliding window of `window` tokens.
        fingerprint: changes when the file does (header hash, size); not a hash of all weights.
    """

    format: str
    architecture: str = ""
    name: str = ""
    weights: int = 0
    context: int | None = None
    quantisation: str | None = None
    kind: Kind | None = None
    layers: int = 0
    embedding: int = 0
    feed_forward: int = 0
    vocabulary: int = 0
    heads_kv: tuple[int, ...] = ()
    key_length: int = 0
    value_length: int = 0
    window: int = 0
    sliding: tuple[bool, ...] = ()
    causal: bool = True
    chat_template: bool = False
    vision: bool = False
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """An engine program as found on this machine: how to call it, its version, and the flags its --help names."""

    argv: tuple[str, ...]
    version: str = ""
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `env` is added to the inherited environment (less what the launcher must not pass on)."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine answers.

    `base` is a path prefix without trailing slash ('' or '/v1'); `headers` are ours (engine keys).
    """

    host: str
    port: int
    tls: bool = False
    base: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """What a ready engine says about itself: `slots` concurrent requests, `context` tokens per request."""

    slots: int | None = None
    context: int | None = None


class Engine(Protocol):
    """A description of one kind of engine: pure, no I/O.

    Attributes:
        name: as in `engine:`.
        binaries: program names to look for on PATH; empty where the user gives the command.
        streams_to_abort: a non-streaming request goes on when its client leaves, so it is streamed and gathered (A8).
        facts_paths: paths asked (GET) once it is ready, their replies given to `served`.
    """

    name: str
    binaries: tuple[str, ...]
    streams_to_abort: bool
    facts_paths: tuple[str, ...]

    def command(self, model: ModelConfig, facts: ModelFacts | None, build: Build, port: int) -> Command:
        """The command line for a model on 127.0.0.1:`port`."""
        ...

    def ready_path(self, model: ModelConfig) -> str:
        """Path that is polled (GET) until `is_ready`."""
        ...

    def is_ready(self, status: int, body: bytes) -> bool:
        """Whether this reply means that requests can be answered."""
        ...

    def served(self, replies: Mapping[str, bytes]) -> Served:
        """What the replies to `facts_paths` tell."""
        ...

    def progress(self, line: str) -> Progress | None:
        """What one line of output says about the load, None if nothing."""
        ...

    def failure(self, lines: Sequence[str]) -> str:
        """The reason, in one line of words, why an engine with these last lines ended."""
        ...

    def footprint(self, model: ModelConfig, facts: ModelFacts | None) -> int | None:
        """Estimated bytes when loaded, None if nothing can be said."""
        ...


@dataclass(frozen=True, slots=True)
class Tag:
    """How a running engine is recognised after a restart: kept by its launcher, given back by `found`.

    `settings` is the ModelSpec fingerprint, `port` where it listens, `started` seconds since the epoch.
    """

    model: str
    settings: str
    port: int
    started: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How an engine ended: its exit code, or minus the signal; `by_us` when we stopped it."""

    code: int | None
    by_us: bool = False


class Handle(Protocol):
    """One running (or ended) engine under a launcher."""

    tag: Tag
    pid: int | None

    async def wait_exit(self) -> Exit:
        """Returns when the whole process tree is gone."""
        ...

    async def stop(self, grace: float) -> Exit:
        """SIGTERM to the main process, after `grace` seconds SIGKILL to the tree; returns when all is gone."""
        ...

    def lines(self) -> AsyncIterator[str]:
        """Output lines from the beginning of what is kept, then as they come, until the engine has ended."""
        ...

    def tail(self, count: int) -> list[str]:
        """The last lines of output."""
        ...

    async def detach(self) -> None:
        """Lets go without stopping: the engine stays for a later Roundhouse (within `orphan_grace`)."""
        ...


class Launcher(Protocol):
    """Starts engines and finds those that still run."""

    async def start(self, tag: Tag, command: Command) -> Handle:
        """Starts the engine. Raises LoadFailed with the reason if it can't even be started."""
        ...

    async def found(self) -> list[Handle]:
        """Engines of this installation that run already."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """Devices as measured (bytes).

    Attributes:
        total, used: physical size and all use, per device.
        ours: per instance, bytes on each device held by its process tree.
        holders: the largest foreign users per device, as 'name (pid 123, 3.1 GiB)'.
    """

    total: Mapping[DeviceId, int]
    used: Mapping[DeviceId, int]
    ours: Mapping[InstanceId, Mapping[DeviceId, int]] = field(default_factory=dict)
    holders: Mapping[DeviceId, tuple[str, ...]] = field(default_factory=dict)


class DeviceReader(Protocol):
    """Reads memory devices."""

    async def read(self, trees: Mapping[InstanceId, int]) -> Reading:
        """Measures now; `trees` maps our instances to the root pid of their process tree."""
        ...
