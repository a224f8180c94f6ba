"""The client's side of one request: its body, read within limits, and the moment it leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from roundhouse.errors import BadRequest, BodyTooLarge, BodyTooSlow

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope

from roundhouse.core.memory import say

SMALL, SMALL_WITHIN = 1 << 20, 10.0
"""Most bytes of an order's body, and seconds of silence in it."""


class Client:
    """Watches for the disconnect: uvicorn announces ASGI 2.3, where nothing but `receive` tells of it.

    When the client leaves, the request's own task is cancelled and `gone` is true: whatever it was waiting for
    (a place, an engine's head, a chunk) ends, and every `finally` on the way closes what it opened.
    """

    __slots__ = ("_owner", "_receive", "_watch", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[object] | None = None
        self.gone = False

    async def body(self, limit: int, patience: float) -> bytes:
        """The whole request body.

        Args:
            limit: most bytes.
            patience: seconds of silence in the middle of it.

        Raises:
            BodyTooLarge: it is over `limit` bytes.
            BodyTooSlow: nothing more of it came.
            BadRequest: the client left in the middle of it.
        """
        parts: list[bytes] = []
        size = 0
        while True:
            message = await _within(patience, self._receive)
            if message["type"] == "http.disconnect":
                self.gone = True
                raise BadRequest("The client left before its request was complete.")
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"The request body is over {say(limit)}, the limit (limits.body).")
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def watch(self) -> None:
        """From now on the current task is cancelled when the client leaves."""
        loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        self._watch = loop.create_task(self._wait(), name="client watch")

    def unwatch(self) -> None:
        """The answer is complete: leaving is fine now."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._owner is not None:
            self._owner.cancel()


async def _within(patience: float, receive: Receive) -> Message:
    try:
        async with asyncio.timeout(patience):
            return await receive()
    except TimeoutError:
        raise BodyTooSlow(
            f"Nothing more of the request's body came for {patience:.0f} s, the limit (limits.body_timeout)."
        ) from None


async def small_body(request: Request) -> bytes:
    """The body of an order, which names a model and little else. Raises as `Client.body`."""
    try:
        return await Client(request.receive).body(SMALL, SMALL_WITHIN)
    except BodyTooLarge:  # by a limit that can't be set
        raise BodyTooLarge(f"The request body is over {say(SMALL)}, the limit of {request.url.path}.") from None


async def order(request: Request) -> dict[str, Any]:
    """The JSON object that is an order's body.

    Read by the route when it knows who asks: what FastAPI reads for parameters it reads before, and without a limit.

    Raises:
        BadRequest: it is none.
        BodyTooLarge, BodyTooSlow: as `Client.body`.
    """
    try:
        found = orjson.loads(await small_body(request))
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BadRequest("The body must be a JSON object.")
    return found


def declared_length(scope: Scope) -> int | None:
    """The Content-Length that the client announced; None if there is none."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None
