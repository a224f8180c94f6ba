"""Work that may never end, kept from harming anybody: at most one at a time, waited for no longer than a limit.

A driver that hangs can't be called off, neither in a thread nor in a process (which then can't even be killed). So what
hangs is left alone, further questions are answered with a refusal at once, and nothing piles up.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from roundhouse.runtime.devices.gpu import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

LIMIT = 10.0
"""Seconds. nvidia-smi takes two or three where the driver is not kept loaded (no persistence mode)."""
PAUSE = 60.0
"""Seconds for which a program that gave no answer in time is not asked again, so that readings are not late by it."""
KILLED_LIMIT = 1.0
"""Seconds in which a killed process is gone, unless the driver holds it."""


class Thread:
    """Blocking calls, each in a thread of its own that the program's end does not wait for."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._free = threading.Event()
        self._free.set()

    async def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises Unreadable when it takes too long, or an earlier one still does."""
        if not self._free.is_set():
            raise Unreadable("an earlier call has not returned yet")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return  # nobody waits any more
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except Exception as raised:  # noqa: BLE001  handed to whoever waits
                error = raised
            self._free.set()
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(settle, result, error)

        self._free.clear()
        threading.Thread(target=run, daemon=True, name="driver").start()
        try:
            async with asyncio.timeout(self._limit):
                return await done
        except TimeoutError:
            raise Unreadable(f"no answer within {self._limit:.0f} s") from None


class Program:
    """A vendor's program, looked for on PATH and then in `folders`, where services' PATH does not lead."""

    def __init__(self, name: str, folders: Sequence[str] = (), limit: float = LIMIT) -> None:
        self._name = name
        self._folders = tuple(folders)
        self._limit = limit
        self._stuck: asyncio.subprocess.Process | None = None
        self._not_before = 0.0

    async def run(self, *arguments: str) -> str:
        """Its standard output, whatever its exit code. Raises Unreadable when there is none, or it takes too long."""
        path = self._path()
        if path is None:
            raise Unreadable(f"{self._name} is not here")
        if self._stuck is not None and self._stuck.returncode is None:
            raise Unreadable(f"an earlier {self._name} has not ended yet")
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before:
            raise Unreadable(f"{self._name} gave no answer a moment ago")
        quiet = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                path, *arguments, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet
            )
        except OSError as error:
            raise Unreadable(f"{path} can't be run: {error}") from error
        self._stuck = process
        try:
            async with asyncio.timeout(self._limit):
                out, _ = await process.communicate()
        except TimeoutError:
            self._not_before = loop.time() + PAUSE
            raise Unreadable(f"{self._name} gave no answer within {self._limit:.0f} s") from None
        finally:
            await _end(process)
        return out.decode(errors="replace")

    def _path(self) -> str | None:
        found = shutil.which(self._name)
        if found is not None:
            return found
        places = (Path(folder) / self._name for folder in self._folders)
        return next((str(place) for place in places if place.is_file()), None)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills what still runs; one that the driver holds is left behind."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILLED_LIMIT):
            await process.wait()
