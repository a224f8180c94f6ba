"""Tasks that belong to somebody: kept until they end, their failures reported, all cancelled when the owner closes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


class Tasks:
    """A bag of running coroutines. `report` gets a task's name and the exception that it did not handle."""

    def __init__(self, report: Callable[[str, BaseException], None]) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._report = report

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Starts work beside everything else."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(task.get_name(), error)

    async def wait(self, seconds: float) -> bool:
        """Waits until all have ended, at most `seconds`; true if they have."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        return not self._tasks

    async def close(self) -> None:
        """Cancels what runs and waits for it."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def until(stop: asyncio.Event, items: AsyncIterator[str]) -> AsyncIterator[str]:
    """The items, until they end or `stop` is set."""
    loop = asyncio.get_running_loop()
    stopped = loop.create_task(stop.wait(), name="end of a feed")
    item: asyncio.Task[str] | None = None
    try:
        while True:
            item = loop.create_task(_next(items), name="next of a feed")
            await asyncio.wait((item, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not item.done():
                return
            try:
                yield item.result()
            except StopAsyncIteration:
                return
    finally:
        pending = [task for task in (stopped, item) if task is not None and not task.done()]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)


async def _next(items: AsyncIterator[str]) -> str:
    return await anext(items)
