"""A request's body on its way to an engine that gets it as it comes, and the moment its client leaves.

A short body is gathered, so that it has a length and can be sent twice; a long one is handed on in pieces, and of those
that nobody has taken yet only a few are held (spec E6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from roundhouse.core.memory import say
from roundhouse.errors import BodyTooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive

HELD = 1 << 20
"""Bytes that are gathered before an engine is asked; a body that has ended by then is sent whole."""


class Upload:
    """Reads a client in a task of its own from `start` on; when it leaves, the task that started it is cancelled.

    Attributes:
        gone: it has left.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        """`limit` is the most bytes that a body may have."""
        self._receive = receive
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._complete = False
        self._error: BodyTooLarge | None = None
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[object] | None = None
        self.gone = False

    def start(self) -> None:
        """From now on the current task is cancelled when the client leaves."""
        self._owner = asyncio.current_task()
        self._reader = asyncio.get_running_loop().create_task(self._read(), name="upload")

    def stop(self) -> None:
        """The answer is complete: leaving is fine now."""
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    async def body(self) -> bytes | AsyncIterator[bytes]:
        """All of it if it is short, else what yields it.

        Raises:
            BodyTooLarge: it is over the limit, as far as has been seen.
        """
        while not self._complete and self._held < HELD and self._error is None:
            await self._change()
        self._check()
        return b"".join(self._pieces) if self._complete else self._rest()

    async def _rest(self) -> AsyncIterator[bytes]:
        while self._pieces or not self._complete:
            while self._pieces:
                piece = self._pieces.popleft()
                self._held -= len(piece)
                self._changed.set()
                yield piece
            self._check()
            if not self._complete:
                await self._change()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _change(self) -> None:
        """Waits until something came or was taken; nothing is awaited between the look that leads here and the wait."""
        self._changed.clear()
        await self._changed.wait()

    async def _read(self) -> None:
        total = 0
        while (message := await self._receive())["type"] != "http.disconnect":
            piece = message.get("body", b"")
            total += len(piece)
            if total > self._limit and self._error is None:
                self._error = BodyTooLarge(f"The request body is over {say(self._limit)}, the limit (limits.body).")
            if piece and self._error is None:
                self._pieces.append(piece)
                self._held += len(piece)
            if not message.get("more_body", False):
                self._complete = True
            self._changed.set()
            while self._held > HELD and self._error is None:
                await self._change()
        self.gone = True
        if self._owner is not None:
            self._owner.cancel()
