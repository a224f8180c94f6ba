"""uvicorn, with what it lacks: bounds on request headers, errors in JSON, and an end that first tells those who wait.

Facts of uvicorn 0.54: its httptools protocol has no header size or time limit and answers bad requests in plain text;
lifespan shutdown runs after open requests have ended, so waiting requests must be told before; it re-raises signals.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from roundhouse.api.cork import Corked
from roundhouse.errors import BadRequest
from roundhouse.runtime.websocket import LARGEST

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from starlette.types import ASGIApp

_TOO_LARGE = "The request's headers are over the limit (limits.headers)."
_TOO_SLOW = "The request's headers did not arrive in time (limits.header_timeout)."
_HEAD_400 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
)


class Bounded(HttpToolsProtocol):
    """One connection, whose request heads have a limit in bytes and one in time; see `protocol`.

    uvicorn parses a head while it comes. A head that comes in one read, as nearly all do, starts no timer.
    """

    header_bytes: int
    header_seconds: float
    render: Callable[[BadRequest], bytes]

    _in_head = True
    _seen = 0  # bytes of reads that had a part of this head
    _read = 0  # bytes of the present read
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """The first head is awaited from now on."""
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", Corked(transport, self.loop))
        self._limit_head()

    def data_received(self, data: bytes) -> None:
        """Parses; refuses a head that has grown too long, and sets its limit in time if it is not whole yet."""
        self._read = len(data)
        if self._in_head:
            self._seen += self._read
        super().data_received(data)
        if not self._in_head:
            return
        if self._seen > self.header_bytes:
            self._refuse(_TOO_LARGE)
        elif self._deadline is None:
            self._limit_head()

    def on_message_begin(self) -> None:
        """A head begins: the first of the connection, or the next one, in the middle of a read."""
        super().on_message_begin()
        if not self._in_head:
            self._in_head, self._seen = True, self._read

    def on_headers_complete(self) -> None:
        """The head is whole. One that was too long all the same came in one read."""
        self._in_head = False
        self._unset_deadline()
        if self._seen > self.header_bytes and sum(len(n) + len(v) for n, v in self.headers) > self.header_bytes:
            self._refuse(_TOO_LARGE)
            return
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._unset_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's own answer to what is no HTTP, in the shape of our errors."""
        if self.transport.is_closing():
            return
        body = type(self).render(BadRequest(msg))
        self.transport.write(_HEAD_400 % len(body) + body)
        self.transport.close()

    def _limit_head(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self._too_slow)

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._seen:
            self._refuse(_TOO_SLOW)
        else:  # it never said a word
            self.transport.close()

    def _refuse(self, message: str) -> None:
        self._unset_deadline()
        self.send_400_response(message)


def protocol(header_bytes: int, header_seconds: float, render: Callable[[BadRequest], bytes]) -> type[Bounded]:
    """The class of connections with these limits; `render` makes the JSON body of its own 400s."""
    limits = {"header_bytes": header_bytes, "header_seconds": header_seconds, "render": staticmethod(render)}
    return type("Bounded", (Bounded,), limits)


class Discreet(WebSocketsSansIOProtocol):
    """A WebSocket of which no log is told: uvicorn would write down its path with the query, whatever that holds."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As uvicorn's."""
        super().connection_made(transport)
        self.logger = _SILENT


_SILENT = logging.getLogger("roundhouse.websockets")
_SILENT.setLevel(logging.CRITICAL)

TIME_TO_ASK = 0.1
"""Seconds from the last accepted connection to the end of those that are idle."""


class Server(uvicorn.Server):
    """A server whose end begins with `closing`: waiting requests are answered there.

    It does not re-raise the signal that ended it, so the exit code is ours to choose.
    """

    def __init__(self, config: uvicorn.Config, closing: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._closing = closing
        self.on_started: Callable[[], None] | None = None

    def end(self) -> None:
        """Begins the end, as a signal would."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then tells that the port is open."""
        await super().startup(sockets)
        if self.on_started is not None and self.started:
            self.on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but those who wait hear of it first, for they would hold it up.

        Nobody is let in any more (a socket of systemd's goes on collecting those for the next Roundhouse), and who was
        let in just now gets the time to ask: uvicorn would close such connections with their request unread.
        """
        for server in self.servers:
            server.close()
        await asyncio.sleep(TIME_TO_ASK)
        await self._closing()
        await super().shutdown(sockets)
        self._captured_signals.clear()


def make_server(
    app: ASGIApp,
    *,
    drain: float,
    http: type[Bounded],
    closing: Callable[[], Awaitable[None]],
    tls: tuple[Path, Path] | None = None,
) -> Server:
    """A server that is ready for `serve(sockets)`.

    Args:
        app: what it serves.
        http: the class of its connections; see `protocol`.
        drain: seconds that running answers may take at the end.
        closing: see `Server`.
        tls: PEM files of the certificate chain and its key.
    """
    cert, key = tls if tls is not None else (None, None)
    config = uvicorn.Config(
        app,
        http=http,
        ws=Discreet,
        ws_max_size=LARGEST,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        date_header=False,
        timeout_graceful_shutdown=max(1, int(drain)),
        timeout_keep_alive=75,
        backlog=2048,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    return Server(config, closing)
