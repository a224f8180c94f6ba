"""Connections to one address, kept for the next request: last in, first out.

Knows when a connection may be used again and when it has been idle for too long; it doesn't know what runs over it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from roundhouse.runtime.wire import authority, name

if TYPE_CHECKING:
    from roundhouse.ports import Endpoint


class Pooled(Protocol):
    """What the pool asks of a connection.

    Attributes:
        idle_since: when it was given back, in the loop's time; the pool's to set.
        ended: done when the socket is closed.
    """

    idle_since: float
    ended: asyncio.Future[None]

    @property
    def usable(self) -> bool:
        """Whether the socket is open, as far as is known."""
        ...

    def close(self) -> None:
        """Closes the socket now."""
        ...

    def fail(self, error: BaseException) -> None:
        """Closes the socket now; who reads from it gets `error`."""
        ...


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """The connections to the address of `endpoint`, in the running loop.

    Args:
        idle_limit: connections kept idle; more are closed.
        idle_seconds: how long one may be idle.

    Attributes:
        name: the engine, for error messages; `authority`: the same for `host` headers.
        open: every connection that stands, idle or busy.
        connecting: how many are being made.
        aborted: why nothing may be made or kept here any more.
    """

    def __init__(self, endpoint: Endpoint, *, idle_limit: int, idle_seconds: float) -> None:
        self.host = endpoint.host
        self.port = endpoint.port
        self.tls = endpoint.tls
        self.name = name(endpoint)
        self.authority = authority(endpoint)
        self.loop = asyncio.get_running_loop()
        self.open: set[C] = set()
        self.connecting = 0
        self.aborted: BaseException | None = None
        # A stack: the connection used last is the one the engine is least likely to have given up.
        self._idle: list[C] = []
        self._idle_limit = idle_limit
        self._idle_seconds = idle_seconds

    @property
    def unused(self) -> bool:
        """Whether nothing stands and nothing is being made."""
        return not self.open and not self.connecting

    def take(self) -> C | None:
        """The idle connection used last, None if there is none that can be used."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since + self._idle_seconds >= self.loop.time():
                return connection
            connection.close()
        return None

    def give(self, connection: C) -> None:
        """Takes back a connection whose exchange has ended well."""
        if self.aborted is not None or len(self._idle) >= self._idle_limit:
            connection.close()
            return
        connection.idle_since = self.loop.time()
        self._idle.append(connection)

    def drop_expired(self) -> None:
        """Closes what has been idle for too long."""
        oldest = self.loop.time() - self._idle_seconds
        expired = 0
        while expired < len(self._idle) and self._idle[expired].idle_since <= oldest:
            self._idle[expired].close()
            expired += 1
        del self._idle[:expired]

    def forget(self, connection: C) -> None:
        """Strikes off a connection that is closed."""
        self.open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def abort(self, reason: BaseException) -> list[asyncio.Future[None]]:
        """Closes everything, for good; the futures are done when the sockets are closed."""
        self.aborted = reason
        self._idle.clear()
        connections = list(self.open)
        for connection in connections:
            connection.fail(reason)
        return [connection.ended for connection in connections]
