"""WebSockets to engines (RFC 6455): one connection each, messages handed on whole.

The only file that knows the client library.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from roundhouse.errors import UpstreamError
from roundhouse.runtime.upstream import Unreachable
from roundhouse.runtime.wire import authority, name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from websockets.asyncio.client import ClientConnection

    from roundhouse.ports import Endpoint

LARGEST = 16 << 20
"""Bytes of one message, in either direction."""
_OPEN_SECONDS, _CLOSE_SECONDS = 10.0, 2.0


class Declined(UpstreamError):
    """The engine answered the handshake with an ordinary answer.

    Attributes:
        answer: its body; `answer_status` and `kind` (content type) go with it.
    """

    def __init__(self, engine: str, status: int, kind: str, answer: bytes) -> None:
        super().__init__(f"{engine} refused the WebSocket with status {status}.")
        self.answer_status = status
        self.kind = kind
        self.answer = answer


class Closed(Exception):
    """The engine closed, or is gone (`code` 1006: without a word)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}")
        self.code = code
        self.reason = reason


class Socket:
    """One connection. One task sends, one receives."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @property
    def subprotocol(self) -> str | None:
        """The one that the engine chose."""
        return self._connection.subprotocol

    async def send(self, message: str | bytes) -> None:
        """Sends a text or binary message; waits while the engine does not read. Raises Closed."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self) -> str | bytes:
        """The next message; the engine is not read while nobody asks for many. Raises Closed."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def close(self, code: int, reason: str) -> None:
        """Tells the engine, and waits a little for its own word."""
        await self._connection.close(code, reason)


class _Straight(dial):
    """A connection that follows no redirection: our key is for this engine."""

    def process_redirect(self, exc: Exception) -> Exception:
        """What is told of one."""
        return exc


@asynccontextmanager
async def connect(
    endpoint: Endpoint, path: bytes, headers: Sequence[tuple[bytes, bytes]], subprotocols: Sequence[str]
) -> AsyncIterator[Socket]:
    """Opens a WebSocket; the endpoint's own headers are added. It is closed on leaving, whatever happened.

    Args:
        endpoint: where the engine is.
        path: with query, percent-encoded, to be put after the endpoint's base.
        headers: of the client, without those of the handshake.
        subprotocols: that the client offers.

    Raises:
        Declined: the engine is no WebSocket there.
        Unreachable: it refused the connection.
        UpstreamError: it can't be reached, or is no WebSocket server.
    """
    scheme = "wss" if endpoint.tls else "ws"
    ours = {header.lower() for header, _ in endpoint.headers}
    sent = [*((n, v) for n, v in headers if n.lower() not in ours), *endpoint.headers]
    dialled = _Straight(
        f"{scheme}://{authority(endpoint).decode()}{endpoint.base}{path.decode('latin-1')}",
        additional_headers=[(n.decode("latin-1"), v.decode("latin-1")) for n, v in sent],
        subprotocols=[Subprotocol(one) for one in subprotocols] or None,
        compression=None,
        user_agent_header=None,
        proxy=None,
        open_timeout=_OPEN_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        max_size=LARGEST,
    )
    try:
        connection = await dialled
    except InvalidStatus as error:
        answer = error.response
        kind = answer.headers.get("content-type", "text/plain")
        raise Declined(name(endpoint), answer.status_code, kind, bytes(answer.body or b"")) from None
    except ConnectionRefusedError as error:
        raise Unreachable(f"{name(endpoint)} refused the connection.") from error
    except (OSError, WebSocketException, ValueError) as error:
        raise UpstreamError(f"{name(endpoint)} opened no WebSocket: {error}.") from error
    try:
        yield Socket(connection)
    finally:
        await connection.close()


def _closed(error: ConnectionClosed) -> Closed:
    received = error.rcvd
    return Closed(received.code, received.reason) if received is not None else Closed(1006, "")
