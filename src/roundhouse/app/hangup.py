"""SIGHUP: read the configuration again; or the end, when the terminal that Roundhouse was started in is closed.

Both come as the same signal. A terminal that is gone can't be opened any more (tty(4): /dev/tty), where it could be at
the start. Started with `nohup`, Roundhouse stays also then.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from roundhouse.app.sockets import notify
from roundhouse.errors import Conflict
from roundhouse.observe import log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from roundhouse.app.reload import Reloader
    from roundhouse.runtime.tasks import Tasks

TERMINAL = "/dev/tty"


class Hangup:
    """What a SIGHUP does. Made before a handler is set; `end` begins the end of the program."""

    def __init__(
        self,
        environ: Mapping[str, str],
        reloader: Reloader,
        tasks: Tasks,
        end: Callable[[], None],
        terminal: str = TERMINAL,
    ) -> None:
        self._environ = environ
        self._tasks = tasks
        self._reloader = reloader
        self._end = end
        self._terminal = terminal
        self._tied = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _opens(terminal)
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def heard(self) -> None:
        """A signal came. One that comes during a reload has the file read once more."""
        if self._tied and not _opens(self._terminal):
            self._end()
        elif self._task is not None and not self._task.done():
            self._again = True
        else:
            self._task = self._tasks.spawn(self._reload(), "reload by SIGHUP")

    async def _reload(self) -> None:
        """Applies the file, and tells systemd meanwhile (sd_notify(3): RELOADING, MONOTONIC_USEC, READY)."""
        notify(self._environ, f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._again = True
            while self._again:
                self._again = False
                await self._reloader.apply("SIGHUP")
        except Conflict as error:
            log.get("roundhouse").warning("SIGHUP does nothing", reason=error.message)
        finally:
            notify(self._environ, "READY=1")


def _opens(terminal: str) -> bool:
    try:
        os.close(os.open(terminal, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
