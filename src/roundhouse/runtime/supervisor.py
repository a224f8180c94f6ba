"""The one owner of the picture: events go in, `planner.step` decides, actions go out.

Everything happens in one loop without an await in between, so a request for a free slot is granted within the call.
Knows nothing of HTTP, engines or processes: actions go to `effects`, answers come back as events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, Self

from roundhouse.core import planner
from roundhouse.core.model import Arrived, Cut, Departed, Grant, Prefetch, Refuse, Start, Stop, Tick
from roundhouse.core.waiting import Waiting, explain

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from roundhouse.core.model import Action, Event, Fleet, Ticket
    from roundhouse.errors import RouterError

    Observer = Callable[[Event, list[Action], float], None]


class Doer(Protocol):
    """Whoever carries out actions; answers each with an event, but for a Prefetch."""

    def do(self, action: Start | Stop | Prefetch) -> None:
        """Begins; returns at once."""
        ...


class Lease:
    """A request's claim on a model: asked for on entering, given back on leaving, whatever happened in between.

    Attributes:
        grant: set once the request may go to an instance.
        error: set if it never may, or may no longer: then the task that holds the lease is cancelled, and leaving the
            lease raises this error instead.
    """

    __slots__ = ("_cut", "_done", "_owner", "_supervisor", "error", "grant", "ticket")

    def __init__(self, supervisor: Supervisor, ticket: Ticket) -> None:
        self._supervisor = supervisor
        self.ticket = ticket
        self.grant: Grant | None = None
        self.error: RouterError | None = None
        self._done: asyncio.Future[None] | None = None
        self._owner: asyncio.Task[object] | None = None
        self._cut = False

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        self._supervisor.leases[self.ticket.id] = self
        self._supervisor.post(Arrived(self.ticket))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._supervisor.leases.pop(self.ticket.id, None)
        self._supervisor.post(Departed(self.ticket.id))
        if self._cut:
            await self._end_cut(kind)

    async def _end_cut(self, kind: type[BaseException] | None) -> None:
        """Takes the cancelling back. What had been answered in full by then stands (spec H: cancel)."""
        assert self._owner is not None
        if kind is None or not issubclass(kind, asyncio.CancelledError):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # it comes here, if what was awaited ended at the same time
        self._owner.uncancel()
        if kind is not None:
            assert self.error is not None
            raise self.error from None

    @property
    def settled(self) -> bool:
        """Granted or refused."""
        return self.grant is not None or self.error is not None

    async def wait(self, seconds: float | None = None) -> bool:
        """Waits until it is settled, at most `seconds`; true if it is."""
        if not self.settled:
            self._done = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._done, seconds)
            except TimeoutError:
                return False
            finally:
                self._done = None
        return True

    def result(self) -> Grant:
        """The grant.

        Raises:
            RouterError: the refusal.
        """
        if self.error is not None:
            raise self.error
        assert self.grant is not None
        return self.grant

    def waiting(self) -> Waiting:
        """What to tell the client meanwhile."""
        return explain(self._supervisor.fleet, self.ticket, self._supervisor.now())

    def settle(self, outcome: Grant | Refuse) -> None:
        """Called by the supervisor, once."""
        if isinstance(outcome, Grant):
            self.grant = outcome
        else:
            self.error = outcome.error
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def cut(self, error: RouterError) -> None:
        """Called by the supervisor, as often as somebody wants it: the first time counts."""
        if self._cut or self._owner is None:
            return
        self._cut = True
        self.error = error
        self._owner.cancel()


class Supervisor:
    """The mailbox and the loop around `step`. Use as an async context manager inside a running loop."""

    def __init__(self, fleet: Fleet, doer: Doer, clock: Callable[[], float]) -> None:
        self.fleet = fleet
        self.leases: dict[int, Lease] = {}
        self.now = clock
        self.observers: list[Observer] = []
        """Told of every event and its actions, but for requests that come, are granted at once, and go."""
        self.watchers: list[Observer] = []
        """Told of the same, and of every event while requests wait."""
        self.journal: Observer | None = None
        """Told of every event without exception: whatever it does costs each request that time."""
        self._doer = doer
        self._mail: deque[Event] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._timeless = False  # nothing that lives will ever change by time alone
        self._next_ticket = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def next_ticket(self) -> int:
        """A fresh ticket number."""
        self._next_ticket += 1
        return self._next_ticket

    def lease(self, ticket: Ticket) -> Lease:
        """A place for this request: `async with supervisor.lease(ticket) as lease`."""
        return Lease(self, ticket)

    def statistics(self) -> Fleet:
        """A snapshot of the whole picture."""
        return self.fleet.copy()

    def post(self, event: Event) -> None:
        """Takes an event in and does what follows from it before it returns (events posted meanwhile included)."""
        self._mail.append(event)
        if self._busy:
            return
        self._busy = True
        hurried = True
        try:
            while self._mail:
                event = self._mail.popleft()
                hurried = hurried and not self.fleet.queued and isinstance(event, (Arrived, Departed))
                self._handle(event)
        finally:
            self._busy = False
        # The hot path (nobody waits, before or after) leaves the timer alone: at worst it is early, and looks again.
        if self.fleet.queued or not hurried or (self._timer is None and not self._timeless):
            self._arm()

    def _handle(self, event: Event) -> None:
        now = self.now()
        waited = bool(self.fleet.queued)
        actions = planner.step(self.fleet, event, now)
        if self.journal is not None:
            self.journal(event, actions, now)
        notable = not isinstance(event, (Arrived, Departed))
        for action in actions:
            if isinstance(action, (Grant, Refuse)):
                lease = self.leases.get(action.ticket.id)
                if lease is not None:
                    lease.settle(action)
            elif isinstance(action, Cut):
                lease = self.leases.get(action.ticket.id)
                if lease is not None:
                    lease.cut(action.error)
            else:
                self._doer.do(action)
            notable = notable or not isinstance(action, Grant) or action.model != action.ticket.model
        if notable or waited or self.fleet.queued:
            for watcher in self.watchers:
                watcher(event, actions, now)
        if notable:
            for observer in self.observers:
                observer(event, actions, now)

    def _arm(self) -> None:
        """Sets the one timer to when time alone changes something."""
        at = planner.next_wakeup(self.fleet, self.now())
        if at == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        self._timeless = at is None
        if at is not None:
            delay = max(0.0, at - self.now()) + 0.001
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = None
        self.post(Tick())
