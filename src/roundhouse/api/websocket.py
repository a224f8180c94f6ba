"""WebSockets under `/upstream/{model}/{path}`: messages both ways, until one side closes or goes (spec A7).

A WebSocket holds a place like a request, so its model stays; but one in which nothing is said can't hold up those who
wait for the memory: it is closed when its model has to leave.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from roundhouse.api.dispatch import ended
from roundhouse.api.reply import send_error
from roundhouse.core.model import Phase
from roundhouse.errors import RouterError, ShuttingDown, UpstreamError
from roundhouse.runtime.upstream import Unreachable
from roundhouse.runtime.websocket import Closed, Declined, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import Message, Receive, Scope, Send

    from roundhouse.api.passthrough import Passed, PassThrough
    from roundhouse.core.model import Grant
    from roundhouse.runtime.supervisor import Lease
    from roundhouse.runtime.websocket import Socket

QUIET: Final = 30.0
"""Seconds without a message after which a WebSocket is closed when its model has to leave."""
_UNWANTED, _FAILED, _RESTARTS = 1008, 1011, 1012  # RFC 6455 §7.4.1, and its registry
_ACCEPTED = 101
_UNSENDABLE: Final = frozenset({1005, 1006, 1015})
_HANDSHAKE: Final = b"sec-websocket-"
_STAYS_HERE: Final = frozenset(
    {b"host", b"connection", b"upgrade", b"authorization", b"x-api-key", b"cookie", b"origin", b"referer"}
)


class WebSocketPass:
    """Serves them."""

    def __init__(self, passing: PassThrough, quiet: float = QUIET) -> None:
        self._passing = passing
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one, from its handshake on."""
        await receive()  # websocket.connect
        async with self._passing.recorded(scope) as record:
            try:
                passed = self._passing.admit(scope, record)
                await self._passing.ready_or_loadable(scope, passed)
                await self._passing.leased(passed, partial(self._wait, passed, scope, receive, send))
            except Declined as declined:
                record.status, record.error = declined.answer_status, declined.message
                await _decline(send, declined)
            except RouterError as error:
                accepted = record.status == _ACCEPTED
                record.status, record.error = error.status, error.message
                if accepted:  # an operator cancelled it
                    await send({"type": "websocket.close", "code": _UNWANTED, "reason": error.message[:100]})
                    return
                await send_error(_refusal(send), error, [(b"x-request-id", record.id.encode("latin-1"))])
            except asyncio.CancelledError:  # the time for running answers is over (spec E5)
                record.status = ShuttingDown.status
                raise

    async def _wait(self, passed: Passed, scope: Scope, receive: Receive, send: Send, lease: Lease) -> None:
        if not await _granted(lease, receive):
            passed.record.status = 499
            return
        grant = lease.result()
        try:
            await self._serve(grant, passed, scope, receive, send)
        except Declined:
            raise
        except UpstreamError as error:
            if await self._passing.has_ended(grant) and isinstance(error, Unreachable):
                raise ended(grant) from None
            raise

    async def _serve(self, grant: Grant, passed: Passed, scope: Scope, receive: Receive, send: Send) -> None:
        passing = self._passing
        passing.note_grant(passed.record, grant)
        endpoint, target = passing.place(grant, passed)
        headers = [(n, v) for n, v in scope["headers"] if n not in _STAYS_HERE and not n.startswith(_HANDSHAKE)]
        async with (
            passing.past_the_desk(grant, computed=True),
            connect(endpoint, target, headers, scope.get("subprotocols", ())) as engine,
        ):
            passed.record.status = _ACCEPTED
            await send({"type": "websocket.accept", "subprotocol": engine.subprotocol})
            talk = _Talk(engine, receive, send)
            code, reason = await talk.run(lambda: self._must_leave(grant), self._quiet)
            if code is not None:
                if code == 1006:
                    code, reason = _FAILED, f"The engine of '{grant.model}' has ended."
                    passed.record.status, passed.record.error = 502, reason
                    await passing.has_ended(grant)
                await send({"type": "websocket.close", "code": code, "reason": reason})

    def _must_leave(self, grant: Grant) -> bool:
        instance = self._passing.supervisor.fleet.instance(grant.instance)
        return instance is None or instance.phase is not Phase.READY


class _Talk:
    """One open WebSocket, from both sides."""

    def __init__(self, engine: Socket, receive: Receive, send: Send) -> None:
        self._engine = engine
        self._receive = receive
        self._send = send
        self._last = 0.0

    async def run(self, must_leave: Callable[[], bool], quiet: float) -> tuple[int | None, str]:
        """Until it is over; the code and reason that the client has yet to be told, None if it closed itself."""
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        tasks = {loop.create_task(self._from_client()), loop.create_task(self._from_engine())}
        try:
            while True:
                done, _ = await asyncio.wait(tasks, timeout=quiet / 4, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return done.pop().result()
                if must_leave() and loop.time() - self._last >= quiet:
                    return _RESTARTS, "The model is unloaded."
        finally:
            await _cancelled(tasks)

    async def _from_client(self) -> tuple[int | None, str]:
        while (message := await self._receive())["type"] == "websocket.receive":
            self._heard()
            try:
                await self._engine.send(_content(message))
            except Closed as closed:
                return _told(closed)
        code = message.get("code", 1000)
        await self._engine.close(1000 if code in _UNSENDABLE else code, message.get("reason") or "")
        return None, ""

    async def _from_engine(self) -> tuple[int | None, str]:
        while True:
            try:
                content = await self._engine.receive()
            except Closed as closed:
                return _told(closed)
            self._heard()
            kind = "text" if isinstance(content, str) else "bytes"
            try:
                await self._send({"type": "websocket.send", kind: content})
            except OSError:  # as ASGI servers say that the client is gone
                return None, ""

    def _heard(self) -> None:
        self._last = asyncio.get_running_loop().time()


async def _granted(lease: Lease, receive: Receive) -> bool:
    """Waits for the model; false if the client left before (nothing else can come of it before it is accepted)."""
    loop = asyncio.get_running_loop()
    settled = loop.create_task(lease.wait())
    gone = loop.create_task(_next(receive))
    try:
        await asyncio.wait({gone, settled}, return_when=asyncio.FIRST_COMPLETED)
        return settled.done()
    finally:
        await _cancelled({gone, settled})


async def _next(receive: Receive) -> Message:
    return await receive()


async def _cancelled(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Ends tasks, and waits until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _content(message: Message) -> str | bytes:
    text: str | None = message.get("text")
    content: bytes = message.get("bytes") or b""
    return content if text is None else text


def _told(closed: Closed) -> tuple[int, str]:
    """What the client hears of the engine's end: its own words, where they can be sent on."""
    return (1000 if closed.code in {1005, 1015} else closed.code), closed.reason


def _refusal(send: Send) -> Send:
    """An ordinary answer instead of the handshake's (ASGI's extension for that, which uvicorn has)."""

    async def refusing(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return refusing


async def _decline(send: Send, declined: Declined) -> None:
    refusing = _refusal(send)
    headers = [(b"content-type", declined.kind.encode("latin-1"))]
    await refusing({"type": "http.response.start", "status": declined.answer_status, "headers": headers})
    await refusing({"type": "http.response.body", "body": declined.answer, "more_body": False})
