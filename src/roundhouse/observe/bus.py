"""Fan-out of live messages to any number of subscribers (`GET /api/v1/events`).

Owns one ring of recent messages; a subscriber is only a place in it, so memory does not grow with slow or many
subscribers. Knows nothing of HTTP, nor of what the messages mean. Lives on one event loop; nothing here is thread-safe.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

RESET = "reset"
"""Kind of the message that says: your knowledge ends here, take a snapshot. `data["why"]` is start, old or run."""

LOST = "lost"
"""Kind of the message that says: you were too slow, `data["lost"]` messages are gone for you."""


class Message(NamedTuple):
    """One thing that happened. `id` is for `Last-Event-ID`; `data` is JSON-able and never changes after publishing."""

    id: str
    kind: str
    data: Mapping[str, object]


class Bus:
    """Publishes messages to subscribers, each at its own pace.

    Args:
        keep: how many messages are kept for those who are behind or come back.
        run: prefix of all ids; differs from run to run, so that an id of an earlier one is never taken for ours.
    """

    def __init__(self, keep: int = 1000, run: str | None = None) -> None:
        self._ring = _Ring(run or secrets.token_hex(4), keep)
        self._wakes: set[asyncio.Event] = set()

    def __repr__(self) -> str:
        return f"<Bus at {self.last_id}: {len(self._ring.kept)} kept, {len(self._wakes)} subscribers>"

    @property
    def last_id(self) -> str:
        """The id of the newest message."""
        return self._ring.id(self._ring.last)

    def publish(self, kind: str, data: Mapping[str, object]) -> None:
        """Tells all subscribers; never blocks, never fails because of one of them."""
        self._ring.add(kind, data)
        self._wake_all()

    def subscribe(self, after: str | None = None) -> Subscription:
        """A subscription that continues after the message of that id, else begins with a `reset` message.

        Args:
            after: the id of the last message that the subscriber has seen, as in `Last-Event-ID`; None: none yet.
        """
        return Subscription(self._ring, self._wakes, after)

    def close(self) -> None:
        """Ends every subscription once it has read what there is: open feeds must not hold up the end of the server."""
        self._ring.closed = True
        self._wake_all()

    def _wake_all(self) -> None:
        for wake in self._wakes:
            wake.set()


class Subscription:
    """One subscriber's place in the stream: `async with` it, then iterate. One reader at a time.

    Cancelling a wait loses nothing, so a reader may wait with a time limit and send keep-alives.
    """

    def __init__(self, ring: _Ring, wakes: set[asyncio.Event], after: str | None) -> None:
        self._ring = ring
        self._wakes = wakes
        self._wake = asyncio.Event()
        self._after = after
        self._seen = 0
        self._reset = ""

    async def __aenter__(self) -> Self:
        self._seen, self._reset = self._ring.place_of(self._after)
        self._wakes.add(self._wake)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wakes.discard(self._wake)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message; ends when the bus is closed and all has been read."""
        while (message := self._next()) is None:
            if self._ring.closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return message

    def _next(self) -> Message | None:
        ring = self._ring
        if self._reset:
            # A snapshot taken now holds everything up to the newest message.
            why, self._reset, self._seen = self._reset, "", ring.last
            return Message(ring.id(ring.last), RESET, {"why": why})
        if (lost := ring.oldest - self._seen) > 0:
            self._seen = ring.oldest
            return Message(ring.id(self._seen), LOST, {"lost": lost})
        if self._seen == ring.last:
            return None
        self._seen += 1
        return ring.message(self._seen)


class _Ring:
    """The last `keep` messages, numbered from 1 on."""

    def __init__(self, run: str, keep: int) -> None:
        self.run = run
        self.kept: deque[Message] = deque(maxlen=keep)
        self.last = 0
        self.closed = False

    @property
    def oldest(self) -> int:
        """The oldest place from which one can still go on: the number before the oldest message kept."""
        return self.last - len(self.kept)

    def id(self, number: int) -> str:
        return f"{self.run}-{number}"

    def add(self, kind: str, data: Mapping[str, object]) -> None:
        self.last += 1
        self.kept.append(Message(self.id(self.last), kind, data))

    def message(self, number: int) -> Message:
        return self.kept[number - self.last - 1]

    def place_of(self, after: str | None) -> tuple[int, str]:
        """The number of the last message seen, and '' or why one can't go on from there."""
        if after is None:
            return self.last, "start"
        run, _, number = after.rpartition("-")
        if run != self.run or not (number.isascii() and number.isdecimal() and len(number) < 20):
            return self.last, "run"
        seen = int(number)
        if seen > self.last:
            return self.last, "run"
        return (seen, "") if seen >= self.oldest else (self.last, "old")
