"""Carries out a talk: the requests and pauses that an engine's description asks for, one after another.

Knows HTTP and waiting; what is said, and what the answers mean, the description knows (`ports.Talk`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from roundhouse.errors import RouterError
from roundhouse.ports import Exchange, More, Reply, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from roundhouse.core.model import Progress
    from roundhouse.ports import Endpoint, Step, Talk
    from roundhouse.runtime.upstream import Response, Upstream

LARGEST_REPLY = 4 * 1024 * 1024
"""Bytes of a whole reply; longer ones count as none."""
JSON = ((b"content-type", b"application/json"),)


async def carry_out(work: Talk, upstream: Upstream, endpoint: Endpoint, told: Callable[[Progress], None]) -> None:
    """Runs a talk with the engine at `endpoint` to its end; `told` gets what it says of its progress.

    Raises LoadFailed as the talk does. When cancelled, the request under way is given up.
    """
    line = _Line(upstream, endpoint, told)
    answer: Reply | bytes | None = None
    try:
        while True:
            try:
                step = work.send(answer)
            except StopIteration:
                return
            answer = await line.do(step)
    finally:
        work.close()
        await line.hang_up()


async def ask(upstream: Upstream, endpoint: Endpoint, step: Exchange) -> Reply:
    """One request that is no part of a talk; status 0 when nobody answers."""
    line = _Line(upstream, endpoint, lambda _progress: None)
    try:
        return await line.ask(step)
    finally:
        await line.hang_up()


class _Line:
    """The connection of one talk: at most one streamed answer is open."""

    def __init__(self, upstream: Upstream, endpoint: Endpoint, told: Callable[[Progress], None]) -> None:
        self._upstream, self._endpoint, self._told = upstream, endpoint, told
        self._open: Response | None = None

    async def do(self, step: Step) -> Reply | bytes | None:
        if isinstance(step, Exchange):
            return await self.ask(step)
        if isinstance(step, More):
            return await self._more()
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
        else:
            self._told(step)
        return None

    async def hang_up(self) -> None:
        if self._open is not None:
            await self._open.aclose()
            self._open = None

    async def ask(self, step: Exchange) -> Reply:
        """Status 0 when nobody answers: what that means is for the talk to say."""
        await self.hang_up()
        headers = JSON if step.body else ()
        try:
            async with asyncio.timeout(step.timeout):
                method, path = step.method.encode(), step.path.encode()
                response = await self._upstream.send(self._endpoint, method, path, headers, step.body)
                self._open = response
                if step.stream:
                    return Reply(response.status)
                body = await response.read_all(LARGEST_REPLY)
        except (RouterError, TimeoutError):
            await self.hang_up()
            return Reply(0)
        await self.hang_up()
        return Reply(response.status, body)

    async def _more(self) -> bytes | None:
        if self._open is None:
            return None
        try:
            return await self._open.read()
        except RouterError:
            return None
