"""The nouns of the product: what a box of engines looks like, what happens to it, and what can be done.

Records are frozen; `Fleet` is the one picture of the whole box, owned by one loop, which replaces records in it.
All times are seconds of one monotonic clock, all sizes bytes. Nothing here knows HTTP, processes or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from roundhouse.core.habits import Habits
from roundhouse.core.shares import NO_SHARES, Shares, Who

if TYPE_CHECKING:
    from roundhouse.errors import RouterError

DeviceId = str
TicketId = int
InstanceId = int
Claim = Mapping[DeviceId, int]
"""Bytes per device. A seat (spec C3b: a unit, a fixed port) is a device of capacity 1."""


def is_seat(device: DeviceId) -> bool:
    """Whether it is a unit or a fixed port: of capacity 1, no memory."""
    return device.startswith(("port:", "unit:"))


class Phase(StrEnum):
    """Where an instance is in its life; the moves between them are in `lifecycle`."""

    STARTING = "loading"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


class Kind(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"


class TaskRule(StrEnum):
    """`scheduling.tasks`: what a background task for an unloaded model gets (spec D7)."""

    RESIDENT = "resident"
    QUEUE = "queue"
    REFUSE = "refuse"


class ReadAhead(StrEnum):
    """`scheduling.prefetch`: whose weights are read into the page cache before its engine starts (spec D12)."""

    OFF = "off"
    NEXT = "next"
    LEARNED = "learned"


class Want(StrEnum):
    """What an operator can ask of a model."""

    LOAD = "load"
    UNLOAD = "unload"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the core needs to know of a model.

    Attributes:
        id: the name in the configuration.
        settings: fingerprint of everything that decides how the engine runs; an engine found running under another
            fingerprint is not this model any more.
        claim: estimated bytes per device, seats included. Replaced by measured figures as they come.
        elsewhere: claims of the other places where it may run instead, in the order of preference.
        told: bytes per device that its engine is told to take, so that no less is ever promised to it, whatever was
            measured.
        slots: concurrent requests; None = what the engine reports once it is ready.
        ttl: seconds without a request after which it is unloaded; None = never.
        ttl_auto: that time is found from what a reload costs and from the model's habits instead (`keeping`).
        expected: seconds a load is expected to take, None = not known yet.
        remote: run by others; nothing of it occupies this box and it is never stopped.
        local: its weights are files on this machine, which can be read ahead.
    """

    id: str
    settings: str = ""
    kind: Kind = Kind.CHAT
    claim: Claim = field(default_factory=dict)
    elsewhere: tuple[Claim, ...] = ()
    told: Claim = field(default_factory=dict)
    slots: int | None = None
    pinned: bool = False
    preload: bool = False
    priority: int = 0
    ttl: float | None = None
    ttl_auto: bool = False
    min_resident: float = 0.0
    expected: float | None = None
    remote: bool = False
    local: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The scheduling settings of the configuration, in seconds."""

    queue_limit: int = 512
    queue_per_key: int = 64
    queue_timeout: float = 600.0
    tasks: TaskRule = TaskRule.RESIDENT
    task_model: str | None = None
    task_hold: float = 0.5
    """How long a task of a model that nobody else wants is held for the chat that it may have raced ahead of."""
    drain_timeout: float | None = None
    max_wait: float | None = None
    """How long a model waits for its turn; None = by its load time. 0 = strictly in the order of arrival."""
    linger: float | None = None
    """How long a model stays idle for a session that may go on while others wait; None = by its habits, 0 = never."""
    unwanted_grace: float = 10.0
    """A load that nobody waits for any more is given up after this long (spec A8)."""
    memory_wait: float = 30.0
    """How long a model waits for memory that others hold before its requests are refused (spec D2)."""
    prefetch: ReadAhead = ReadAhead.NEXT


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that wants a model.

    Attributes:
        key: who asks (the API key's name); the per-key queue limit counts these.
        user: who of those that share the key; a turn is shared fairly between keys and users (spec D5).
        session: names the conversation or agent that it belongs to, whose think time may be lingered through (spec D4).
        task: a background task (spec D7): never a reason to switch models.
        allowed: models the key may use, None = all; a task is only moved to one of these.
        request: the id by which its client and the history know it; decides nothing.
    """

    id: TicketId
    model: str
    arrived: float
    key: str = ""
    priority: int = 0
    task: bool = False
    allowed: frozenset[str] | None = None
    user: str = ""
    session: str = ""
    request: str = ""

    @property
    def who(self) -> Who:
        """Who gets a share for it."""
        return self.key, self.user

    @property
    def talk(self) -> tuple[str, str, str]:
        """Its session, not to be taken for one of the same name of somebody else."""
        return self.key, self.user, self.session


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is.

    `fraction` is 0..1, or None where the engine does not say; `stage` is a short human word; `guessed` is true when we
    counted bytes because the engine says nothing.
    """

    fraction: float | None = None
    stage: str = ""
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class Instance:
    """One engine process (or remote endpoint) that serves a model.

    Attributes:
        claim: bytes held or promised per device; counted until the processes are gone and the memory is back.
        since: when the current phase began; started: when the load began; turn: when it became ready.
        asked: loaded because an operator or `preload` asked, so nobody need be waiting for it.
        leaving: why it drains or stops, in words; for_room: because another model needs its place.
        stop_sent: the Stop action went out.
        settings: the fingerprint that it was started with; outdated where its model's is another by now.
    """

    id: InstanceId
    model: str
    phase: Phase
    claim: Claim
    since: float
    started: float
    turn: float = 0.0
    slots: int = 1
    asked: bool = False
    progress: Progress | None = None
    unwanted_since: float | None = None
    leaving: str = ""
    for_room: bool = False
    stop_sent: bool = False
    pid: int | None = None
    settings: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """How busy an instance is: apart from `Instance`, because these two change with every request.

    Attributes:
        active: requests being answered.
        last: when it last began or ended one, or became ready.
        chores: how many of the active ones are background tasks.
    """

    active: int
    last: float
    chores: int = 0


@dataclass(frozen=True, slots=True)
class Granted:
    """A request being answered: where, since when, and the seconds that its key was charged for it beforehand."""

    ticket: Ticket
    instance: InstanceId
    since: float
    charged: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failures of a model: reason in words, when they were (last 10 minutes), no start before `until`."""

    reason: str
    times: tuple[float, ...]
    until: float


@dataclass(frozen=True, slots=True)
class ModelState:
    """Everything about one model: replaced as a whole when anything of it changes.

    Attributes:
        claim: what the next start will need; measured figures once there are some.
        elsewhere: the same for the other places where it may run.
        queue: in the order of arrival; replaced by `queued`, which keeps what follows.
        oldest: when the first of the queue came that is no background task; highest: the most priority of those.
        shares: who got how much of its slots of late.
        grown: its estimate was raised after a want of memory, and no load has succeeded since.
        asked: when an operator (or `preload`) asked for it and no load has begun yet.
        blocked: since when it can't fit because of others than us (foreign processes).
        idle_since: when its last load ended or failed; queue time counts from here at the earliest (spec D5).
        made_room: when it last left for another model; whoever waits for it waits for its next turn from then on.
        pin_asked: an operator asked for another `pinned` than the configuration says.
    """

    spec: ModelSpec
    claim: Claim
    elsewhere: tuple[Claim, ...] = ()
    instance: Instance | None = None
    queue: tuple[Ticket, ...] = ()
    oldest: float | None = None
    highest: int = 0
    shares: Shares = NO_SHARES
    grown: bool = False
    failure: Failure | None = None
    load_seconds: float | None = None
    asked: float | None = None
    blocked: float | None = None
    idle_since: float = 0.0
    made_room: float = -math.inf
    pin_asked: bool = False

    def queued(self, queue: tuple[Ticket, ...]) -> ModelState:
        """With another queue. What every decision asks of it is worked out here, once."""
        interactive = [ticket for ticket in queue if not ticket.task]
        oldest = interactive[0].arrived if interactive else None
        highest = max((ticket.priority for ticket in interactive), default=0)
        shares = self.shares if queue else NO_SHARES
        return replace(self, queue=queue, oldest=oldest, highest=highest, shares=shares)


@dataclass(frozen=True, slots=True)
class Device:
    """A pool of memory (bytes), or a seat (capacity 1).

    Attributes:
        total: what may be used: the budget of the configuration, else the physical size.
        physical: the real size; 0 = not known.
        foreign: bytes used by processes that are not ours, as last measured.
        holders: who the largest of those are, in words.
    """

    id: DeviceId
    total: int
    physical: int = 0
    foreign: int = 0
    holders: tuple[str, ...] = ()


# --- events: what happened (past tense) ---


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request came in."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Departed:
    """A request ended, was refused, or its client left."""

    ticket: TicketId


@dataclass(frozen=True, slots=True)
class Started:
    """The engine's process exists."""

    instance: InstanceId
    pid: int | None


@dataclass(frozen=True, slots=True)
class Progressed:
    """A load moved."""

    instance: InstanceId
    progress: Progress


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The engine answers; `slots` is what it reports, None if it does not say; `seconds` what the load took."""

    instance: InstanceId
    slots: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Exited:
    """The processes are gone *and* the memory is back (or known to be held by somebody named in `reason`).

    `reason` is in words; `expected` is true when we stopped it; `short` is true when it ended for want of memory.
    """

    instance: InstanceId
    reason: str
    expected: bool = False
    short: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine's process tree really occupies: `claim` counts for this instance, `learned` for later starts.

    `peak` is the most that this load was seen to hold, once that says something about later ones.
    """

    instance: InstanceId
    claim: Claim
    learned: Claim
    peak: Claim = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Devices as last read."""

    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """An operator wants a model loaded or unloaded."""

    model: str
    want: Want


@dataclass(frozen=True, slots=True)
class Cancelled:
    """An operator wants a request ended, waiting or being answered; `by` is the name of the operator's key."""

    ticket: TicketId
    by: str = ""


@dataclass(frozen=True, slots=True)
class Objected:
    """A model was asked for that can't be loaded, as is known without trying; nothing makes room for it."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """After a restart: an engine of ours that still runs and serves `model` with today's settings.

    `claim`: where it was placed; None = the first choice.
    """

    instance: InstanceId
    model: str
    pid: int | None
    slots: int | None
    ready: bool
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Another configuration holds from now on: all its models in order, all its devices, its scheduling settings."""

    specs: tuple[ModelSpec, ...]
    devices: tuple[Device, ...]
    policy: Policy


@dataclass(frozen=True, slots=True)
class ClosingTime:
    """Roundhouse is ending: waiting requests are refused, nothing starts any more."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    Arrived
    | Departed
    | Started
    | Progressed
    | BecameReady
    | Exited
    | Measured
    | Surveyed
    | Asked
    | Cancelled
    | Objected
    | Found
    | Reloaded
    | ClosingTime
    | Tick
)


# --- actions: what is to be done (imperative) ---


@dataclass(frozen=True, slots=True)
class Start:
    """Start an engine; answered by Started, Progressed, BecameReady, or Exited."""

    instance: InstanceId
    model: str
    claim: Claim


@dataclass(frozen=True, slots=True)
class Stop:
    """End an engine and its whole tree; answered by Exited."""

    instance: InstanceId
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The request may go to this instance now. `model` differs from the ticket's when a task was moved (spec D7)."""

    ticket: Ticket
    instance: InstanceId
    model: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request gets this error."""

    ticket: Ticket
    error: RouterError


@dataclass(frozen=True, slots=True)
class Cut:
    """The request is being answered and gets this error instead of the rest; answered by Departed."""

    ticket: Ticket
    error: RouterError


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Read a model's weights into the page cache; whatever else is being read so ends. Nothing answers it.

    `wanted`: somebody waits for the model. It is a guess otherwise, and ends when any engine starts.
    """

    model: str
    wanted: bool


Action = Start | Stop | Grant | Refuse | Cut | Prefetch


class Fleet:
    """The picture of the whole box. Owned by one loop; `planner.step` replaces records in it and nobody else does.

    Attributes:
        devices: by id, seats included.
        models: by id, in configuration order.
        queued: model by ticket, for those that wait.
        granted: by ticket, those being answered.
        instances: model by instance id, for those that live.
        use: how busy each of these is.
        habits: how each model is used, whether it is loaded or not.
        ahead: the last Prefetch, for as long as it needs no other one (`prefetch`).
        last_start: the model whose engine was started last.
        removed: models that are not configured any more, and stay here until nothing of theirs is left.
        policy: scheduling settings.
        closing: no more starts.
        next_instance: the id of the next one.
    """

    __slots__ = (
        *("ahead", "closing", "devices", "granted", "habits", "instances", "last_start", "models", "next_instance"),
        *("policy", "queued", "removed", "use"),
    )

    def __init__(
        self, specs: Iterable[ModelSpec] = (), devices: Iterable[Device] = (), policy: Policy | None = None
    ) -> None:
        self.devices: dict[DeviceId, Device] = {device.id: device for device in devices}
        self.models: dict[str, ModelState] = {s.id: ModelState(s, s.claim, s.elsewhere) for s in specs}
        self.queued: dict[TicketId, str] = {}
        self.granted: dict[TicketId, Granted] = {}
        self.instances: dict[InstanceId, str] = {}
        self.use: dict[InstanceId, Use] = {}
        self.habits: dict[str, Habits] = {model: Habits() for model in self.models}
        self.policy = policy or Policy()
        self.ahead: Prefetch | None = None
        self.last_start: str | None = None
        self.removed: frozenset[str] = frozenset()
        self.closing = False
        self.next_instance = 1

    def copy(self) -> Fleet:
        """A snapshot that later steps do not change (records are frozen, only the mappings are copied)."""
        twin = Fleet((), self.devices.values(), self.policy)
        twin.models, twin.instances, twin.use = dict(self.models), dict(self.instances), dict(self.use)
        twin.queued, twin.granted = dict(self.queued), dict(self.granted)
        twin.habits = {model: habits.copy() for model, habits in self.habits.items()}
        twin.closing, twin.next_instance = self.closing, self.next_instance
        twin.ahead, twin.last_start, twin.removed = self.ahead, self.last_start, self.removed
        return twin

    def live(self) -> list[Instance]:
        """Instances in any phase, oldest first."""
        found = (self.models[model].instance for model in self.instances.values())
        return [instance for instance in found if instance is not None]

    def instance(self, number: InstanceId) -> Instance | None:
        """A living instance by its id."""
        model = self.instances.get(number)
        return self.models[model].instance if model is not None else None

    def __str__(self) -> str:
        """One line for people and test oracles: devices, models that live, queues."""
        lives = [f"{i.model} {i.phase.name} {self.use[i.id].active}/{i.slots}" for i in self.live()]
        queues = [f"{m.spec.id}x{len(m.queue)}" for m in self.models.values() if m.queue]
        sizes = [f"{d.id} {d.total}" for d in self.devices.values()]
        return f"{', '.join(sizes)}: {', '.join(lives) or 'idle'}; queue {', '.join(queues) or 'empty'}"

    def __eq__(self, other: object) -> bool:
        """Same picture (for the test that the short way equals the whole step)."""
        if not isinstance(other, Fleet):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # it changes in place
