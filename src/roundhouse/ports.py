"""What the loop asks of the outside: engines described, launchers that start them, devices that are read.

Engines are pure descriptions; launchers and device readers do I/O. Values exchanged between them live here, so that
formats, engines, launchers and runtime need not know one another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import DeviceId, InstanceId, Kind, Progress


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's own files say (bytes, tokens, counts). Unknown figures are 0, None or empty.

    Attributes:
        format: gguf | safetensors | exl2 | exl3.
        weights: sum of the tensors' bytes over all parts.
        context: tokens it was trained for.
        heads_kv: per layer; 0 where a layer keeps no keys and values of its own (shared, recurrent).
        queries: numbers of all query heads of a layer.
        key_length, value_length: numbers per head; `value_length` is 0 where values are kept within the keys (MLA).
        experts_used, expert_feed_forward: experts that each token goes through, and the width of one.
        sliding: per layer, true where attention is a sliding window of `window` tokens.
        sliding_key_length, sliding_value_length: of those layers, 0 where they are as the others.
        state: bytes that recurrent layers keep per request, whatever its length.
        matrices, experts: bytes by tensor type (`Q4_K`) of what is multiplied with: matrices, and stacks of them.
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
    experts_used: int = 0
    expert_feed_forward: int = 0
    vocabulary: int = 0
    queries: int = 0
    heads_kv: tuple[int, ...] = ()
    key_length: int = 0
    value_length: int = 0
    window: int = 0
    sliding: tuple[bool, ...] = ()
    sliding_key_length: int = 0
    sliding_value_length: int = 0
    state: int = 0
    causal: bool = True
    chat_template: bool = False
    vision: bool = False
    matrices: Mapping[str, int] = field(default_factory=dict)
    experts: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """An engine program as found on this machine: how to call it, its version, and the flags its --help names."""

    argv: tuple[str, ...]
    version: str = ""
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model's `profile` has its engine told beyond `balanced`, or `balanced` beyond the engine's own defaults.

    Attributes:
        words: as they stand on the command line.
        buys, costs: half sentences, in words for people: `--x: buys; costs`.
    """

    words: str
    buys: str
    costs: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a GPU is called outside.

    Attributes:
        uuid: as CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES takes it, whatever order a program counts in; '' where it
            is not known.
        vendor: nvidia or amd; '' where it is not known.
        index: its number among those of its vendor, in the order of their PCI addresses. None: as they are listed.
        address: on the PCI bus, as its driver writes it; '' where it is not known.
    """

    uuid: str = ""
    vendor: str = ""
    index: int | None = None
    address: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine is to run, on a machine with GPUs.

    Attributes:
        gpus: the chosen ones in order, as many as there are `sizes` (bytes claimed) and `shares` (proportions of the
            model, of any sum). None: on the processors alone.
        machine: all GPUs that there are.
        free: the user's own arguments say where, and count from all of the machine's GPUs: none may be hidden.
    """

    gpus: tuple[Gpu, ...] = ()
    sizes: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    machine: tuple[Gpu, ...] = ()
    free: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user's own arguments of an engine say of its place.

    Attributes:
        ram: on no GPU.
        gpus: numbers of GPUs, counted from those that the engine sees.
        shares: proportions of the model on each of `gpus`, or on the first GPUs.
        count: how many GPUs it takes.
        everywhere: all GPUs that it sees.
    """

    ram: bool = False
    gpus: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    count: int | None = None
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """A part of each of its devices that an engine is told to take, whatever its model needs (spec D1).

    Attributes:
        of: 'total', the physical size; 'free', what is free when it starts, so that it has to run alone.
        part: 0..1.
    """

    of: Literal["total", "free"]
    part: float


@dataclass(frozen=True, slots=True)
class Edit:
    """A file that is changed before a start: `change` gives its new text from the old ('' when there is none).

    `change` may raise LoadFailed; then nothing is written. The first text ever replaced is kept beside it as `.bak`.
    """

    path: Path
    change: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Attributes:
        argv: program and arguments; empty where a systemd unit runs as it is written.
        env: added to the inherited environment (less what the launcher must not pass on).
        unit: the named systemd unit that runs it.
        script: a start script of the user's. Its shell may not pass signals on, so SIGTERM goes to its whole tree.
        edits: files changed first.
        eof_ends: it ends by itself when its stdin does, and SIGTERM is for one that has not.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    unit: str | None = None
    script: bool = False
    edits: tuple[Edit, ...] = ()
    eof_ends: bool = False


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
    """What a ready engine says about itself.

    `slots` concurrent requests, `context` tokens per request, `name` it serves the model under, `memory` bytes that it
    holds on its device, `build` of the program. None where it does not say.
    """

    slots: int | None = None
    context: int | None = None
    name: str | None = None
    memory: int | None = None
    build: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Where an engine keeps its own API keys.

    Attributes:
        path: the file.
        read: the key to use, from its text. Raises LoadFailed in words when it holds none.
        fresh: a new file's text, given a source of random keys; used when there is none yet (mode 0600).
    """

    path: Path
    read: Callable[[str], str]
    fresh: Callable[[Callable[[], str]], str]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A step of a talk: one HTTP request. Answered by a `Reply`; status 0 means that nobody answered in `timeout` s.

    With `stream`, the reply has no body: pieces of it are what each `More` after it is answered with.
    """

    method: str
    path: str
    body: bytes = b""
    timeout: float = 10.0
    stream: bool = False


@dataclass(frozen=True, slots=True)
class More:
    """A step of a talk: the next piece of a streamed reply. Answered by bytes: b'' at its end, None when it broke."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A step of a talk: nothing for so many seconds. Answered by None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes = b""


if TYPE_CHECKING:
    Step = Exchange | More | Wait | Progress
    """What a talk may yield; a Progress tells how far it is and is answered by None."""
    Talk = Generator[Step, Reply | bytes | None, None]
    """Work with an engine that takes a conversation, without its I/O. Returns when done; raises LoadFailed."""


class Loads(Protocol):
    """How models get in and out of an engine process that stays: what `Engine.loads` gives."""

    def process(self, model: ModelConfig) -> str:
        """Names the process: models with the same one are loaded into it one after another."""
        ...

    def load(self, model: ModelConfig, facts: ModelFacts | None, place: Place | None = None) -> Talk:
        """Brings the model in, whatever is loaded; returns when it answers requests."""
        ...

    def unload(self, model: ModelConfig) -> Talk:
        """Brings out what is loaded; returns when nothing is."""
        ...


class Conversations(Protocol):
    """How an engine's slots are addressed, saved and restored: what `Engine.conversations` gives (spec D11)."""

    @property
    def per_token(self) -> int:
        """Bytes of a file for each token of a conversation, as estimated; 0 where nothing is known."""
        ...

    def arguments(self, folder: Path, build: Build) -> tuple[str, ...]:
        """What comes to the command line, so that conversations can be kept in a folder; () if the build can't."""
        ...

    def fields(self, slot: int | None, *, fresh: bool) -> Mapping[str, object]:
        """What comes to a request's body, so that it goes to a slot; `fresh`: and uses nothing of what that holds.

        Without a slot the engine chooses one.
        """
        ...

    def save(self, slot: int, file: str, limit: float) -> Exchange:
        """Has a slot written to a file of that folder, within `limit` seconds."""
        ...

    def restore(self, slot: int, file: str, limit: float) -> Exchange:
        """Has a slot read from a file of that folder."""
        ...

    def erase(self, slot: int, limit: float) -> Exchange:
        """Has a slot forget what it holds."""
        ...

    def tokens(self, reply: Reply) -> int | None:
        """How many tokens were written or read; None if it was refused."""
        ...

    def floor(self, tokens: int) -> int:
        """How many of a restored conversation's tokens a request must have in common with it, to use any of them."""
        ...

    def trial(self, path: str, body: bytes, limit: float) -> Exchange:
        """A request with nothing to answer: it is computed, and its figures say what its slot had of it."""
        ...

    def found(self, reply: Reply) -> int | None:
        """How many tokens a trial found in its slot; None if it was refused."""
        ...

    def reused(self, timings: Mapping[str, Any]) -> int | None:
        """How many tokens of its prompt an answer found in its slot, by its figures; None where they don't say."""
        ...

    def computed(self, timings: Mapping[str, Any]) -> tuple[int, float] | None:
        """How many tokens of its prompt were computed, and in how many seconds."""
        ...


class Engine(Protocol):
    """A description of one kind of engine: pure, no I/O. What has a body here is so for most engines: derive from it.

    Attributes:
        name: as in `engine:`.
        binaries: program names to look for on PATH; empty where the user gives the command.
        module: the Python module that serves (`python -m`), where it is a Python program.
        default_port: where it listens when nothing tells it otherwise.
        stop_grace: seconds from SIGTERM to SIGKILL.
        dying: lines by which it gives itself up while its process still runs, None if it has none.
        streams_to_abort: a non-streaming request goes on when its client leaves, so it is streamed and gathered (A8).
        facts_paths: paths asked (GET) once it is ready, their replies given to `served` and `serves`.
    """

    name: str
    binaries: tuple[str, ...]
    module: str | None
    default_port: int
    stop_grace: float
    dying: re.Pattern[str] | None = None
    streams_to_abort: bool
    facts_paths: tuple[str, ...]

    def command(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None = None
    ) -> Command:
        """The command line for a model on 127.0.0.1:`port`. Without a place nothing is said of devices."""
        ...

    def choices(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, place: Place | None = None
    ) -> tuple[Choice, ...]:
        """What of `command` is there for the model's profile: none of it about which its `args` say something."""
        return ()

    def ready_paths(self, model: ModelConfig) -> tuple[str, ...]:
        """Paths that are polled (GET) until `is_ready`: the first, or from the first 404 on the next."""
        ...

    def is_ready(self, status: int, body: bytes) -> bool:
        """Whether this reply means that requests can be answered."""
        ...

    def served(self, replies: Mapping[str, bytes]) -> Served:
        """What the replies to `facts_paths` tell."""
        ...

    def serves(self, model: ModelConfig, replies: Mapping[str, bytes]) -> bool:
        """Whether a running engine found by us is this model's, as far as these replies can tell."""
        return True

    def loads(self, model: ModelConfig) -> Loads | None:
        """How models get into its process, None where a process serves the one model that it was started with."""
        return None

    def conversations(self, model: ModelConfig, facts: ModelFacts | None) -> Conversations | str | None:
        """How this model's conversations are saved; why they can't be, in words; None where nothing is to be said."""
        return None

    def keys(self, model: ModelConfig) -> KeyFile | None:
        """Its file of API keys, None if it has none."""
        return None

    def source(self, model: ModelConfig) -> Path | None:
        """The file or folder whose headers tell the facts; None if nothing of it lies here."""
        return model.path

    def witnesses(self, model: ModelConfig) -> tuple[Path, ...]:
        """Paths whose presence `objection` asks about."""
        return ()

    def objection(self, model: ModelConfig, facts: ModelFacts | None, present: frozenset[Path]) -> str | None:
        """Why it can't be loaded, known without trying, in a sentence; None if nothing speaks against it."""
        return None

    def progress(self, line: str) -> Progress | None:
        """What one line of output says about the load, None if nothing."""
        ...

    def failure(self, lines: Sequence[str]) -> str:
        """The reason, in one line of words, why an engine with these last lines ended."""
        ...

    def out_of_memory(self, lines: Sequence[str]) -> bool:
        """Whether an engine with these last lines ended for want of memory, so that more room would help it."""
        ...

    def footprint(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset()
    ) -> int | None:
        """Estimated bytes when loaded, None if nothing can be said.

        Args:
            model: as configured.
            facts: what its files say.
            processor: flags of the processor that computes, in /proc/cpuinfo's words; empty where a GPU does.
        """
        ...

    def parts(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset()
    ) -> Mapping[str, int]:
        """What `footprint` is the sum of: bytes of `weights`, `cache` and others by name; {} if nothing can be said."""
        return {}

    def held(self, lines: Sequence[str]) -> int | None:
        """Bytes that it says, in its output of a load that is done, to have taken on the device that computes.

        None where it does not say, or not all of it. Asked once, when it is ready; `Served.memory` goes before it.
        """
        return None

    def plan(self, model: ModelConfig, facts: ModelFacts | None) -> Served:
        """Slots and context that its command line comes to; None where the engine itself decides."""
        return Served(model.slots, model.context)

    def share(self, model: ModelConfig) -> Share | None:
        """The part of its device that the user's arguments have it take; None where it takes what it needs."""
        return None

    def wish(self, model: ModelConfig) -> Wish:
        """What the user's arguments say of where it runs."""
        return Wish()

    def split(self, model: ModelConfig, facts: ModelFacts | None, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """Estimated bytes on each of several GPUs of these sizes; None if it can't be split or nothing can be said."""
        return None


@dataclass(frozen=True, slots=True)
class Tag:
    """How a running engine is recognised after a restart: kept by its launcher, given back by `found`.

    `settings` is the ModelSpec fingerprint, `port` where it listens, `started` seconds since the epoch, `claim` what it
    was given when it started: bytes by device, {} where that is not known.
    """

    model: str
    settings: str
    port: int
    started: float
    claim: Mapping[DeviceId, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exit:
    """How an engine ended: its exit code, or minus the signal; `by_us` when we stopped it.

    `starved` when its launcher knows that the kernel ended it for want of memory.
    """

    code: int | None
    by_us: bool = False
    starved: bool = False


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

    @property
    def running(self) -> bool:
        """Whether a start takes what runs already."""
        return False

    @property
    def stays(self) -> bool:
        """Whether its process is to be kept when its model is brought out."""
        return False

    async def clear(self, command: Command) -> None:
        """Ends what already runs in the place that a command names (its unit), before its port is looked at."""
        ...

    async def start(self, tag: Tag, command: Command) -> Handle:
        """Starts the engine. Raises LoadFailed with the reason if it can't even be started."""
        ...

    async def found(self) -> list[Handle]:
        """Engines of this installation that run already."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """Devices as measured (bytes). A device that could not be read is in none of it.

    Attributes:
        total, used: physical size and all use, per device.
        ours: per instance, bytes on each device held by its process tree.
        holders: the largest foreign users per device, as 'name (pid 123, 3.1 GiB)'.
        gpus: which of the devices are GPUs.
        opaque: devices that do not tell what each process holds; a process missing there may hold something.
    """

    total: Mapping[DeviceId, int]
    used: Mapping[DeviceId, int]
    ours: Mapping[InstanceId, Mapping[DeviceId, int]] = field(default_factory=dict)
    holders: Mapping[DeviceId, tuple[str, ...]] = field(default_factory=dict)
    gpus: Mapping[DeviceId, Gpu] = field(default_factory=dict)
    opaque: frozenset[DeviceId] = frozenset()


class DeviceReader(Protocol):
    """Reads memory devices."""

    async def read(self, trees: Mapping[InstanceId, int]) -> Reading:
        """Measures now; `trees` maps our instances to the root pid of their process tree."""
        ...
