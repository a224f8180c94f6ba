"""One run of a unit as Roundhouse sees it: watched by signals, stopped with a deadline, its output from the journal.

Knows a run by its invocation id. How units are started, and what is laid down for them, is `launcher.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from typing import TYPE_CHECKING

from roundhouse.launchers.lines import Lines
from roundhouse.launchers.systemd.bus import BusLost, Refused
from roundhouse.launchers.systemd.journal import Journal
from roundhouse.launchers.systemd.state import read_state
from roundhouse.ports import Exit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from roundhouse.launchers.systemd.bus import Bus, Changes
    from roundhouse.launchers.systemd.state import UnitState
    from roundhouse.ports import Tag

SHORT_TERM = 5.0
"""Seconds that what is left of a unit gets after SIGTERM when its main process has ended by itself."""
KILL_EVERY = 0.5
"""Seconds between rounds of SIGKILL: processes forked during one fall to the next."""
FIRST_RETRY, SLOWEST_RETRY = 0.05, 2.0
"""Seconds between attempts to reach a lost bus: at first, and at most."""

log = logging.getLogger(__name__)


class UnitHandle:
    """One run of a unit.

    Attributes:
        tag: as given at its start, maybe by an earlier Roundhouse; may be set anew by who recognises the engine.
        unit: its name; invocation: the id of this run.
        pid: of its main process, the last known.

    Args:
        connect: gives the connection, a new one when it was lost. Raises BusLost.
        over: called once when the run has ended, before those who wait learn of it.
        held: the connection on which the unit is referenced (RefUnit) already; the handle lets go of it.
        user: whether it runs under the user manager.
    """

    def __init__(
        self,
        tag: Tag,
        state: UnitState,
        connect: Callable[[], Awaitable[Bus]],
        over: Callable[[UnitHandle], None],
        *,
        held: Bus | None = None,
        user: bool = False,
    ) -> None:
        self.tag = tag
        self.unit = state.id
        self.invocation = state.invocation
        self.pid: int | None = state.pid or None
        self._connect = connect
        self._over = over
        self._held = held
        self._lines = Lines()
        self._journal = Journal(state, self._lines, user=user)
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._code: int | None = None
        self._starved = False
        self._grace: float | None = None  # of the stop that was asked for
        self._kill_at: float | None = None
        self._changes: Changes | None = None
        self._following: asyncio.Task[None] | None = None
        self._detached = False

    @property
    def exit(self) -> Exit | None:
        """How it ended, None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait_exit(self) -> Exit:
        """Returns when every process of the unit is gone. After `detach` that is never known."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> Exit:
        """Has systemd stop it: SIGTERM to all of it, after `grace` seconds SIGKILL; returns when all is gone.

        The unit's own `TimeoutStopSec=` counts only where it is shorter.
        """
        if self._detached:
            raise RuntimeError(f"the handle of {self.unit} was detached")
        if self._grace is None or grace < self._grace:
            self._grace = grace
            self._kill_at = None
        if self._changes is not None:
            self._changes.wake()
        return await self.wait_exit()

    async def lines(self) -> AsyncIterator[str]:
        """Output lines of this run from its beginning, then as they come, until it has ended or is let go."""
        async for line in self._lines.follow():
            yield line

    def tail(self, count: int) -> list[str]:
        """The last lines of output."""
        return self._lines.tail(count)

    async def detach(self) -> None:
        """Lets go without stopping: the unit stays, for a later Roundhouse to find."""
        if self._ended.done() or self._detached:
            return
        self._detached = True
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self._journal.close()

    def follow(self) -> asyncio.Task[None]:
        """Begins to watch the unit and to read its journal; the task ends with the run."""
        self._journal.follow()
        self._following = asyncio.get_running_loop().create_task(self._follow(), name=f"unit {self.unit}")
        self._following.add_done_callback(self._followed)
        return self._following

    def _followed(self, task: asyncio.Task[None]) -> None:
        """Should following itself fail, those who wait for the exit learn of it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lines.close()
            self._ended.set_exception(error)

    async def _follow(self) -> None:
        """Until the unit is down. A lost bus says nothing about the engine: it is looked for again."""
        delay = FIRST_RETRY
        while True:
            try:
                bus = await self._connect()
                delay = FIRST_RETRY
                await self._watch(bus)
                break
            except BusLost as error:
                log.warning("systemd can't be reached (%s); %s is watched again when it can", error, self.unit)
                await asyncio.sleep(delay)
                delay = min(SLOWEST_RETRY, 2 * delay)
        await self._finish()

    async def _watch(self, bus: Bus) -> None:
        """Watches until the unit is down and stays so, and every process of it is gone. Raises BusLost, Refused."""
        path = await bus.call("LoadUnit", "s", self.unit)
        async with bus.changes(path) as changes, self._reference(bus):
            self._changes = changes
            try:
                while not (state := read_state(await bus.properties(path))).settled:
                    self._note(state)
                    await self._push(bus, state)
                    await self._pause(changes)
            finally:
                self._changes = None
            self._note(state)
            await self._empty(bus)
            if state.active == "failed":
                await self._ask(bus, "ResetFailedUnit", "s", self.unit)

    @contextlib.asynccontextmanager
    async def _reference(self, bus: Bus) -> AsyncIterator[None]:
        """While it is held, systemd keeps a unit that is down, and how it ended. The connection's end ends it too."""
        if bus is not self._held:
            await self._ask(bus, "RefUnit", "s", self.unit)
            self._held = bus
        try:
            yield
        finally:
            if not bus.lost:
                self._held = None
                with contextlib.suppress(Refused, BusLost):
                    await bus.call("UnrefUnit", "s", self.unit)

    def _note(self, state: UnitState) -> None:
        if state.invocation == self.invocation and state.pid:
            self.pid = state.pid
        if self._code is None:
            self._code = state.exit_code(self.invocation)
            if state.result == "oom-kill" and self._code is not None:
                self._starved = True
                self._journal.add("out of memory: the kernel ended it (systemd says: oom-kill)")

    async def _push(self, bus: Bus, state: UnitState) -> None:
        """Does what is due: stop it, or what its own `Restart=` has made of it; kill what does not end in time."""
        now = time.monotonic()
        over = state.ended(self.invocation)
        if (over or self._grace is not None) and state.active != "deactivating":
            if over and self._grace is None:
                log.warning("%s ended and was started again, not by Roundhouse; it is stopped", self.unit)
            await self._ask(bus, "StopUnit", "ss", self.unit, "replace")
        left_behind = state.active == "deactivating" and not state.pid
        if self._kill_at is None and (over or left_behind or self._grace is not None):
            self._kill_at = now + (self._grace if self._grace is not None else SHORT_TERM)
        if self._kill_at is not None and now >= self._kill_at:
            await self._ask(bus, "KillUnit", "ssi", self.unit, "all", int(signal.SIGKILL))
            self._kill_at = now + KILL_EVERY

    async def _pause(self, changes: Changes) -> None:
        """Until something has changed, or something is due."""
        due = None if self._kill_at is None else max(0.0, self._kill_at - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(due):
                await changes.wait()

    async def _empty(self, bus: Bus) -> None:
        """A unit that is down may have left processes (KillMode=process, or they could not be killed in time)."""
        told = False
        while True:
            try:
                left = await bus.call("GetUnitProcesses", "s", self.unit)
            except Refused:  # unloaded already
                return
            if not left:
                return
            if not told:
                log.info("%s is down, ending what it left: %s", self.unit, ", ".join(str(pid) for _, pid, _ in left))
                told = True
            await self._ask(bus, "KillUnit", "ssi", self.unit, "all", int(signal.SIGKILL))
            await asyncio.sleep(KILL_EVERY / 10)

    async def _ask(self, bus: Bus, member: str, signature: str, *body: object) -> None:
        """A call that may be refused: the unit is gone meanwhile, or polkit says no."""
        try:
            await bus.call(member, signature, *body)
        except Refused as error:
            if error.not_allowed and member != "RefUnit":
                log.warning("systemd refuses %s of %s: %s; run `sudo roundhouse install`", member, self.unit, error)
            else:
                log.debug("%s of %s: %s", member, self.unit, error)

    async def _finish(self) -> None:
        by_us = self._grace is not None
        if by_us:
            await self._journal.close()
        else:
            await self._journal.drain()  # its last words say why it ended
        self._over(self)
        self._ended.set_result(Exit(self._code, by_us=by_us, starved=self._starved))
