"""Answers as ASGI messages: JSON bodies, stream heads, errors in OpenAI's shape with their status and Retry-After."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from roundhouse.dialects.failures import error_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Send

    from roundhouse.errors import RouterError
    from roundhouse.observe.captures import Copy

Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Outlet:
    """An ASGI `send` that remembers how far the answer is.

    Attributes:
        started: the head is out, so its status stands.
        ended: nothing can follow.
        copy: takes the body as it goes out; None, the usual case: nobody does.
    """

    __slots__ = ("_on_last", "_send", "copy", "ended", "started")

    def __init__(self, send: Send, on_last: Callable[[], None]) -> None:
        """`on_last` is called before the last part is sent."""
        self._send = send
        self._on_last = on_last
        self.started = False
        self.ended = False
        self.copy: Copy | None = None

    async def send(self, message: Message) -> None:
        """Sends on."""
        if message["type"] == "http.response.start":
            self.started = True
        elif not message.get("more_body"):
            self.ended = True
            self._on_last()
        if self.copy is not None:
            self.copy.add(message.get("body", b""))
        await self._send(message)


async def send_whole(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """A complete answer."""
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_error(send: Send, error: RouterError, headers: Headers) -> None:
    """An error before the first byte: its real status, in JSON."""
    more = [JSON]
    if error.retry_after is not None:
        more.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
    if error.status == 401:
        more.append((b"www-authenticate", b"Bearer"))
    await send_whole(send, error.status, error_body(error), [*headers, *more])


async def send_head(send: Send, headers: Headers) -> None:
    """The head of an event stream."""
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, *STREAM]})


async def send_part(send: Send, data: bytes) -> None:
    """Some of a stream; nothing for no bytes."""
    if data:
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def send_last(send: Send, data: bytes = b"") -> None:
    """The end of a stream."""
    await send({"type": "http.response.body", "body": data, "more_body": False})
