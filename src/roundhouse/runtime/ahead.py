"""Carries out Prefetch: one model's weights at a time are read into the page cache, by a thread of its own.

A thread of its own, as its reads go behind everybody else's (`pagecache.yield_disk`) and may hang on a broken disk,
which must hold up neither other work nor the end. It ends when its model starts: the engine then reads by itself, from
where it needs it first. docs/switching.md has figures.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.runtime import pagecache
from roundhouse.runtime.files import weights_of
from roundhouse.runtime.pagecache import Outcome, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from roundhouse.core.model import Prefetch
    from roundhouse.runtime.life import Runnable

RATE = 1024**3
"""Bytes per second: much of what a fast disk gives, and little of what memory moves for running answers."""
SHARED_RATE = RATE / 4
"""While an engine loads, whose own reads somebody waits for."""
LAST_WORDS = 1.0
"""Seconds for a thread that was called off; a piece takes a few milliseconds, unless the disk hangs."""


@dataclass(slots=True)
class _Work:
    model: str
    runnable: Runnable
    wanted: bool
    done: asyncio.Future[None]
    cancelled: threading.Event = field(default_factory=threading.Event)


class Ahead:
    """Reads ahead. `told` hears what came of each time; `loading` says whether any engine is being loaded."""

    def __init__(
        self,
        models: Mapping[str, Runnable],
        told: Callable[[str, Report], None],
        loading: Callable[[], bool],
        short: Callable[[int], str | None] = pagecache.shortage,
    ) -> None:
        self._models = models
        self._told = told
        self._loading = loading
        self._short = short
        self._work: _Work | None = None
        self._threads: set[asyncio.Future[None]] = set()

    def begin(self, action: Prefetch) -> None:
        """Reads this model's weights from now on, and no other's."""
        work = self._work
        if work is not None and work.model == action.model:
            work.wanted = action.wanted
            return
        self._call_off()
        loop = asyncio.get_running_loop()
        self._work = work = _Work(action.model, self._models[action.model], action.wanted, loop.create_future())
        self._threads.add(work.done)
        # Of no thread pool: the end of the program must not wait for a disk that hangs.
        threading.Thread(target=self._run, args=(work, loop), name=f"read {work.model} ahead", daemon=True).start()

    def starts(self, model: str) -> None:
        """This model's engine starts: it reads its weights itself; and what was read on a guess is in its way."""
        if self._work is not None and (self._work.model == model or not self._work.wanted):
            self._call_off()

    async def close(self) -> None:
        """Ends it."""
        self._call_off()
        if self._threads:
            await asyncio.wait(self._threads, timeout=LAST_WORDS)

    def _call_off(self) -> None:
        if self._work is not None:
            self._work.cancelled.set()
            self._work = None

    def _rate(self) -> float:
        return SHARED_RATE if self._loading() else RATE

    # --- in the thread ---

    def _run(self, work: _Work, loop: asyncio.AbstractEventLoop) -> None:
        pagecache.yield_disk()
        try:
            report = pagecache.read_in(_files(work.runnable), self._rate, work.cancelled, self._short)
        except OSError as error:
            report = Report(Outcome.FAILED, 0, 0, 0, 0.0, f"{error.filename}: {(error.strerror or 'failed').lower()}")
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(self._ended, work, report)

    def _ended(self, work: _Work, report: Report) -> None:
        if self._work is work:
            self._work = None
        self._threads.discard(work.done)
        work.done.set_result(None)
        self._told(work.model, report)


def _files(runnable: Runnable) -> tuple[Path, ...]:
    source, beside = runnable.engine.source(runnable.config), runnable.config.mmproj
    return (*(weights_of(source) if source is not None else ()), *((beside,) if beside is not None else ()))
