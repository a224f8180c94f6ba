"""One engine under its keeper, as Roundhouse sees it: how it ends, what it writes, letting go of it.

Knows the keeper's messages, not how keepers are started or found: that is `process.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from roundhouse.launchers.lines import Lines
from roundhouse.ports import Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from roundhouse.launchers.link import Link, Message
    from roundhouse.ports import Tag

KEEPER_PATIENCE = 10.0  # seconds over the grace that a keeper gets to end a tree before it is ended itself

log = logging.getLogger(__name__)


class ProcessHandle:
    """One engine under its keeper.

    Attributes:
        tag: as given at its start, maybe by an earlier Roundhouse.
        pid: the engine's main process; keeper: its keeper's.
        log_path: the newer half of the kept output; deleted when the engine has ended and its exit was read.
    """

    def __init__(self, link: Link, tag: Tag, pid: int, log_path: Path, sweep: Callable[[], Awaitable[None]]) -> None:
        self.tag = tag
        self.pid: int | None = pid
        self.keeper = link.keeper
        self.log_path = log_path
        self._link = link
        self._sweep = sweep
        self._lines = Lines()
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._stopping = self._detached = False
        self._connected = True
        self._following: asyncio.Task[None] | None = None

    @property
    def exit(self) -> Exit | None:
        """How it ended, None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait_exit(self) -> Exit:
        """Returns when the whole process tree is gone. After `detach` that is never known."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> Exit:
        """SIGTERM to the main process, after `grace` seconds SIGKILL to the tree; returns when all is gone."""
        if self._detached:
            raise RuntimeError(f"the handle of {self.tag.model} was detached")
        if not self._ended.done():
            self._stopping = True
            self._link.tell("stop", grace=grace)
        try:
            async with asyncio.timeout(grace + KEEPER_PATIENCE):
                return await self.wait_exit()
        except TimeoutError:
            if not self._connected:  # it is no longer ours to end
                return await self.wait_exit()
            log.warning("keeper %d of %s could not end its engine; ending the keeper", self.keeper, self.tag.model)
            self._link.kill()
            return await self.wait_exit()

    async def lines(self) -> AsyncIterator[str]:
        """Output lines from the beginning of what is kept, then as they come, until it has ended or is let go."""
        async for line in self._lines.follow():
            yield line

    def tail(self, count: int) -> list[str]:
        """The last lines of output."""
        return self._lines.tail(count)

    async def detach(self) -> None:
        """Lets go without stopping: the keeper waits `orphan_grace` for a later Roundhouse."""
        if self._following is None or self._following.done():
            return
        self._detached = True
        self._following.cancel()
        await asyncio.wait([self._following])
        await self._link.release()
        self._lines.close()

    def follow(self) -> asyncio.Task[None]:
        """Begins to read what the keeper tells; the task ends with the engine."""
        self._following = asyncio.get_running_loop().create_task(self._follow(), name=f"keeper of {self.tag.model}")
        self._following.add_done_callback(self._followed)
        return self._following

    def _followed(self, task: asyncio.Task[None]) -> None:
        """Should following itself fail, those who wait for the exit learn of it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lines.close()
            self._ended.set_exception(error)

    async def _follow(self) -> None:
        ending: Message | None = None
        while ending is None and (message := await self._link.receive()) is not None:
            match message["is"]:
                case "output":
                    self._lines.feed(str(message["data"]).encode("utf-8", "surrogateescape"))
                case "exited":
                    ending = message
                case "replaced":
                    log.warning("another Roundhouse has taken over %s (pid %s)", self.tag.model, self.pid)
                case _:
                    log.warning("the keeper of %s says what is not understood: %s", self.tag.model, message)
        if ending is not None:
            await self._link.release()
            self._finish(_exit_of(ending))
            return
        self._connected = False
        await self._link.gone()
        await self._sweep()
        self._link.close()
        self._finish(Exit(code=None, by_us=self._stopping))

    def _finish(self, ending: Exit) -> None:
        self._lines.close()
        self._ended.set_result(ending)


def _exit_of(message: Message) -> Exit:
    code = message["code"]
    return Exit(code=code if isinstance(code, int) else None, by_us=bool(message["stopped"]))
