"""Launcher for engines that others run: there is nothing to start, nothing to stop, nothing to find.

Whether such an engine answers is a matter of its readiness, which the runtime asks; this knows no process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from roundhouse.ports import Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from roundhouse.ports import Command, Handle, Tag


class AttachedHandle:
    """An engine run by others. It "ends" when we let go of it."""

    pid: int | None = None

    def __init__(self, tag: Tag) -> None:
        self.tag = tag
        self._let_go = asyncio.Event()

    async def wait_exit(self) -> Exit:
        """Returns when `stop` was called: we'd not see it end otherwise."""
        await self._let_go.wait()
        return Exit(code=None, by_us=True)

    async def stop(self, grace: float) -> Exit:
        """Lets go; the engine stays as it is."""
        self._let_go.set()
        return Exit(code=None, by_us=True)

    async def lines(self) -> AsyncIterator[str]:
        """No output is ours to read: ends when we let go."""
        await self._let_go.wait()
        return
        yield  # makes it a generator

    def tail(self, count: int) -> list[str]:
        """Nothing."""
        return []

    async def detach(self) -> None:
        """Nothing to leave behind."""


class AttachedLauncher:
    """Gives handles to engines that run anyway."""

    async def start(self, tag: Tag, command: Command) -> AttachedHandle:
        """A handle; never fails."""
        return AttachedHandle(tag)

    running = stays = False

    async def clear(self, command: Command) -> None:
        """Nothing: what runs there is what we use."""

    async def found(self) -> list[Handle]:
        """None: nothing of ours runs there, and starting costs nothing."""
        return []
