"""An HTTP server that does nothing by itself: a test scripts what each of its connections receives and says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from roundhouse.ports import Endpoint

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable


class Call:
    """One accepted connection, in the hands of a script."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The next request up to its empty line; b'' if the peer has gone."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def request(self) -> tuple[bytes, bytes]:
        """The next request with its body (by content-length, or the raw chunks)."""
        head = await self.head()
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return head, await self.reader.readuntil(b"0\r\n\r\n")
        _, _, rest = lower.partition(b"content-length: ")
        length = int(rest.split(b"\r\n")[0]) if rest else 0
        return head, await self.reader.readexactly(length)

    async def say(self, data: bytes) -> None:
        """Sends; returns when it is with the kernel."""
        if self.writer.is_closing():
            raise ConnectionResetError  # uvloop would raise RuntimeError
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Returns when the peer has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Closes at once."""
        self.writer.transport.abort()


class RawServer:
    """Where it listens, how many connections it had, and the scripts' own failures."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.calls = 0
        self.gone = 0
        self.changed = asyncio.Condition()
        self.failures: list[BaseException] = []

    async def until_gone(self, count: int) -> None:
        """Returns when so many connections have ended."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.gone >= count)


@asynccontextmanager
async def serve(
    script: Callable[[Call], Awaitable[None]], *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Runs `script` for each connection, which is closed when the script returns; a script that fails fails the test."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.calls += 1
        try:
            await script(Call(server.calls, reader, writer))
        except ConnectionError:
            pass  # the client left: what scripts are often about
        except Exception as error:
            server.failures.append(error)
        finally:
            writer.close()
            async with server.changed:
                server.gone += 1
                server.changed.notify_all()

    listener = await asyncio.start_server(serve_one, host, 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = RawServer(Endpoint(host, port, tls=tls is not None))
    try:
        yield server
    finally:
        listener.close()
        async with asyncio.timeout(10):
            await server.until_gone(server.calls)
    if server.failures:
        raise server.failures[0]
