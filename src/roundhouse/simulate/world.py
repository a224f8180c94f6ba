"""A whole box in virtual time: clients, engines and the clock, around the planner that also runs the real one.

Nothing is decided here: `core.planner.step` is told what happened, and its actions are carried out. Engines load,
answer and stop in the seconds that `Timing` gives them; they never fail, and nobody else uses their memory.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from roundhouse.core.model import (
    Arrived,
    Asked,
    BecameReady,
    Cut,
    Departed,
    Exited,
    Fleet,
    Grant,
    Prefetch,
    Refuse,
    Start,
    Stop,
    Tick,
    Ticket,
    Want,
)
from roundhouse.core.planner import next_wakeup, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from roundhouse.core.model import Action, Event, InstanceId, TicketId
    from roundhouse.simulate.setup import Setup, Timing

SHORTEST = 0.001
"""Seconds until the next Tick at least, so that nothing that decides can make time stand still."""
WATCH_EVERY = 500
"""Happenings between two calls of `watch`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client.

    Attributes:
        at: when it comes, seconds from the beginning.
        seconds: how long its answer takes on an engine that answers nothing else.
        session: of one session, workloads may let the next request wait for the end of the one before.
        mark: a number of the workload's own.
    """

    at: float
    model: str
    seconds: float
    key: str = ""
    user: str = ""
    session: str = ""
    task: bool = False
    priority: int = 0
    mark: int = -1


class Workload(Protocol):
    """Who asks."""

    def first(self) -> Iterable[Request]:
        """The requests that depend on no other."""
        ...

    def follow(self, request: Request, now: float) -> Iterable[Request]:
        """The requests that come because this one has ended now, answered or refused; none of them before now."""
        ...


@dataclass(slots=True)
class Fate:
    """What became of a request; times are seconds from the beginning, None = not yet.

    Attributes:
        model: who answered: another than asked for when a background task was moved.
        error: the code of the refusal, or `cut` when its engine was stopped under it.
    """

    request: Request
    model: str = ""
    began: float | None = None
    ended: float | None = None
    error: str = ""

    @property
    def done(self) -> bool:
        """Answered in full."""
        return self.ended is not None and not self.error

    def waited(self, now: float) -> float:
        """Seconds from its arrival until its answer began, it was refused, or (still waiting) until `now`."""
        until = self.began if self.began is not None else self.ended
        return (now if until is None else until) - self.request.at


@dataclass(slots=True)
class Stay:
    """One engine's life: told to start, `ready` to answer, `gone` with its memory back; None = not yet."""

    model: str
    began: float
    ready: float | None = None
    gone: float | None = None
    for_room: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation showed: every request that came, every engine that was started, the time at which it ended."""

    fates: tuple[Fate, ...]
    stays: tuple[Stay, ...]
    seconds: float


def play(
    setup: Setup,
    workload: Workload,
    until: float | None = None,
    watch: Callable[[float], None] | None = None,
) -> Outcome:
    """Simulates, until that second or (None) until everybody who came has been answered or refused.

    `watch` is told the virtual time now and then. The same arguments give the same outcome.
    """
    return _World(setup, workload).run(until, watch)


@dataclass(slots=True)
class _Engine:
    """An engine that lives.

    Attributes:
        answers: those under way, as a heap of (`work` at which it ends, ticket).
        work: seconds of answering that each answer under way has had since the engine became ready, as of `at`.
        plan: number of the newest plan for the next end of an answer; older ones are void.
    """

    stay: Stay
    timing: Timing
    answers: list[tuple[float, TicketId]] = field(default_factory=list)
    work: float = 0.0
    at: float = 0.0
    plan: int = 0
    stopped: bool = False

    def catch_up(self, now: float) -> None:
        """Brings `work` to now."""
        if self.answers:
            self.work += (now - self.at) / self.pace()
        self.at = now

    def pace(self) -> float:
        """Seconds that a second of answering takes with so many answers under way."""
        return 1.0 + self.timing.slowdown * (len(self.answers) - 1)

    def next_end(self) -> float:
        """When the first of the answers under way ends, if none comes or goes before."""
        return self.at + max(0.0, self.answers[0][0] - self.work) * self.pace()


class _World:
    def __init__(self, setup: Setup, workload: Workload) -> None:
        self._setup = setup
        self._workload = workload
        self._fleet = Fleet(setup.specs, setup.devices, setup.policy)
        self._now = 0.0
        self._wake: float | None = None
        self._due: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._count = 0
        self._awaited = 0
        self._open: dict[TicketId, Fate] = {}
        self._engines: dict[InstanceId, _Engine] = {}
        self._fates: list[Fate] = []
        self._stays: list[Stay] = []

    def run(self, until: float | None, watch: Callable[[float], None] | None) -> Outcome:
        for spec in self._setup.specs:
            if spec.preload:
                self._tell(Asked(spec.id, Want.LOAD))
        self._expect(self._workload.first())
        happened = 0
        while self._awaited or self._open:
            at = self._next()
            if at is None:
                break
            if until is not None and at > until:
                break
            self._now = at
            self._happen()
            happened += 1
            if watch is not None and happened % WATCH_EVERY == 0:
                watch(self._now)
        return Outcome(tuple(self._fates), tuple(self._stays), self._now if until is None else until)

    # --- time ---

    def _next(self) -> float | None:
        times = [self._due[0][0]] if self._due else []
        if self._wake is not None:
            times.append(self._wake)
        return min(times, default=None)

    def _happen(self) -> None:
        """What is due now: engines and clients first, as their events make the planner look at the time anyway."""
        if self._due and self._due[0][0] <= self._now:
            _, _, what, about = heapq.heappop(self._due)
            what(about)
        else:
            self._tell(Tick())

    def _later(self, at: float, what: Callable[[Any], None], about: object) -> None:
        self._count += 1
        heapq.heappush(self._due, (at, self._count, what, about))

    def _tell(self, event: Event) -> None:
        """The one way into the planner."""
        for action in step(self._fleet, event, self._now):
            self._do(action)
        wake = next_wakeup(self._fleet, self._now)
        self._wake = None if wake is None else max(wake, self._now + SHORTEST)

    # --- clients ---

    def _expect(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._awaited += 1
            self._later(max(request.at, self._now), self._arrive, request)

    def _arrive(self, request: Request) -> None:
        self._awaited -= 1
        fate = Fate(request)
        self._fates.append(fate)
        number = len(self._fates)
        self._open[number] = fate
        ticket = Ticket(
            id=number,
            model=request.model,
            arrived=self._now,
            key=request.key,
            priority=request.priority,
            task=request.task,
            user=request.user,
            session=request.session,
        )
        self._tell(Arrived(ticket))

    def _end(self, number: TicketId, error: str = "") -> None:
        fate = self._open.pop(number)
        fate.ended, fate.error = self._now, error
        self._expect(self._workload.follow(fate.request, self._now))

    # --- engines ---

    def _do(self, action: Action) -> None:
        match action:
            case Start(instance, model, _):
                self._start(instance, model)
            case Stop(instance):
                engine = self._engines[instance]
                engine.stopped = True
                self._later(self._now + engine.timing.stop, self._gone, instance)
                life = self._fleet.models[action.model].instance
                engine.stay.for_room = life is not None and life.for_room
            case Grant():
                self._grant(action)
            case Refuse(ticket, error):
                self._end(ticket.id, error.code)
            case Cut() | Prefetch():
                pass  # no operator cancels anything; loads take the seconds that they are given

    def _start(self, instance: InstanceId, model: str) -> None:
        timing = self._setup.timing[model]
        stay = Stay(model, self._now)
        self._stays.append(stay)
        self._engines[instance] = _Engine(stay, timing)
        self._later(self._now + timing.load, self._ready, instance)

    def _ready(self, instance: InstanceId) -> None:
        engine = self._engines.get(instance)
        if engine is None or engine.stopped:  # the load was given up
            return
        engine.stay.ready = self._now
        self._tell(BecameReady(instance, engine.timing.slots, engine.timing.load))

    def _gone(self, instance: InstanceId) -> None:
        engine = self._engines.pop(instance)
        engine.stay.gone = self._now
        self._tell(Exited(instance, "", expected=True))
        for _, number in engine.answers:
            self._end(number, "cut")
            self._tell(Departed(number))

    def _grant(self, grant: Grant) -> None:
        engine = self._engines[grant.instance]
        assert engine.stay.ready is not None, "a request was granted to an engine that is not ready"
        assert not engine.stopped, "a request was granted to an engine that was told to stop"
        fate = self._open[grant.ticket.id]
        fate.began, fate.model = self._now, grant.model
        engine.catch_up(self._now)
        heapq.heappush(engine.answers, (engine.work + fate.request.seconds, grant.ticket.id))
        self._plan(grant.instance, engine)

    def _plan(self, instance: InstanceId, engine: _Engine) -> None:
        """Notes when the next answer of an engine ends; what was noted before is void."""
        engine.plan += 1
        if engine.answers:
            self._later(engine.next_end(), self._answered, (instance, engine.plan))

    def _answered(self, planned: tuple[InstanceId, int]) -> None:
        instance, plan = planned
        engine = self._engines.get(instance)
        if engine is None or engine.plan != plan:
            return
        engine.catch_up(self._now)
        _, number = heapq.heappop(engine.answers)
        self._plan(instance, engine)
        self._end(number)
        self._tell(Departed(number))
