"""The HTTP/1.1 client of the hot path: sends a request to an engine, hands its answer on, byte for byte, as it comes.

Owns the connections to engines, their back-pressure and their end. It knows HTTP and sockets; it knows nothing of
models, leases, dialects or clients. Messages are framed as RFC 9112 says, parsed by httptools (llhttp).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Self, cast

import httptools

from roundhouse.errors import ShuttingDown, UpstreamError, UpstreamTimeout
from roundhouse.runtime.pool import Pool
from roundhouse.runtime.wire import chunked, name, request_head, slices

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
    from types import TracebackType

    from roundhouse.ports import Endpoint

_BARREN_LIMIT = 64 * 1024
"""Bytes of head, trailers or chunk extensions that an engine may send without a byte of body between them."""

_PROBE_LIMIT = 4 * 1024 * 1024
"""Longest body that `Upstream.get` accepts."""

_SLICE = 256 * 1024
"""A longer request body is written in slices of this many bytes, so that the transport buffers only a few of them."""


class Unreachable(UpstreamError):
    """Nobody accepted the connection, so nothing of the request was received."""


class Upstream:
    """Sends requests to engines over pooled connections. An async context manager; one serves all endpoints.

    Args:
        connect_timeout: seconds for a connection to stand, TLS included.
        idle_limit: idle connections kept per address.
        idle_seconds: a connection idle for longer is not used again, and is closed within twice that time.
        high_water: bytes of an answer held for a reader that doesn't read; above, the engine isn't read either. What is
            held at most is this and one read of the loop (256 KiB).
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 5.0,
        idle_limit: int = 256,
        idle_seconds: float = 30.0,
        high_water: int = 256 * 1024,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._idle_limit = idle_limit
        self._idle_seconds = idle_seconds
        self._high_water = high_water
        self._pools: dict[tuple[str, int, bool], Pool[_Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def send(
        self,
        endpoint: Endpoint,
        method: bytes,
        path: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes],
        *,
        head_timeout: float | None = None,
        read_timeout: float | None = None,
    ) -> Response:
        """Sends a request and returns once the head of the final answer (not 1xx) is there.

        `host`, the framing of the body and the endpoint's own headers are added.

        Args:
            endpoint: its `headers` replace those of the same name in `headers`, its `base` comes before `path`.
            method: upper case.
            path: with query, percent-encoded.
            headers: of the client; those that speak of its connection are dropped.
            body: if bytes, a connection that the engine closed while it was idle is replaced, once. A stream is cut
                short when the engine has refused it (status 400 and above) or answered in full, which is seen when
                its next piece comes.
            head_timeout: seconds the engine may be silent before the head of its answer.
            read_timeout: seconds it may be silent during a read after that.

        Raises:
            Unreachable: it refused the connection.
            UpstreamError: it went away, or spoke no HTTP.
            UpstreamTimeout: it was silent for too long.
            BadRequest: the path or a header holds characters that would break the request apart.
            ShuttingDown: this client is closed.
        """
        pool = self._pool(endpoint)
        length = len(body) if isinstance(body, bytes) else None
        head = request_head(pool.authority, endpoint, method, path, headers, length)
        # A stream can't be sent twice, so it never goes where the engine may just be closing.
        connection = pool.take() if length is not None else None
        if connection is not None:
            try:
                return await connection.exchange(method, head, body, head_timeout, read_timeout)
            except UpstreamError:
                if not connection.stale:
                    raise
        connection = await self._connect(pool)
        return await connection.exchange(method, head, body, head_timeout, read_timeout)

    async def get(self, endpoint: Endpoint, path: bytes, *, timeout: float) -> tuple[int, bytes]:  # noqa: ASYNC109  one limit over connecting, head and body, which meet only here
        """Status and whole body (at most 4 MiB) of a GET, within `timeout` seconds.

        Raises:
            UpstreamError: for every kind of failure; UpstreamTimeout when the time is up.
        """
        try:
            async with asyncio.timeout(timeout):
                response = await self.send(endpoint, b"GET", path, (), b"")
                try:
                    return response.status, await response.read_all(_PROBE_LIMIT)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise UpstreamTimeout(f"{name(endpoint)} did not answer within {timeout:g} s.") from error

    def abort(self, endpoint: Endpoint) -> None:
        """Closes every connection to that address now, idle, busy or in the making; their readers get UpstreamError."""
        pool = self._pools.pop(_address(endpoint), None)
        if pool is not None:
            pool.abort(UpstreamError(f"{pool.name} is being stopped, which cut its answer short."))

    async def aclose(self) -> None:
        """Closes everything; returns when the sockets are closed. Nothing can be sent afterwards."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        pools = list(self._pools.values())
        self._pools.clear()
        for ended in [ended for pool in pools for ended in pool.abort(ShuttingDown("Roundhouse is ending."))]:
            await ended

    def _pool(self, endpoint: Endpoint) -> Pool[_Connection]:
        address = _address(endpoint)
        pool = self._pools.get(address)
        if pool is None:
            if self._closed:
                raise ShuttingDown("Roundhouse is ending.")
            pool = Pool(endpoint, idle_limit=self._idle_limit, idle_seconds=self._idle_seconds)
            self._pools[address] = pool
            if self._sweeper is None:
                self._sweeper = pool.loop.call_later(self._idle_seconds, self._sweep)
        return pool

    def _sweep(self) -> None:
        """Closes what has been idle for too long, and forgets addresses without connections: engines change ports."""
        for address, pool in list(self._pools.items()):
            pool.drop_expired()
            if pool.unused:
                del self._pools[address]
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._idle_seconds, self._sweep) if self._pools else None

    async def _connect(self, pool: Pool[_Connection]) -> _Connection:
        connection = _Connection(pool, self._high_water)
        pool.connecting += 1
        try:
            async with asyncio.timeout(self._connect_timeout):
                await pool.loop.create_connection(
                    lambda: connection,
                    pool.host,
                    pool.port,
                    ssl=self._tls_context() if pool.tls else None,
                    server_hostname=pool.host if pool.tls else None,
                )
        except BaseException as error:
            connection.close()  # a cancellation may come when the socket stands but is not handed over yet
            if isinstance(error, (OSError, UnicodeError)):  # the latter: a host that is no name
                raise self._unreachable(pool.name, error) from error
            raise
        finally:
            pool.connecting -= 1
        if pool.aborted is not None:
            connection.close()
            raise pool.aborted
        if not connection.usable:
            raise UpstreamError(f"{pool.name} closed the connection as soon as it stood.")
        # Not before: uvloop never tells a protocol that its connection is lost if connecting was cancelled.
        pool.open.add(connection)
        return connection

    def _unreachable(self, engine: str, error: OSError | UnicodeError) -> UpstreamError:
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(f"{engine} did not accept a connection within {self._connect_timeout:g} s.")
        if isinstance(error, ConnectionRefusedError):
            return Unreachable(f"{engine} refused the connection.")
        return UpstreamError(f"{engine} could not be reached: {error}.")

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class Response:
    """An answer whose head has come. One task reads it, and whoever has it must `aclose` it.

    What came before a failure is handed out before the failure is raised.

    Attributes:
        status: 200 and above.
        headers: names in lower case, otherwise as received, order and doubles included.
    """

    __slots__ = ("_connection", "_timeout", "headers", "status")

    def __init__(
        self, connection: _Connection, status: int, headers: list[tuple[bytes, bytes]], timeout: float | None
    ) -> None:
        self.status = status
        self.headers = headers
        self._connection: _Connection | None = connection
        self._timeout = timeout

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def read(self) -> bytes:
        """What has arrived since the last read, joined; waits if that is nothing. b'' at the end of the message.

        A read that is cancelled closes the connection.

        Raises:
            UpstreamError: the engine went away or spoke nonsense in the middle of its answer.
            UpstreamTimeout: it was silent for `read_timeout`.
        """
        connection = self._connection
        if connection is None:
            return b""
        data = connection.take()
        while data is None:
            await connection.change(self._timeout)
            data = connection.take()
        return data

    def read_nowait(self) -> bytes | None:
        """As `read`, without waiting: None if nothing is there yet."""
        return b"" if self._connection is None else self._connection.take()

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body, at most `limit` bytes.

        Raises:
            UpstreamError: as `read`, and when the body is longer (the connection is closed then).
        """
        parts: list[bytes] = []
        room = limit
        while data := await self.read():
            room -= len(data)
            if room < 0:
                self.cancel()
                raise UpstreamError(f"The engine's answer is longer than {limit} bytes.")
            parts.append(data)
        return b"".join(parts)

    def cancel(self, error: BaseException | None = None) -> None:
        """Closes the connection now, so that the engine stops; what was not read yet is dropped.

        A read that waits, and every later one, raises `error`, or returns b'' if there is none.
        """
        if self._connection is not None:
            self._connection.cancel(error)

    async def aclose(self) -> None:
        """Gives the connection back if the message has ended and another one may follow, else closes it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


class _Connection(asyncio.Protocol):
    """One connection: one exchange at a time, begun by `exchange`, ended by `release`.

    The parser calls `on_*`, the transport the usual methods, the one task that has the exchange all else.

    Attributes:
        complete: the answer has come to its end; `fault`: or why it never will.
        idle_since, ended: as the pool asks.
        on_body: what the parser calls with each piece of a body; no frame of ours per event.
    """

    complete: bool
    fault: BaseException | None
    _headless: bool  # the method is HEAD
    _headers: list[tuple[bytes, bytes]]
    _status: int  # 0 until the final head is there
    _head_size: int
    _held: int  # bytes received and not taken yet
    _barren: int  # bytes received since the last piece of body
    _received: bool  # whether a byte of an answer came
    _sent: bool  # whether the whole request went out
    _keep_alive: bool

    def __init__(self, pool: Pool[_Connection], high_water: int) -> None:
        self.ended = pool.loop.create_future()
        self.idle_since = 0.0
        self._pool = pool
        self._loop = pool.loop
        self._high_water = high_water
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._patience = 0.0
        self._exchanges = 0
        self._reading_paused = False
        self._writing_paused = False
        self._parts: list[bytes] = []
        self.on_body: Callable[[bytes], None] = self._parts.append
        self._parser = httptools.HttpResponseParser(self)
        self._reset(b"")
        self.complete = True

    def _reset(self, method: bytes) -> None:
        self.complete = False
        self.fault = None
        self._headless = method == b"HEAD"
        self._headers = []
        self._status = 0
        self._head_size = 0
        self._held = 0
        self._barren = 0
        self._received = False
        self._sent = False
        self._keep_alive = False

    @property
    def usable(self) -> bool:
        """Whether the socket is open, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def stale(self) -> bool:
        """Whether the engine closed it between two requests: the second was not answered with a single byte."""
        return self._exchanges > 1 and not self._received and isinstance(self.fault, _ClosedByEngineError)

    # What the task of an exchange calls.

    async def exchange(
        self,
        method: bytes,
        head: bytes,
        body: bytes | AsyncIterable[bytes],
        head_timeout: float | None,
        read_timeout: float | None,
    ) -> Response:
        """Sends a request, returns when the head of the answer is there; whatever goes wrong closes the connection."""
        self._reset(method)
        self._exchanges += 1
        try:
            if isinstance(body, bytes) and len(body) <= _SLICE:
                self._out.write(head + body)
                self._sent = True
            else:
                pieces = slices(body, _SLICE) if isinstance(body, bytes) else chunked(body)
                await self._write(head, pieces, head_timeout)
            while not self._has_head():
                await self.change(head_timeout)
        except BaseException:
            self.close()
            raise
        return Response(self, self._status, self._headers, read_timeout)

    async def change(self, timeout: float | None) -> None:  # noqa: ASYNC109  one timer per connection is cheaper than one per read
        """Waits until something came, ended, failed or can be written again; `timeout` seconds without are a fault."""
        waiter = self._waiter = self._loop.create_future()
        if timeout is not None:
            self._watch(timeout)
        try:
            await waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    def take(self) -> bytes | None:
        """Body received since the last call; b'' at the end, None if nothing is there yet. Raises `fault`."""
        parts = self._parts
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            self._discard()
            return data
        if self.complete:
            return b""
        if self.fault is not None:
            raise self.fault
        return None

    def release(self) -> None:
        """Ends the exchange: back to the pool, or closed if nothing else can be asked over it."""
        self._discard()
        if self.complete and self._keep_alive and self._sent and self.usable:
            self._pool.give(self)
        else:
            self.close()

    def cancel(self, error: BaseException | None) -> None:
        """Ends the exchange at once: readers get `error`, or the end of the message."""
        self._parts.clear()
        self.complete = error is None
        self.fault = error
        self.close()
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Closes the connection; whoever waits for the rest of an answer gets `error`."""
        if self.fault is None and not self.complete:
            self.fault = error
        self.close()
        self._wake()

    def close(self) -> None:
        """Closes the socket now, dropping what was not sent: an orderly end would keep the engine at work."""
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._not_understood(error)
            return
        if not self._parts:
            self._barren += len(data)
            if self._barren > _BARREN_LIMIT and not self.complete:
                self.fail(self._head_too_long())
            return
        self._barren = 0
        # Counted with its framing: that bounds what is held, and costs no call per piece.
        self._held += len(data)
        if self._held > self._high_water and not self._reading_paused:
            self._reading_paused = True
            self._out.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self._pool.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        if not self.ended.done():
            self.ended.set_result(None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.complete:
            raise _StopParsingError  # bytes that no request asked for: nothing after them can be trusted
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status:
            return  # a trailer
        self._head_size += len(name) + len(value) + len(b": \r\n")
        if self._head_size > _BARREN_LIMIT:
            raise self._head_too_long()
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 101:
            raise UpstreamError(f"{self._pool.name} switched to another protocol, which nobody asked for.")
        if status < 200:
            return
        self._status = status
        self._keep_alive = self._parser.should_keep_alive()
        self._wake()
        if self._headless:
            # The parser doesn't know the method, and would take what comes next for a body.
            self.complete = True
            raise _StopParsingError

    def on_message_complete(self) -> None:
        if self._status:
            self.complete = True
            self._wake()

    # Inside.

    @property
    def _out(self) -> asyncio.Transport:
        return cast("asyncio.Transport", self._transport)  # never None between connection_made and the end

    async def _write(self, head: bytes, pieces: AsyncIterator[bytes | memoryview], patience: float | None) -> None:
        self._out.write(head)
        async for piece in pieces:
            while self._writing_paused and not self._settled:
                await self.change(patience)
            if self._settled:
                return
            self._out.write(piece)
        self._sent = True

    @property
    def _settled(self) -> bool:
        """Whether the rest of the request's body is of no use to anybody."""
        return self.fault is not None or self.complete or self._status >= 400

    def _has_head(self) -> bool:
        if self._status:
            return True
        if self.fault is not None:
            raise self.fault
        return False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _discard(self) -> None:
        self._parts.clear()
        self._held = 0
        if self._reading_paused:
            self._reading_paused = False
            if self.usable:
                self._out.resume_reading()

    def _not_understood(self, error: Exception) -> None:
        """The parser stopped: at bytes after a whole answer, which stands all the same, or at what is no HTTP."""
        cause = error.__context__  # what a callback of ours raised
        if isinstance(cause, UpstreamError):
            self.fail(cause)
        else:
            self.fail(UpstreamError(f"{self._pool.name} sent an answer that is not HTTP: {error}."))

    def _head_too_long(self) -> UpstreamError:
        return UpstreamError(f"{self._pool.name} sent headers of more than {_BARREN_LIMIT} bytes.")

    def _end(self, exc: Exception | None) -> None:
        """The engine closed: that ends a body which has no other end, and breaks every other."""
        if exc is None and self._status and self._ends_with_connection():
            self.complete = True
        when = "in the middle of its answer" if self._received else "without an answer"
        how = f" ({exc})" if exc is not None else ""
        self.fail(_ClosedByEngineError(f"{self._pool.name} closed the connection {when}{how}."))

    def _ends_with_connection(self) -> bool:
        """RFC 9112 §6.3: neither in chunks nor of a known length."""
        framing = dict(self._headers)
        coding = framing.get(b"transfer-encoding")
        if coding is not None:
            return not coding.lower().endswith(b"chunked")
        return b"content-length" not in framing

    def _watch(self, patience: float) -> None:
        """Makes silence from now on a fault. The timer outlives the wait, and looks at the deadline when it fires."""
        self._patience = patience
        self._deadline = self._loop.time() + patience
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._expired)
        else:
            self.fail(UpstreamTimeout(f"{self._pool.name} was silent for {self._patience:g} s."))


class _ClosedByEngineError(UpstreamError):
    """The engine closed the connection, as opposed to us."""


class _StopParsingError(Exception):
    """Raised through the parser: what follows is not to be read."""


def _address(endpoint: Endpoint) -> tuple[str, int, bool]:
    return endpoint.host, endpoint.port, endpoint.tls
