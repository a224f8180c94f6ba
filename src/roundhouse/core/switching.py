"""What each switch was made of: where the time went between the first request for a model and its first token.

A switch is a model's load, with whatever had to leave for it. Its parts follow one another, so that they add up:
waiting for its turn, draining, saving conversations, the old engine's end, memory coming back, starting, the engine's
own load by stages, the first token. Beside it stands what the machine allows (`Floor`), and why it took longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import BecameReady, Exited, Phase, Progressed, Start, Started, Stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from roundhouse.core.model import Action, Event, Fleet, InstanceId

ROOM: Final = "room for "
"""How the planner begins its reason for why somebody leaves for another model."""
STARTING: Final = "starting"
"""The stage from an engine's start to the first one that it names."""
FAR, FAR_SECONDS = 1.5, 1.0
"""So many times the floor, and so many seconds more, and a load is far from what the machine allows."""
PARTS: Final = ("wait", "drain", "save", "stop", "memory", "decide", "spawn")


@dataclass(frozen=True, slots=True)
class Floor:
    """What the machine allows.

    Attributes:
        weights: bytes of the model; cached: how many of them lay in the page cache when it started, None if unknown.
        disk, cache, bus: bytes per second of the disk, of memory, and of the way to the GPU; 0 = not known or not used.
    """

    weights: int = 0
    cached: int | None = None
    disk: float = 0.0
    cache: float = 0.0
    bus: float = 0.0

    @property
    def seconds(self) -> float | None:
        """The least time for the weights over the slowest link; None where too little is known."""
        if not self.weights or not self.disk or not self.cache:
            return None
        cached = self.cached or 0
        read = (self.weights - cached) / self.disk + cached / self.cache
        return max(read, self.weights / self.bus if self.bus else 0.0)

    @property
    def slowest(self) -> str:
        """The link that says so."""
        if self.seconds is not None and self.bus and self.weights / self.bus >= self.seconds:
            return "PCIe"
        return "memory" if self.cached and self.cached >= self.weights / 2 else "disk"


@dataclass(frozen=True, slots=True)
class Switch:
    """One, in seconds.

    Attributes:
        model: what was loaded; left: what left for it.
        wait: for its turn, from the first request on. drain: the leaving ones' answers. save: their conversations.
        stop: the end of their processes. memory: until it was back. decide: until the start was ordered. spawn: until
            the process was there. All of the slowest that left, one after another.
        stages: the engine's own load, by what it said of it.
        first_token: of the first answer after it, None if nobody waited.
    """

    model: str
    left: tuple[str, ...] = ()
    wait: float = 0.0
    drain: float = 0.0
    save: float = 0.0
    stop: float = 0.0
    memory: float = 0.0
    decide: float = 0.0
    spawn: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    first_token: float | None = None
    floor: Floor = Floor()

    @property
    def load(self) -> float:
        """The engine's own part: from its process on until it answers."""
        return sum(self.stages.values())

    @property
    def overhead(self) -> float:
        """Ours: beyond the wait for its turn, answers that ran on, the engines' own ends and loads."""
        return self.save + self.memory + self.decide + self.spawn

    @property
    def total(self) -> float:
        """From the first request to an engine that answers."""
        ours = self.wait + self.drain + self.save + self.stop + self.memory + self.decide + self.spawn
        return ours + self.load

    @property
    def verdict(self) -> str:
        """How long it took beside what the machine allows, and why that much longer; in words."""
        took = f"loaded in {self.load:.1f} s"
        floor = self.floor.seconds
        if floor is None:
            return took
        allows = f"{took}; the weights alone take {floor:.1f} s (by {self.floor.slowest})"
        if self.load <= FAR * floor or self.load <= floor + FAR_SECONDS:
            return allows
        return f"{allows}; {self._reason()}"

    def _reason(self) -> str:
        stage, seconds = max(self.stages.items(), key=lambda item: item[1], default=(STARTING, 0.0))
        advice = next((text for words, text in _REMEDIES if words in stage), "")
        cold = self.floor.cached is not None and self.floor.cached < self.floor.weights / 2
        if "reading" in stage and cold:
            advice = "most of them came from the disk: `scheduling.prefetch`, or more memory for the page cache"
        return f"{seconds:.1f} s of it {stage}" + (f" ({advice})" if advice else "")


_REMEDIES: Final = (
    ("graph", "`profile: fast-start` does without"),
    ("compil", "its cache folder should outlive the engine; `profile: fast-start` does without"),
    ("warming", "`profile: fast-start` leaves it to the first answer"),
    (STARTING, "the engine's own start, before it reads anything"),
)


@dataclass(slots=True)
class _Leaving:
    model: str
    since: float
    whom: str
    stopped: float | None = None
    saved: float | None = None
    gone: float | None = None
    back: float | None = None


@dataclass(slots=True)
class _Load:
    model: str
    wanted: float
    ordered: float
    left: Sequence[_Leaving]
    started: float | None = None
    stage: str = STARTING
    stage_since: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    def turn(self, stage: str, now: float) -> None:
        """Another stage begins."""
        self.stages[self.stage] = self.stages.get(self.stage, 0.0) + now - self.stage_since
        self.stage, self.stage_since = stage, now


class Switches:
    """Takes down what happens, and tells each switch when its model is ready. All times are those of one clock."""

    def __init__(self) -> None:
        self._leaving: dict[InstanceId, _Leaving] = {}
        self._left: dict[str, list[_Leaving]] = {}
        self._loads: dict[InstanceId, _Load] = {}

    def saw(self, fleet: Fleet, event: Event, actions: Iterable[Action], now: float) -> Switch | None:
        """An event, the picture after it, and what it led to. Returns the switch that it ended well."""
        ended = self._note(event, now)
        for action in actions:
            if isinstance(action, Stop):
                self._stops(action, now)
            elif isinstance(action, Start):
                self._starts(fleet, action, now)
        self._look(fleet)
        return ended

    def saved(self, instance: InstanceId, now: float) -> None:
        """The conversations of one that leaves are saved."""
        if instance in self._leaving:
            self._leaving[instance].saved = now

    def gone(self, instance: InstanceId, now: float) -> None:
        """Its processes are gone; its memory may not be back yet."""
        if instance in self._leaving:
            self._leaving[instance].gone = now

    def _note(self, event: Event, now: float) -> Switch | None:
        if isinstance(event, Exited):
            self._exits(event.instance, now)
            return None
        if not isinstance(event, Started | Progressed | BecameReady) or event.instance not in self._loads:
            return None
        load = self._loads[event.instance]
        if isinstance(event, Started):
            load.started = load.stage_since = now
        elif isinstance(event, BecameReady):
            return self._ready(self._loads.pop(event.instance), now)
        elif load.started is not None and not event.progress.guessed and event.progress.stage not in {"", load.stage}:
            load.turn(event.progress.stage, now)
        return None

    def _exits(self, instance: InstanceId, now: float) -> None:
        self._loads.pop(instance, None)
        leaving = self._leaving.pop(instance, None)
        if leaving is not None:
            leaving.back = now
            self._left.setdefault(leaving.whom, []).append(leaving)

    def _stops(self, action: Stop, now: float) -> None:
        if action.reason.startswith(ROOM):
            whom = action.reason.removeprefix(ROOM)
            found = self._leaving.setdefault(action.instance, _Leaving(action.model, now, whom))
            found.whom, found.stopped = whom, now

    def _starts(self, fleet: Fleet, action: Start, now: float) -> None:
        oldest = fleet.models[action.model].oldest
        left = self._left.pop(action.model, [])
        wanted = min([now, *([oldest] if oldest is not None else []), *(one.since for one in left)])
        self._loads[action.instance] = _Load(action.model, wanted, now, left, stage_since=now)

    def _look(self, fleet: Fleet) -> None:
        """Who drains, and who was called back."""
        for instance in fleet.live():
            if instance.phase is Phase.DRAINING and instance.for_room:
                whom = instance.leaving.removeprefix(ROOM)
                found = self._leaving.setdefault(instance.id, _Leaving(instance.model, instance.since, whom))
                found.whom = whom
            elif instance.phase is Phase.READY and instance.id in self._leaving:
                del self._leaving[instance.id]

    def _ready(self, load: _Load, now: float) -> Switch:
        """Each part ends where the slowest of those that left was done with it, and none before the one before."""
        load.turn("", now)
        begun = min([load.ordered, *(one.since for one in load.left)])
        marks, at = [], max(begun, load.wanted)
        for ends in (
            [one.stopped for one in load.left],
            [one.saved for one in load.left],
            [one.gone for one in load.left],
            [one.back for one in load.left],
            [load.ordered],
            [load.started],
        ):
            reached = min(max([at, *(end for end in ends if end is not None)]), now)
            marks.append(reached - at)
            at = reached
        wait = max(0.0, max(begun, load.wanted) - load.wanted)
        stages = load.stages if load.started is not None else {STARTING: now - at}
        drain, save, stop, memory, decide, spawn = marks
        left = tuple(one.model for one in load.left)
        return Switch(load.model, left, wait, drain, save, stop, memory, decide, spawn, stages)
