"""An engine process that stays while models come and go in it (TabbyAPI): started once, by whatever starts it.

Wraps another launcher. Knows no engine: how a model gets in and out is a talk that others carry out.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from roundhouse.ports import Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from roundhouse.ports import Command, Handle, Launcher, Tag

log = logging.getLogger(__name__)


class KeptHandle:
    """One model's turn in a kept process. `stop` ends the process, `detach` only the turn."""

    def __init__(self, tag: Tag, process: Handle) -> None:
        self.tag = tag
        self.pid = process.pid
        self._process = process
        self._over = asyncio.Event()

    async def wait_exit(self) -> Exit:
        """Returns when the process is gone, or the turn is over."""
        loop = asyncio.get_running_loop()
        exited = loop.create_task(self._process.wait_exit(), name=f"exit of the process of {self.tag.model}")
        over = loop.create_task(self._over.wait(), name=f"end of the turn of {self.tag.model}")
        try:
            await asyncio.wait((exited, over), return_when=asyncio.FIRST_COMPLETED)
            return Exit(code=None, by_us=True) if over.done() else exited.result()
        finally:
            exited.cancel()
            over.cancel()

    async def stop(self, grace: float) -> Exit:
        """Ends the whole process; nothing, once the turn is over."""
        if self._over.is_set():
            return Exit(code=None, by_us=True)
        return await self._process.stop(grace)

    async def lines(self) -> AsyncIterator[str]:
        """The process's output, from its own beginning."""
        async for line in self._process.lines():
            yield line

    def tail(self, count: int) -> list[str]:
        """The last lines of the process's output."""
        return self._process.tail(count)

    async def detach(self) -> None:
        """The turn is over; the process stays for the next model."""
        self._over.set()


class Kept:
    """A launcher of one process, for several models one after another.

    Args:
        formers: processes that had its port or unit before; it waits for the end of those that don't stay.

    Attributes:
        stays: whether the process is kept when its model is brought out; not once it is configured otherwise.
    """

    def __init__(self, inner: Launcher, formers: Iterable[Kept] = ()) -> None:
        self._inner = inner
        self._formers = tuple(formers)
        self.stays = True
        self._turn: KeptHandle | None = None
        self._absent = asyncio.Event()
        self._absent.set()
        self._process: Handle | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there already, so that a start takes it."""
        return self._process is not None

    async def start(self, tag: Tag, command: Command) -> KeptHandle:
        """A turn in the process that runs, else in a new one. Raises LoadFailed if that can't be started."""
        if self._process is None:
            self.take(await self._inner.start(tag, command))
        return self.turn(tag)

    async def clear(self, command: Command) -> None:
        """Makes way for a start; a process that is kept stays."""
        for former in self._formers:
            if not former.stays:
                await former.gone()
        self._formers = ()
        if self._process is None:
            await self._inner.clear(command)

    async def found(self) -> list[Handle]:
        """Nothing: whoever looks for processes of earlier runs gives ours to `take`."""
        return []

    async def gone(self) -> None:
        """Returns when no process of it is there."""
        await self._absent.wait()

    def take(self, process: Handle) -> None:
        """From now on this is the process."""
        self._process = process
        self._absent.clear()
        self._watching = asyncio.get_running_loop().create_task(self._watch(process), name="kept process")

    def turn(self, tag: Tag) -> KeptHandle:
        """A turn of one model in the running process."""
        assert self._process is not None
        self._turn = KeptHandle(tag, self._process)
        return self._turn

    async def retire(self, grace: float) -> None:
        """Ends the process as soon as no model has its turn in it; `stays` is False by now, so none gets another."""
        if self._turn is not None:
            await self._turn.wait_exit()
        await self.close(grace, leave=False)

    async def close(self, grace: float, *, leave: bool) -> None:
        """Ends the process, or lets go of it so that a later Roundhouse may find it."""
        process, self._process = self._process, None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        if process is not None and leave:
            await process.detach()
        elif process is not None:
            await process.stop(grace)
        self._absent.set()

    async def _watch(self, process: Handle) -> None:
        ended = await process.wait_exit()
        if self._process is process:
            self._process = None
            self._absent.set()
            log.info("the process kept for %s is gone (%s)", process.tag.model, ended)
