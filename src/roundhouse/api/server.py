"""uvicorn, with what it lacks: bounds on request headers, errors in JSON, and an end that first tells those who wait.

Facts of uvicorn 0.54: its httptools protocol has no header size or time limit and answers bad requests in plain text;
lifespan shutdown runs after open requests have ended, so waiting requests must be told before; it re-raises signals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp

_TOO_LARGE = "The request's headers are over the limit (limits.headers)."
_TOO_SLOW = "The request's headers did not arrive in time (limits.header_timeout)."


def protocol(
    header_bytes: int, header_seconds: float, render: Callable[[BadRequest], bytes]
) -> type[HttpToolsProtocol]:
    """The protocol class of uvicorn with these limits; `render` makes the JSON body of its own 400s."""

    class Bounded(HttpToolsProtocol):
        """One connection."""

        _seen = 0
        _in_head = True
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(transport)
            self._expect_head()

        def _expect_head(self) -> None:
            self._in_head, self._seen = True, 0

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                if self._deadline is None:
                    self._deadline = self.loop.call_later(header_seconds, self._refuse, _TOO_SLOW)
                self._seen += len(data)
            super().data_received(data)
            if self._in_head and self._seen > header_bytes:
                self._refuse(_TOO_LARGE)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if not self._in_head:  # the next request on the same connection
                self._expect_head()

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._unset_deadline()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unset_deadline()
            super().connection_lost(exc)

        def _unset_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _refuse(self, message: str) -> None:
            self._unset_deadline()
            self.send_400_response(message)

        def send_400_response(self, msg: str) -> None:
            if self.transport.is_closing():
                return
            body = render(BadRequest(msg))
            head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % len(body) + body)
            self.transport.close()

    return Bounded


class Server(uvicorn.Server):
    """A server whose end begins with `closing`: waiting requests are answered there.

    It does not re-raise the signal that ended it, so the exit code is ours to choose.
    """

    def __init__(self, config: uvicorn.Config, closing: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._closing = closing
        self.on_started: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then tells that the port is open."""
        await super().startup(sockets)
        if self.on_started is not None and self.started:
            self.on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but those who wait hear of it first, for they would hold it up."""
        await self._closing()
        await super().shutdown(sockets)
        self._captured_signals.clear()


def make_server(
    app: ASGIApp, *, drain: float, http: type[HttpToolsProtocol], closing: Callable[[], Awaitable[None]], **more: Any
) -> Server:  # handed through to uvicorn
    """A server that is ready for `serve(sockets)`; `drain` seconds is how long running answers may take at the end."""
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=max(1, int(drain)),
        timeout_keep_alive=75,
        backlog=2048,
        **more,
    )
    return Server(config, closing)
