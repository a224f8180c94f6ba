"""One run of a unit in the journal: its lines from the very first on (journalctl(1), systemd.journal-fields(7)).

journalctl is run and read; what it writes becomes `Lines`. systemd's own messages about the unit are not among them, as
they would be taken for the engine's last words; they tell when nothing more comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
from typing import TYPE_CHECKING

from roundhouse.launchers.systemd.startfile import folder_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.launchers.lines import Lines
    from roundhouse.launchers.systemd.state import UnitState

LONGEST_ENTRY = 4 << 20
"""Bytes of one entry as JSON: journald cuts lines at 48 KiB, and what is no clean text comes as a list of numbers."""
LAST_WORDS_WITHIN = 2.0
"""Seconds that the last lines of an engine may take through the journal; usually it is 0.2 to 0.4."""
LOOK_BACK = 10.0
"""Seconds before a unit's start from which the journal is read: systemd notes its time when the engine runs already."""
SLACK = 0.25
"""Seconds before that noted time in which a line without a run's id is still taken for one of it."""
SETTLE = 0.3
"""Seconds more after systemd's last word: journald may read that before the engine's."""
NO_ACCESS = (
    "Roundhouse may not read this unit's journal, so what the engine says is not shown; "
    "add its user to the group systemd-journal (`sudo roundhouse install` does)"
)

# systemd's sd-messages.h: SD_MESSAGE_UNIT_SUCCESS, SD_MESSAGE_UNIT_FAILURE_RESULT: said when all processes are gone
_ENDED = frozenset({"7ad2d189f7e94e70a38c781354912448", "d9b373ed55a64feb8242e02dbe79a49c"})
_SYSTEMDS = frozenset({"INVOCATION_ID", "USER_INVOCATION_ID"})  # fields of a manager's own messages about a unit

log = logging.getLogger(__name__)


def journal_argv(state: UnitState, *, user: bool) -> list[str]:
    """The command that follows one run, given the unit while it runs or after.

    Not with `-n 0`: with no entry of the unit yet, journalctl 252 then loses the first two.
    """
    alternatives = [
        [f"_SYSTEMD_INVOCATION_ID={state.invocation}"],
        [f"{'USER_' if user else ''}INVOCATION_ID={state.invocation}"],
    ]
    # Lines that journald comes to read when the unit is down already lack the id, in the user manager the unit too.
    if user:
        ours = f"_UID={os.getuid()}"
        alternatives += [[f"_SYSTEMD_USER_UNIT={state.id}", ours], [f"SYSLOG_IDENTIFIER={folder_name(state.id)}", ours]]
    else:
        alternatives += [[f"_SYSTEMD_UNIT={state.id}"]]
    fields = "MESSAGE,MESSAGE_ID,INVOCATION_ID,USER_INVOCATION_ID,_SYSTEMD_INVOCATION_ID"
    # --all: a field of more than 4096 bytes would be null.
    options = ["--follow", "--lines=all", "--all", "--output=json", f"--output-fields={fields}"]
    matches = [word for alternative in alternatives for word in ("+", *alternative)]  # the '+' means or
    return ["journalctl", *options, f"--since=@{max(0.0, state.since - LOOK_BACK):.6f}", *matches[1:]]


class Journal:
    """Feeds `lines` with what one run says. `follow` begins; `drain` and `close` end it, and close the lines."""

    def __init__(self, state: UnitState, lines: Lines, *, user: bool) -> None:
        self._state = state
        self._lines = lines
        self._user = user
        self._over = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Begins to read."""
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="journal of a unit")
        self._reading.add_done_callback(_report)

    async def drain(self) -> None:
        """The run is over: returns when its last lines are here, or have had their time."""
        try:
            async with asyncio.timeout(LAST_WORDS_WITHIN):
                await self._over.wait()
        except TimeoutError:
            log.debug("systemd's last word about %s did not come through the journal", self._state.id)
        else:
            await asyncio.sleep(SETTLE)
        await self.close()

    async def close(self) -> None:
        """Ends journalctl."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        self._lines.close()

    def add(self, line: str) -> None:
        """A line of our own."""
        self._lines.feed(f"{line}\n".encode())

    async def _read(self) -> None:
        try:
            if shutil.which("journalctl") is None:
                self.add("journalctl is not installed, so what the engine says is not shown")
                return
            await self._run(journal_argv(self._state, user=self._user))
        finally:
            self._over.set()

    async def _run(self, argv: list[str]) -> None:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_ENTRY,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
        )
        assert process.stdout is not None
        assert process.stderr is not None
        end = _ender(process.pid)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._complaints(process.stderr))
                async for entry in process.stdout:
                    self._take(entry)
        finally:
            end()
            await process.communicate()  # to the end of its pipes, which closes them

    def _take(self, entry: bytes) -> None:
        try:
            fields = json.loads(entry)
        except ValueError:
            log.warning("journalctl wrote what is no JSON: %r", entry[:200])
            return
        if not _SYSTEMDS.isdisjoint(fields):
            if fields.get("MESSAGE_ID") in _ENDED and self._state.invocation in map(fields.get, _SYSTEMDS):
                self._over.set()
        elif self._is_ours(fields):
            self._lines.feed(_message(fields.get("MESSAGE")) + b"\n")

    def _is_ours(self, fields: Mapping[str, str]) -> bool:
        """Whether a line is of this run. One without an id may be of the run before, but then it is older."""
        run = fields.get("_SYSTEMD_INVOCATION_ID")
        if run is not None:
            return run == self._state.invocation
        return int(fields.get("__REALTIME_TIMESTAMP", 0)) / 1e6 >= self._state.since - SLACK

    async def _complaints(self, stderr: asyncio.StreamReader) -> None:
        """What journalctl says itself. A user may read the lines of its own units, not those of the system's."""
        told = False
        async for line in stderr:
            text = line.decode(errors="replace").strip()
            refused = "insufficient permissions" in text or ("not seeing messages" in text and not self._user)
            if refused and not told:
                told = True
                self.add(NO_ACCESS)
            elif text:
                log.debug("journalctl: %s", text)


def _ender(pid: int) -> Callable[[], None]:
    """Ends a child once, if it still runs.

    `Process.terminate` would reap a child that has just ended, and asyncio then complains that it does not find it.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:  # it has ended, and asyncio knows
        return lambda: None

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)

    return end


def _message(value: object) -> bytes:
    """A field of the journal's JSON: text; a list of numbers if it is not clean text; several such if given twice."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list):
        if all(isinstance(byte, int) for byte in value):
            return bytes(value)
        return b"\n".join(map(_message, value))
    return b""


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the journal can't be followed", exc_info=error)
