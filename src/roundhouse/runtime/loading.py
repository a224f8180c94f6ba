"""Waits until an engine is ready: asks it, reads what it says, gives up when it ends, stands still or takes too long.

One `Loading` is one load. It starts and stops nothing; what an answer or a line of output means, the engine's
description knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from roundhouse.core.model import Progress
from roundhouse.errors import LoadFailed, RouterError
from roundhouse.runtime import movement
from roundhouse.runtime.talk import carry_out

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from roundhouse.ports import Endpoint, Engine, Exit
    from roundhouse.runtime.life import Life
    from roundhouse.runtime.upstream import Upstream

FIRST_POLL, SLOWEST_POLL = 0.02, 0.5
"""Seconds between two readiness probes: at first, and at most (spec C4)."""
LEAST_POLL = 0.005
"""Seconds between two probes of an engine that talks all the time."""
PROBE_TIMEOUT = 5.0
LAST_LINES = 300
"""Lines in which the reason of an end is looked for: vLLM's stood 61 from the end, before its farewells."""


class Loading:
    """One load.

    Args:
        clock: gives seconds.
        told: gets its progress.
        endpoint: where it answers, read again: an engine may make its key file when it starts.
    """

    def __init__(
        self,
        life: Life,
        upstream: Upstream,
        clock: Callable[[], float],
        told: Callable[[Progress], None],
        endpoint: Callable[[], Awaitable[Endpoint]],
    ) -> None:
        self._life = life
        self._upstream = upstream
        self._clock = clock
        self._told = told
        self._endpoint = endpoint
        self._talking = False

    async def run(self) -> None:
        """Returns when the model answers requests. Raises LoadFailed, or whatever broke."""
        life = self._life
        assert life.handle is not None
        loop = asyncio.get_running_loop()
        exited = loop.create_task(life.handle.wait_exit(), name="exit while loading")
        watch = loop.create_task(self._watch(), name="movement while loading")
        follow = loop.create_task(self._follow(), name="log while loading")
        work = loop.create_task(self._work(), name="readiness")
        tasks = (exited, watch, follow, work)
        try:
            await asyncio.wait((exited, watch, work), return_when=asyncio.FIRST_COMPLETED)
            self._judge(exited, watch, work)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _judge(self, exited: asyncio.Task[Exit], watch: asyncio.Task[None], work: asyncio.Task[None]) -> None:
        """An engine that has ended is not ready, whatever it said last."""
        if exited.done():
            self._life.ended = exited.result()
            if not self._life.stopping:
                raise LoadFailed(why_ended(self._life, exited.result()))
        elif watch.done():
            watch.result()
        else:
            work.result()

    async def _work(self) -> None:
        await self._until_ready()
        runnable = self._life.runnable
        endpoint = self._life.endpoint = await self._endpoint()
        if runnable.loads is not None:
            self._talking = True
            talk = runnable.loads.load(runnable.config, await runnable.facts(), self._life.place)
            await carry_out(talk, self._upstream, endpoint, self._moved)

    def _moved(self, progress: Progress) -> None:
        self._life.moved = self._clock()
        self._told(progress)

    async def _until_ready(self) -> None:
        """Polls, fast at first; the next of its paths once one turns out not to exist in this version."""
        life = self._life
        assert life.endpoint is not None
        engine, paths = life.runnable.engine, list(life.runnable.engine.ready_paths(life.runnable.config))
        delay = FIRST_POLL
        while True:
            life.spoke.clear()
            with contextlib.suppress(RouterError):
                status, body = await self._upstream.get(life.endpoint, paths[0].encode(), timeout=PROBE_TIMEOUT)
                if engine.is_ready(status, body):
                    return
                if status == 404 and len(paths) > 1:
                    del paths[0]
            await self._pause(delay)
            delay = min(SLOWEST_POLL, delay * 1.3)

    async def _pause(self, delay: float) -> None:
        """Until the next probe: `delay`, or less if the engine says something, for that may be that it is ready."""
        await asyncio.sleep(LEAST_POLL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay - LEAST_POLL):
                await self._life.spoke.wait()

    async def _follow(self) -> None:
        """Reads the engine's output: each line is movement, some tell how far the load is."""
        life = self._life
        assert life.handle is not None
        async for line in life.handle.lines():
            life.moved = self._clock()
            life.spoke.set()
            progress = life.runnable.engine.progress(line)
            if progress is not None and not self._talking:  # what it answers is more exact than what it logs
                self._told(progress)

    async def _watch(self) -> None:
        """Raises LoadFailed when the load stands still for `stalled` or lasts longer than `total`."""
        life = self._life
        limits = life.runnable.config.load_timeout
        facts = await life.runnable.facts()
        before, before_at = None, self._clock()
        while True:
            await asyncio.sleep(min(1.0, limits.stalled / 4))
            now = self._clock()
            pid = life.handle.pid if life.handle is not None else None
            if pid is not None:
                current = await asyncio.to_thread(movement.sample, pid)
                if before is not None and movement.moved(before, current, now - before_at):
                    life.moved = now
                    if facts is not None and facts.weights and not self._talking:
                        self._told(_guess(current.resident / facts.weights))
                before, before_at = current, now
            if now - life.moved >= limits.stalled:
                raise LoadFailed(f"it did not move for {limits.stalled:.0f} s while loading{_last_words(life)}")
            if now - life.started >= limits.total:
                raise LoadFailed(f"it was not ready after {limits.total:.0f} s (load_timeout.total){_last_words(life)}")


async def replies(engine: Engine, upstream: Upstream, endpoint: Endpoint, limit: float) -> dict[str, bytes]:
    """What a ready engine says of itself: the good replies to its `facts_paths`, each within `limit` seconds."""
    found: dict[str, bytes] = {}
    for path in engine.facts_paths:
        with contextlib.suppress(RouterError):
            status, body = await upstream.get(endpoint, path.encode(), timeout=limit)
            if status == 200:
                found[path] = body
    return found


def why_ended(life: Life, ended: Exit) -> str:
    """In words, why an engine ended: its own last ones, else how."""
    if ended.by_us or life.handle is None:
        return "stopped"
    lines = life.handle.tail(LAST_LINES)
    words = life.runnable.engine.failure(lines)
    if words or not ended.code or ended.code < 0:
        return words or _exit_words(ended)
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{_exit_words(ended)}: {last[:300]}" if last else _exit_words(ended)


def _exit_words(ended: Exit) -> str:
    if ended.code is None:
        return "it ended"
    return f"it was killed by signal {-ended.code}" if ended.code < 0 else f"it ended with exit code {ended.code}"


def _last_words(life: Life) -> str:
    lines = life.handle.tail(LAST_LINES) if life.handle is not None else []
    words = life.runnable.engine.failure(lines) or (lines[-1].strip() if lines else "")
    return f"; its last words: {words[:300]}" if words else ""


def _guess(share: float) -> Progress:
    """How far a load is, by how much of the weights is in memory (spec C5); once all are, nothing can be said."""
    if share < 1.0:
        return Progress(share, "reading weights", guessed=True)
    return Progress(None, "warming up", guessed=True)
