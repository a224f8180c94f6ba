"""Launcher `systemd`: engines as units, named or made for them, started, found again and stopped (C3, C3b, E1).

Owns the connection and what is laid down for units; a running engine is a handle (`handle.py`). Touches no other unit
than those it is told to run, and its own; writes nothing that outlives the machine's next boot. Knows no engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from roundhouse.errors import LoadFailed
from roundhouse.launchers.lines import Lines
from roundhouse.launchers.systemd.bus import Bus, BusLost, Refused, bus_address
from roundhouse.launchers.systemd.handle import UnitHandle
from roundhouse.launchers.systemd.journal import Journal
from roundhouse.launchers.systemd.order import check, script, transient_properties
from roundhouse.launchers.systemd.place import Places, Record
from roundhouse.launchers.systemd.refusals import JOB_RESULTS, in_words
from roundhouse.launchers.systemd.startfile import transient_name, unit_name
from roundhouse.launchers.systemd.state import UnitState, read_state
from roundhouse.ports import Tag

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from types import TracebackType

    from roundhouse.ports import Command, Handle

ROOT_STARTS = Path("/run/roundhouse-units")
"""Start files of a Roundhouse that is root: others may pass, as a unit may run as any user; each file is its user's."""
SYSTEM_DROP_INS = Path("/run/systemd/system")
STRANGER_GRACE = 30.0
"""Seconds from SIGTERM to SIGKILL for an engine in a unit of ours that Roundhouse did not start."""
UNDO_GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL for a start that was given up."""
LEAVE_WITHIN = 30.0
"""Seconds that tidying up may take at our own end."""
UNLOAD_WITHIN = 5.0
"""Seconds that systemd may take to forget a transient unit, so that its name is free again; usually it is one turn."""

log = logging.getLogger(__name__)


class SystemdLauncher:
    """Runs engines in units of one manager. An async context manager; connects when it is first needed.

    On exit engines are left as they are: units outlive Roundhouse, which finds them again.

    Args:
        runtime_dir: of Roundhouse; records and start files go below `units` in it.
        install_id: of this installation; transient units of others are left alone.
        user: the user manager instead of the system's.
        named: the units that the configuration names, each with the port its engine listens on.
        memory_limit: bytes of RAM that a transient unit may use (MemoryMax); None for no limit.
        address: of the bus; default: as the environment says.
        environ: of Roundhouse.
    """

    running = stays = False

    def __init__(
        self,
        runtime_dir: Path,
        install_id: str,
        *,
        user: bool,
        named: Mapping[str, int],
        memory_limit: int | None,
        address: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._install = install_id
        self._user = user
        self.configure(named, memory_limit)
        self._address = address or bus_address(self._environ, user=user)
        self._places = self._lay_out(runtime_dir.absolute())
        self._bus: Bus | None = None
        self._connecting = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}  # by unit: a start, and the tidying after a run, are one at a time
        self._runs: dict[str, UnitHandle] = {}  # by unit: the run that its files are for
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, named: Mapping[str, int], memory_limit: int | None) -> None:
        """Takes these named units and this limit from now on; what runs goes on."""
        self._named = {unit_name(name): port for name, port in named.items()}
        self._memory_limit = memory_limit

    async def __aenter__(self) -> Self:
        """Nothing yet: the manager is asked when it is needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes tidying up, lets go of all engines and ends the connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_WITHIN):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for task in list(self._tasks):  # systemd can't be reached
            task.cancel()
            await asyncio.wait([task])
        for handle in list(self._runs.values()):
            await handle.detach()
        if self._bus is not None:
            await self._bus.close()

    async def clear(self, command: Command) -> None:
        """Ends what already runs in the unit that a command names, before its port is looked at. Raises LoadFailed."""
        if command.unit is None:
            return
        name = unit_name(command.unit)
        with in_words(name):
            state = await self._state(await self._connected(), name)
            async with self._lock(state.id):
                await self._vacate(state.id)

    async def start(self, tag: Tag, command: Command) -> UnitHandle:
        """Starts the engine in its unit. Raises LoadFailed with the reason if that can't be done."""
        name = unit_name(command.unit) if command.unit is not None else transient_name(self._install, tag.model)
        with in_words(f"{tag.model!r}"):
            state = await self._state(await self._connected(), name)
            check(tag, command, state, self._places, user=self._user)
            async with self._lock(state.id):
                await self._vacate(state.id)
                try:
                    return await self._start(tag, command, state)
                except BaseException:
                    self._spawn(self._undo(state.id), f"undo the start of {state.id}")
                    raise

    async def found(self) -> list[Handle]:
        """Engines of this installation that run; what is left of those that don't is removed. Never fails."""
        handles: list[Handle] = []
        records = [record for record in self._places.recorded() if record.user == self._user]
        try:
            bus = await self._connected()
            handles += [handle for record in records if (handle := await self._find(bus, record)) is not None]
            await self._sweep(bus)
        except BusLost as error:
            log.warning("systemd can't be reached (%s), so no engines are looked for under it", error)
        except Refused as error:
            log.warning("systemd refuses to tell what runs: %s", error)
        return handles

    async def foreign_named(self) -> list[UnitHandle]:
        """Named units that run, but not from a start of ours; their tags have no model, and the port they should have.

        Whoever recognises the engine calls `claim`; else `stop` ends it. Never fails.
        """
        handles: list[UnitHandle] = []
        try:
            bus = await self._connected()
            for name, port in self._named.items():
                state = await self._state(bus, name)
                if state.runs and state.id not in self._runs:
                    handles.append(self._hold(Tag("", "", port, state.since), state))
        except (BusLost, Refused) as error:
            log.warning("systemd can't be asked what runs in the units named: %s", error)
        return handles

    async def claim(self, handle: UnitHandle, tag: Tag) -> None:
        """From now on this run serves a model of ours: a later Roundhouse finds it by this tag. Never fails."""
        handle.tag = tag
        try:
            await asyncio.to_thread(self._keep, handle)
        except OSError as error:
            log.warning(
                "%s can't be noted as ours (%s); a later Roundhouse has to recognise it again", handle.unit, error
            )

    # --- one start ---

    async def _start(self, tag: Tag, command: Command, state: UnitState) -> UnitHandle:
        bus = await self._connected()
        self._runs.pop(state.id, None)
        place = self._places.of(state.id)
        named = command.unit is not None
        if command.argv:
            text = script(tag, command, self._install, self._environ, place.pipe)
            await asyncio.to_thread(place.lay, text, state.user)
        if named and command.argv and place.drop_in is not None:
            await asyncio.to_thread(place.lay_drop_in)
            await bus.call("Reload")
        result = await (self._start_named(bus, state.id) if named else self._start_transient(bus, tag, state.id))
        state = await self._state(bus, state.id)
        if result != "done":
            raise LoadFailed(await self._why(tag, state, result))
        handle = self._hold(tag, state, held=bus)
        try:
            await asyncio.to_thread(self._keep, handle)
        except BaseException:
            del self._runs[state.id]
            raise
        return handle

    async def _start_named(self, bus: Bus, unit: str) -> str:
        """Queues the start and waits for its result. A unit that was started often is let start again."""
        with contextlib.suppress(Refused):
            await bus.call("RefUnit", "s", unit)
        with contextlib.suppress(Refused):
            await bus.call("ResetFailedUnit", "s", unit)
        return await bus.job("StartUnit", "ss", unit, "replace")

    async def _start_transient(self, bus: Bus, tag: Tag, unit: str) -> str:
        properties = transient_properties(tag.model, unit, self._places.of(unit).start, self._memory_limit)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UNLOAD_WITHIN
        while True:
            try:
                return await bus.job("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", properties, [])
            except Refused as error:
                # The one before it has ended, but systemd has not yet forgotten it.
                if not error.name.endswith(".UnitExists") or loop.time() > deadline:
                    raise
                await asyncio.sleep(0.02)

    async def _why(self, tag: Tag, state: UnitState, result: str) -> str:
        """Why a start failed, with the unit's last words."""
        how = state.how if result == "failed" else JOB_RESULTS.get(result, result)
        words = f"its unit {state.id} could not be started: {how}"
        if not state.invocation:
            return words
        lines = Lines()
        journal = Journal(state, lines, user=self._user)
        journal.follow()
        await journal.drain()
        log.info("the start of %s for %s failed: %s", state.id, tag.model, result)
        said = [line.strip() for line in lines.tail(3)]
        return f"{words}; its last words: {' / '.join(said)[:400]}" if said else words

    async def _undo(self, unit: str) -> None:
        """Nothing stays of a start that failed or was given up."""
        async with self._lock(unit):
            if unit not in self._runs:
                with contextlib.suppress(Refused, BusLost):
                    bus = await self._connected()
                    state = await self._state(bus, unit)
                    if state.runs:
                        await self._end(state, UNDO_GRACE)
                    await self._forget(bus, unit)
                await self._remove(unit)

    async def _forget(self, bus: Bus, unit: str) -> None:
        """Lets go of a unit whose start failed, so that systemd does not keep it, nor call it failed."""
        for member in ("ResetFailedUnit", "UnrefUnit"):
            with contextlib.suppress(Refused):
                await bus.call(member, "s", unit)

    # --- units that run ---

    def _hold(self, tag: Tag, state: UnitState, *, held: Bus | None = None) -> UnitHandle:
        handle = UnitHandle(tag, state, self._connected, self._over, held=held, user=self._user)
        self._runs[handle.unit] = handle
        handle.follow()
        return handle

    def _keep(self, handle: UnitHandle) -> None:
        self._places.of(handle.unit).keep(Record(handle.tag, handle.unit, handle.invocation, self._user))

    async def _find(self, bus: Bus, record: Record) -> UnitHandle | None:
        """The run of a record, if it still is."""
        state = await self._state(bus, record.unit)
        if state.runs and state.invocation == record.invocation:
            return self._runs.get(state.id) or self._hold(record.tag, state)
        if state.runs:
            self._places.of(state.id).record.unlink(missing_ok=True)  # the rest may be what it runs from
        elif state.id not in self._runs:
            await self._remove(record.unit)
        return None

    async def _sweep(self, bus: Bus) -> None:
        """Ends transient units of ours that nobody knows, removes what is laid down for units that don't run."""
        pattern = transient_name(self._install, "").removesuffix(".service") + "*.service"
        for name, *_ in await bus.call("ListUnitsByPatterns", "asas", [], [pattern]):
            state = await self._state(bus, name)
            if state.runs and state.id not in self._runs:
                log.warning("ending %s: Roundhouse ended before it could note that start", name)
                await self._end(state, UNDO_GRACE)
        for name in self._named:
            state = await self._state(bus, name)
            if not state.runs and state.id not in self._runs:
                await self._remove(state.id)

    async def _vacate(self, unit: str) -> None:
        """Naming a unit gives Roundhouse its start and stop (C3b): what runs in it has to go first."""
        state = await self._state(await self._connected(), unit)
        if state.settled:
            return
        handle = self._runs.get(unit)
        if handle is not None and handle.invocation == state.invocation:
            await handle.stop(STRANGER_GRACE)
            return
        log.warning("stopping %s (pid %d), which was not started by this Roundhouse", unit, state.pid)
        await self._end(state, STRANGER_GRACE)
        await self._remove(unit)

    async def _end(self, state: UnitState, grace: float) -> None:
        """Stops a run that nobody holds."""
        handle = UnitHandle(Tag("", "", 0, state.since), state, self._connected, lambda _: None, user=self._user)
        handle.follow()
        try:
            await handle.stop(grace)
        finally:
            await handle.detach()

    def _over(self, handle: UnitHandle) -> None:
        self._spawn(self._tidy(handle), f"tidy up after {handle.unit}")

    async def _tidy(self, handle: UnitHandle) -> None:
        """Removes what was laid down for a run, unless the next one is there already."""
        async with self._lock(handle.unit):
            if self._runs.get(handle.unit) is handle:
                del self._runs[handle.unit]
                await self._remove(handle.unit)

    async def _remove(self, unit: str) -> None:
        """Removes what was laid down for a unit, and has the manager see that."""
        try:
            if await asyncio.to_thread(self._places.of(unit).remove):
                await (await self._connected()).call("Reload")
        except (OSError, Refused, BusLost) as error:
            log.warning("what was laid down for %s can't be removed: %s", unit, error)

    # --- the manager ---

    async def _connected(self) -> Bus:
        """The connection, a new one if it was lost. Raises BusLost."""
        async with self._connecting:
            if self._bus is not None and self._bus.lost:
                await self._bus.close()
                self._bus = None
            if self._bus is None:
                self._bus = await Bus.connect(self._address)
            return self._bus

    async def _state(self, bus: Bus, unit: str) -> UnitState:
        return read_state(await bus.properties(await bus.call("LoadUnit", "s", unit)))

    def _lock(self, unit: str) -> asyncio.Lock:
        return self._locks.setdefault(unit, asyncio.Lock())

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    def _lay_out(self, runtime_dir: Path) -> Places:
        records = runtime_dir / "units"
        if self._user:
            folder = Path(self._environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
            return Places(records, records, folder / "systemd" / "user", public=False)
        if os.geteuid() == 0:
            return Places(records, ROOT_STARTS, SYSTEM_DROP_INS, public=True)
        return Places(records, records, None, public=False)
