"""Carries out Start and Stop. Its one promise: every Start is answered, in the end, by exactly one Exited.

One task lives as long as one engine instance: launch, wait until ready, watch, tidy up. Knows engines and launchers
only by their Protocols. What an engine says and how long it took is told to the `Journal` (history, log) beside the
events.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from roundhouse.core.model import BecameReady, Exited, Found, Progress, Progressed, Start, Started, Stop
from roundhouse.errors import LoadFailed, RouterError
from roundhouse.ports import Endpoint, Exit, Tag
from roundhouse.runtime import movement
from roundhouse.runtime.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Event, InstanceId
    from roundhouse.ports import Build, Engine, Handle, Launcher, ModelFacts, Served
    from roundhouse.runtime.upstream import Upstream

FIRST_POLL, SLOWEST_POLL = 0.02, 0.5
"""Seconds between two readiness probes: at first, and at most (spec C4)."""
LEAST_POLL = 0.005
"""Seconds between two probes of an engine that talks all the time."""
PROBE_TIMEOUT = 5.0
STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
LAST_LINES = 60


class Journal(Protocol):
    """Whoever wants to know more of an engine's life than the planner does."""

    def loaded(self, model: str, settings: str, seconds: float) -> None:
        """A load ended well."""

    def failed(self, model: str, settings: str, seconds: float, reason: str) -> None:
        """A load failed."""

    def exited(self, model: str, reason: str, *, expected: bool) -> None:
        """An engine that was ready is no more."""


@dataclass(frozen=True, slots=True)
class Runnable:
    """Everything needed to run a model: its configuration, engine and launcher, and how to learn the rest."""

    config: ModelConfig
    settings: str
    engine: Engine
    launcher: Launcher
    remote: Endpoint | None
    facts: Callable[[], Awaitable[ModelFacts | None]]
    build: Callable[[], Awaitable[Build]]


@dataclass(slots=True)
class Life:
    """One instance as effects sees it."""

    runnable: Runnable
    started: float
    task: asyncio.Task[None] | None = None
    handle: Handle | None = None
    endpoint: Endpoint | None = None
    served: Served | None = None
    ready: bool = False
    stopping: bool = False
    leaving: bool = False
    moved: float = 0.0
    spoke: asyncio.Event = field(default_factory=asyncio.Event)


class Effects:
    """The doer behind the supervisor. `post` takes events, `settle` waits until memory is back and read (spec D2)."""

    def __init__(
        self,
        models: Mapping[str, Runnable],
        upstream: Upstream,
        journal: Journal,
        clock: Callable[[], float],
        report: Callable[[str, BaseException], None],
    ) -> None:
        self.models = models
        self.lives: dict[InstanceId, Life] = {}
        self.last_output: dict[str, list[str]] = {}
        self.post: Callable[[Event], None] = lambda _event: None
        self.memory_back: Callable[[InstanceId], Awaitable[None]] = _nothing
        self._upstream = upstream
        self._journal = journal
        self._clock = clock
        self._tasks = Tasks(report)

    def do(self, action: Start | Stop) -> None:
        """Begins an action."""
        if isinstance(action, Start):
            life = Life(self.models[action.model], self._clock())
            self.lives[action.instance] = life
            life.task = self._tasks.spawn(self._live(action.instance, life), f"engine of {action.model}")
        else:
            self._tasks.spawn(self._stop(action.instance), f"stop of {action.model}")

    def adopt(
        self, instance: InstanceId, model: str, handle: Handle, endpoint: Endpoint, served: Served | None
    ) -> None:
        """Takes over an engine that runs already; `served` is None while it still loads."""
        life = Life(self.models[model], self._clock(), handle=handle, endpoint=endpoint, ready=served is not None)
        life.served, life.moved = served, self._clock()
        self.lives[instance] = life
        slots = served.slots if served else None
        self.post(Found(instance, model, handle.pid, slots, ready=life.ready))
        life.task = self._tasks.spawn(self._live(instance, life), f"adopted engine of {model}")

    def endpoint(self, instance: InstanceId) -> Endpoint | None:
        """Where an instance answers."""
        life = self.lives.get(instance)
        return life.endpoint if life is not None else None

    async def ends(self, instance: InstanceId, seconds: float) -> bool:
        """Whether an instance is gone, or will be within so many seconds."""
        life = self.lives.get(instance)
        if life is not None and life.task is not None:
            await asyncio.wait({life.task}, timeout=seconds)
        return instance not in self.lives

    def trees(self) -> dict[InstanceId, int]:
        """Root process of each instance that has one here."""
        found = {key: life.handle.pid for key, life in self.lives.items() if life.handle is not None}
        return {key: pid for key, pid in found.items() if pid is not None}

    async def close(self, *, leave_engines: bool, limit: float) -> None:
        """Ends what runs, or lets go of it so that a later Roundhouse may adopt it."""
        for instance, life in list(self.lives.items()):
            if leave_engines and life.ready and life.handle is not None:
                life.leaving = True
                await life.handle.detach()
            else:
                self._tasks.spawn(self._stop(instance), "stop at the end")
        if not leave_engines:
            await self._tasks.wait(limit)
        await self._tasks.close()

    # --- one life ---

    async def _live(self, instance: InstanceId, life: Life) -> None:
        reason, expected = "ended for an unknown reason", False
        try:
            if life.handle is None:
                await self._launch(instance, life)
            if not life.ready:
                await self._load(instance, life)
            assert life.handle is not None
            ended = await life.handle.wait_exit()
            reason, expected = self._why(life, ended), ended.by_us or life.stopping
        except RouterError as error:
            reason, expected = error.message, life.stopping
            if not life.stopping:
                seconds = self._clock() - life.started
                self._journal.failed(life.runnable.config.id, life.runnable.settings, seconds, reason)
        except asyncio.CancelledError:
            expected = life.stopping
            if not life.stopping:
                raise
            reason = "stopped while it was being started"
        finally:
            await self._tidy(instance, life, reason, expected=expected)

    async def _tidy(self, instance: InstanceId, life: Life, reason: str, *, expected: bool) -> None:
        """Whatever happened: no process stays, connections are closed, and the planner hears of it once."""
        if life.leaving:
            return
        if life.endpoint is not None:
            self._upstream.abort(life.endpoint)
        try:
            if life.handle is not None:
                await life.handle.stop(STOP_GRACE)
                self.last_output[life.runnable.config.id] = life.handle.tail(LAST_LINES)
            await self.memory_back(instance)
        finally:
            self.lives.pop(instance, None)
            if life.ready:
                self._journal.exited(life.runnable.config.id, reason, expected=expected)
            self.post(Exited(instance, reason, expected=expected))

    async def _launch(self, instance: InstanceId, life: Life) -> None:
        runnable = life.runnable
        model = runnable.config
        facts = await runnable.facts()
        if runnable.remote is not None:
            life.endpoint = runnable.remote
            port = runnable.remote.port
            command = runnable.engine.command(model, facts, await runnable.build(), port)
        else:
            port = _port(model)
            command = runnable.engine.command(model, facts, await runnable.build(), port)
            life.endpoint = Endpoint("127.0.0.1", port)
        tag = Tag(model.id, runnable.settings, port, time.time())
        life.handle = await runnable.launcher.start(tag, command)
        life.moved = self._clock()
        self.post(Started(instance, life.handle.pid))

    async def _load(self, instance: InstanceId, life: Life) -> None:
        """Waits until the engine is ready. Raises LoadFailed when it ends, stands still or takes too long."""
        assert life.handle is not None
        loop = asyncio.get_running_loop()
        exited = loop.create_task(life.handle.wait_exit(), name="exit while loading")
        follow = loop.create_task(self._follow(instance, life), name="log while loading")
        watch = loop.create_task(self._watch(instance, life), name="movement while loading")
        try:
            await self._poll(life, exited, watch)
        finally:
            for task in (exited, follow, watch):
                task.cancel()
            await asyncio.wait((exited, follow, watch))
        if life.stopping:
            return
        life.served = await self._ask_facts(life)
        life.ready = True
        seconds = self._clock() - life.started
        self._journal.loaded(life.runnable.config.id, life.runnable.settings, seconds)
        self.post(BecameReady(instance, life.served.slots, seconds))

    async def _poll(self, life: Life, exited: asyncio.Task[Exit], watch: asyncio.Task[None]) -> None:
        engine, model = life.runnable.engine, life.runnable.config
        assert life.endpoint is not None
        path = engine.ready_path(model).encode()
        delay = FIRST_POLL
        while True:
            life.spoke.clear()
            with contextlib.suppress(RouterError):
                status, body = await self._upstream.get(life.endpoint, path, timeout=PROBE_TIMEOUT)
                if engine.is_ready(status, body) and not exited.done():
                    return
            await self._pause(life, exited, watch, delay)
            if exited.done():
                ended = exited.result()
                if life.stopping:
                    return
                raise LoadFailed(self._why(life, ended))
            if watch.done():
                watch.result()
            delay = min(SLOWEST_POLL, delay * 1.3)

    async def _pause(self, life: Life, exited: asyncio.Task[Exit], watch: asyncio.Task[None], delay: float) -> None:
        """Until the next probe: `delay`, or less if the engine says something, for that may be that it is ready."""
        await asyncio.wait((exited, watch), timeout=LEAST_POLL, return_when=asyncio.FIRST_COMPLETED)
        spoke = asyncio.get_running_loop().create_task(life.spoke.wait(), name="engine says something")
        try:
            await asyncio.wait((exited, watch, spoke), timeout=delay - LEAST_POLL, return_when=asyncio.FIRST_COMPLETED)
        finally:
            spoke.cancel()

    async def _follow(self, instance: InstanceId, life: Life) -> None:
        """Reads the engine's output: each line is movement, some tell how far the load is."""
        assert life.handle is not None
        async for line in life.handle.lines():
            life.moved = self._clock()
            life.spoke.set()
            progress = life.runnable.engine.progress(line)
            if progress is not None:
                self.post(Progressed(instance, progress))

    async def _watch(self, instance: InstanceId, life: Life) -> None:
        """Raises LoadFailed when the load stands still for `stalled` or lasts longer than `total`."""
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
                    if facts is not None and facts.weights:
                        self.post(Progressed(instance, _guess(current.resident / facts.weights)))
                before, before_at = current, now
            if now - life.moved >= limits.stalled:
                raise LoadFailed(f"it did not move for {limits.stalled:.0f} s while loading{self._last_words(life)}")
            if now - life.started >= limits.total:
                raise LoadFailed(
                    f"it was not ready after {limits.total:.0f} s (load_timeout.total){self._last_words(life)}"
                )

    async def _ask_facts(self, life: Life) -> Served:
        engine = life.runnable.engine
        assert life.endpoint is not None
        replies: dict[str, bytes] = {}
        for path in engine.facts_paths:
            with contextlib.suppress(RouterError):
                status, body = await self._upstream.get(life.endpoint, path.encode(), timeout=PROBE_TIMEOUT)
                if status == 200:
                    replies[path] = body
        return engine.served(replies)

    async def _stop(self, instance: InstanceId) -> None:
        life = self.lives.get(instance)
        if life is None:
            return
        life.stopping = True
        if life.endpoint is not None:
            # llama-server waits for the next ping of an open stream before it ends on SIGTERM: close ours first.
            self._upstream.abort(life.endpoint)
        if life.handle is not None:
            await life.handle.stop(STOP_GRACE)
        elif life.task is not None:
            life.task.cancel()

    def _why(self, life: Life, ended: Exit) -> str:
        if ended.by_us or life.handle is None:
            return "stopped"
        words = life.runnable.engine.failure(life.handle.tail(LAST_LINES))
        return words or _exit_words(ended)

    def _last_words(self, life: Life) -> str:
        lines = life.handle.tail(1) if life.handle is not None else []
        return f"; its last words: {lines[-1][:200]}" if lines and lines[-1].strip() else ""


async def _nothing(_instance: InstanceId) -> None:
    return None


def _guess(share: float) -> Progress:
    """How far a load is, by how much of the weights is in memory (spec C5); once all are, nothing can be said."""
    if share < 1.0:
        return Progress(share, "reading weights", guessed=True)
    return Progress(None, "warming up", guessed=True)


def _exit_words(ended: Exit) -> str:
    if ended.code is None:
        return "it ended"
    return f"it was killed by signal {-ended.code}" if ended.code < 0 else f"it ended with exit code {ended.code}"


def _port(model: ModelConfig) -> int:
    """The configured port if it is free, else any free one. Raises LoadFailed if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", model.port or 0))
        except OSError as error:
            raise LoadFailed(
                f"port {model.port} is taken by another program; end it or give the model another port (or none)"
            ) from error
        port: int = probe.getsockname()[1]
        return port
