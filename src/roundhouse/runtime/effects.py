"""Carries out Start and Stop. Its one promise: every Start is answered, in the end, by exactly one Exited.

One task lives as long as one engine instance: launch, wait until ready, watch, tidy up. Knows engines and launchers
only by their Protocols. What an engine says and how long it took is told to the `Journal` (history, log) beside the
events.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from roundhouse.core.model import BecameReady, Exited, Found, Prefetch, Progressed, Start, Started, Stop
from roundhouse.errors import LoadFailed, RouterError
from roundhouse.ports import Endpoint, Exit, Tag
from roundhouse.runtime import farewell, groundwork, listening, shortage
from roundhouse.runtime.ahead import Ahead
from roundhouse.runtime.life import Life
from roundhouse.runtime.loading import LAST_LINES, PROBE_TIMEOUT, Loading, replies, why_ended
from roundhouse.runtime.talk import carry_out
from roundhouse.runtime.tasks import Tasks

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

    from roundhouse.core.model import Claim, Event, InstanceId
    from roundhouse.core.switching import Switches
    from roundhouse.ports import Handle, Served
    from roundhouse.runtime.life import Runnable
    from roundhouse.runtime.pagecache import Report
    from roundhouse.runtime.sessions import Sessions
    from roundhouse.runtime.upstream import Upstream

DYING_GRACE = 1.0
"""Seconds for an engine that has given itself up."""
LOAD_LINES = 2000
"""Lines of output, all of a load's, in which an engine's figures are looked for."""
UNLOAD_LIMIT = 60.0
"""Seconds that bringing a model out of a process may take; then the process is ended."""


class Journal(Protocol):
    """Whoever wants to know more of an engine's life than the planner does."""

    def loaded(self, model: str, settings: str, seconds: float) -> None:
        """A load ended well."""

    def failed(self, model: str, settings: str, seconds: float, reason: str) -> None:
        """A load failed."""

    def exited(self, model: str, reason: str, *, expected: bool) -> None:
        """An engine that was ready is no more."""

    def stuck(self, model: str, reason: str) -> None:
        """A model did not come or go the way it should, for that reason."""

    def read_ahead(self, model: str, report: Report) -> None:
        """Reading a model's weights into the page cache has ended."""


class MemoryBack(Protocol):
    """Waits until the memory of an instance that has gone is back; False if it does not come (spec D2)."""

    async def __call__(self, instance: InstanceId, *, process_stays: bool = False) -> bool:
        """Waits."""
        ...


class Effects:
    """The doer behind the supervisor. `post` takes events, `memory_back` waits for what an engine held (D2)."""

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
        self.memory_back: MemoryBack = _at_once
        self.memory_told: Callable[[InstanceId, int], None] = lambda _instance, _size: None
        self.ahead = Ahead(models, journal.read_ahead, self._loading)
        self.secret: Callable[[str | None], None] = lambda _key: None
        self.hide: Callable[[str], str] = lambda text: text
        self.sessions: Sessions | None = None
        self.switches: Switches | None = None
        self._upstream = upstream
        self._journal = journal
        self._clock = clock
        self._tasks = Tasks(report)
        self._closing = False

    def do(self, action: Start | Stop | Prefetch) -> None:
        """Begins an action."""
        if isinstance(action, Prefetch):
            self.ahead.begin(action)
        elif isinstance(action, Start):
            self.ahead.starts(action.model)
            life = Life(self.models[action.model], self._clock(), action.claim)
            self.lives[action.instance] = life
            life.task = self._tasks.spawn(self._live(action.instance, life), f"engine of {action.model}")
        else:
            self._tasks.spawn(self._stop(action.instance), f"stop of {action.model}")

    def adopt(
        self,
        instance: InstanceId,
        model: str,
        handle: Handle,
        endpoint: Endpoint,
        served: Served | None,
        claim: Claim | None = None,
    ) -> None:
        """Takes over an engine that runs already; `served` is None while it still loads, `claim` where not known."""
        life = Life(
            self.models[model], self._clock(), claim or {}, handle=handle, endpoint=endpoint, ready=served is not None
        )
        life.served, life.moved = served, self._clock()
        self.lives[instance] = life
        slots = served.slots if served else None
        if self.sessions is not None:
            self.sessions.opened(instance, life, fresh=False)
        self.post(Found(instance, model, handle.pid, slots, ready=life.ready, claim=claim))
        life.task = self._tasks.spawn(self._live(instance, life), f"adopted engine of {model}")

    def served_name(self, instance: InstanceId) -> str:
        """What the engine of a live instance calls its model (spec A5): as configured, else as it says, else the id."""
        life = self.lives[instance]
        told = life.served.name if life.served is not None else None
        return life.runnable.config.served_name or told or life.runnable.config.id

    def endpoint(self, instance: InstanceId) -> Endpoint | None:
        """Where an instance answers."""
        life = self.lives.get(instance)
        return life.endpoint if life is not None else None

    def doubt(self, instance: InstanceId) -> None:
        """Looks whether a process that stays still has the model in it: others can bring it out by its own API."""
        life = self.lives.get(instance)
        if life is not None and life.ready and not life.stopping and life.runnable.loads is not None:
            self._tasks.spawn(self._look(life), f"look after {life.runnable.config.id}")

    async def _look(self, life: Life) -> None:
        assert life.endpoint is not None
        runnable = life.runnable
        path = runnable.engine.facts_paths[0]
        try:
            status, body = await self._upstream.get(life.endpoint, path.encode(), timeout=PROBE_TIMEOUT)
        except RouterError:
            return  # silence is no news: a long prompt keeps TabbyAPI from answering, and running answers are not cut
        told = {path: body} if status == 200 else {}
        if not runnable.engine.serves(runnable.config, told) and life.handle is not None and not life.stopping:
            self._journal.stuck(runnable.config.id, "it was brought out of its process by somebody else")
            await life.handle.detach()

    async def ends(self, instance: InstanceId, seconds: float) -> bool:
        """Whether an instance is gone, or will be within so many seconds."""
        life = self.lives.get(instance)
        if life is not None and life.task is not None:
            await asyncio.wait({life.task}, timeout=seconds)
        return instance not in self.lives

    def _loading(self) -> bool:
        return any(not life.ready and not life.stopping for life in self.lives.values())

    def trees(self) -> dict[InstanceId, int]:
        """Root process of each instance that has one here."""
        found = {key: life.handle.pid for key, life in self.lives.items() if life.handle is not None}
        return {key: pid for key, pid in found.items() if pid is not None}

    async def close(self, *, leave_engines: bool, limit: float) -> None:
        """Ends what runs, or lets go of it so that a later Roundhouse may adopt it."""
        self._closing = True
        await self.ahead.close()
        for instance, life in list(self.lives.items()):
            if leave_engines and life.handle is not None and not life.stopping:
                await self._leave(life)
            else:
                self._tasks.spawn(self._stop(instance), "stop at the end")
        if not leave_engines:
            await self._tasks.wait(limit)
        await self._tasks.close()

    async def _leave(self, life: Life) -> None:
        """One that still loads goes on loading, and is taken over as such."""
        life.leaving = True
        if life.task is not None and not life.ready:
            life.task.cancel()
            await asyncio.wait((life.task,))
        assert life.handle is not None
        await life.handle.detach()

    # --- one life ---

    async def _live(self, instance: InstanceId, life: Life) -> None:
        reason, expected = "ended for an unknown reason", False
        try:  # around every await: an unload may follow at once, and an instance whose end nobody tells is never gone
            life.kills = await asyncio.to_thread(shortage.kills)
            if life.handle is None:
                await self._launch(instance, life)
            if not life.ready:
                await self._load(instance, life)
            assert life.handle is not None
            ended = life.ended = await self._end_of(life)
            reason, expected = self.hide(why_ended(life, ended)), ended.by_us or life.stopping
        except RouterError as error:
            reason, expected = self.hide(error.message), life.stopping
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

    async def _end_of(self, life: Life) -> Exit:
        """Waits for an engine's exit, or for the words by which it gives itself up: those may come a minute before."""
        assert life.handle is not None
        if life.runnable.engine.dying is None:
            return await life.handle.wait_exit()
        loop = asyncio.get_running_loop()
        exited = loop.create_task(life.handle.wait_exit(), name="exit")
        dying = loop.create_task(_hear(life.handle, life.runnable.engine.dying), name="last words")
        try:
            await asyncio.wait((exited, dying), return_when=asyncio.FIRST_COMPLETED)
            if exited.done() or life.stopping:
                return await exited
            assert life.endpoint is not None
            self._upstream.abort(life.endpoint)
            ended = await life.handle.stop(DYING_GRACE)
            return Exit(ended.code)
        finally:
            exited.cancel()
            dying.cancel()

    async def _tidy(self, instance: InstanceId, life: Life, reason: str, *, expected: bool) -> None:
        """Whatever happened: no process stays, connections are closed, and the planner hears of it once."""
        if life.leaving:
            return
        if life.endpoint is not None:
            self._upstream.abort(life.endpoint)
        short = not expected and shortage.caused(life, reason)
        try:
            if life.handle is not None:
                await self._end(life)
                self.last_output[life.runnable.config.id] = life.handle.tail(LAST_LINES)
            if self.switches is not None:
                self.switches.gone(instance, self._clock())
            if not life.settled:
                await self.memory_back(instance)
        finally:
            self.lives.pop(instance, None)
            if self.sessions is not None:
                self.sessions.closed(instance)
            if life.ready:
                self._journal.exited(life.runnable.config.id, reason, expected=expected)
            self.post(Exited(instance, reason, expected=expected, short=short))

    async def _launch(self, instance: InstanceId, life: Life) -> None:
        runnable = life.runnable
        port = runnable.remote.port if runnable.remote is not None else runnable.port or listening.free_port()
        command = await runnable.command(port, life.place)
        if command.argv or command.unit is not None:
            await runnable.launcher.clear(command)
            if not runnable.launcher.running:
                await asyncio.to_thread(listening.check_free, port)
                await asyncio.to_thread(groundwork.edit, command.edits)
        life.endpoint = await self.endpoint_for(runnable, port, make_key=command.unit is None)
        tag = Tag(runnable.config.id, runnable.identity, port, time.time(), life.claim)
        life.handle = await runnable.launcher.start(tag, command)
        life.moved = self._clock()
        self.post(Started(instance, life.handle.pid))

    async def endpoint_for(self, runnable: Runnable, port: int, *, make_key: bool = False) -> Endpoint:
        """Where a model's engine answers on `port`, with the key it wants. Raises LoadFailed if that can't be had."""
        if runnable.remote is not None:
            return runnable.remote
        secret = runnable.config.api_key
        key = secret.get_secret_value() if secret is not None else None
        if key is None and runnable.keys is not None:
            key = await asyncio.to_thread(groundwork.key_of, runnable.keys, make=make_key)
            self.secret(key)
        headers = ((b"authorization", b"Bearer " + key.encode()),) if key else ()
        return Endpoint("127.0.0.1", port, headers=headers)

    async def _load(self, instance: InstanceId, life: Life) -> None:
        """Waits until the model is ready. Raises LoadFailed when the engine ends, stands still or takes too long."""
        assert life.endpoint is not None
        port, runnable, engine = life.endpoint.port, life.runnable, life.runnable.engine
        await Loading(
            life,
            self._upstream,
            self._clock,
            lambda told: self.post(Progressed(instance, told)),
            lambda: self.endpoint_for(runnable, port),
        ).run()
        if life.stopping:
            return
        told = await replies(engine, self._upstream, life.endpoint, PROBE_TIMEOUT)
        if runnable.loads is None and not engine.serves(runnable.config, told):
            raise LoadFailed(f"what answers on port {port} serves another model; end it, or give this one another port")
        life.served = engine.served(told)
        life.ready = True
        seconds = self._clock() - life.started
        self._journal.loaded(runnable.config.id, runnable.settings, seconds)
        if self.sessions is not None:
            self.sessions.opened(instance, life, fresh=True)
        self.post(BecameReady(instance, life.served.slots, seconds))
        assert life.handle is not None
        memory = life.served.memory or engine.held(life.handle.tail(LOAD_LINES))
        if memory is not None:
            self.memory_told(instance, memory)

    async def _stop(self, instance: InstanceId) -> None:
        life = self.lives.get(instance)
        if life is None:
            return
        life.stopping = True
        if life.endpoint is not None:
            # llama-server waits for the next ping of an open stream before it ends on SIGTERM: close ours first.
            self._upstream.abort(life.endpoint)
            if self.sessions is not None and life.ready:
                await self.sessions.keep(instance)
                self._upstream.abort(life.endpoint)
        if self.switches is not None:
            self.switches.saved(instance, self._clock())
        if await self._brought_out(instance, life):
            return
        if life.handle is not None:
            await self._end(life)
        elif life.task is not None:
            life.task.cancel()

    async def _end(self, life: Life) -> None:
        """Ends an engine's processes: by its `stop_command` first, once, then by signals."""
        assert life.handle is not None
        runnable, grace = life.runnable, life.runnable.engine.stop_grace
        if not life.dismissed and life.endpoint is not None and (words := runnable.stop(life.endpoint.port)):
            life.dismissed = True
            try:
                await farewell.run(words, runnable.config.env, grace)
            except LoadFailed as error:
                self._journal.stuck(runnable.config.id, error.message)
        await life.handle.stop(grace)

    async def _brought_out(self, instance: InstanceId, life: Life) -> bool:
        """Brings a model out of a process that stays. A load under way has no other end than the process's."""
        runnable = life.runnable
        if self._closing or runnable.loads is None or not runnable.launcher.stays:
            return False
        if not life.ready or life.handle is None or life.endpoint is None:
            return False
        try:
            async with asyncio.timeout(UNLOAD_LIMIT):
                talk = runnable.loads.unload(runnable.config)
                await carry_out(talk, self._upstream, life.endpoint, lambda _progress: None)
        except (LoadFailed, TimeoutError) as error:
            self._journal.stuck(runnable.config.id, str(error) or f"not done within {UNLOAD_LIMIT:.0f} s")
            return False
        if not await self.memory_back(instance, process_stays=True):
            self._journal.stuck(runnable.config.id, "its memory did not come back when it was unloaded")
            return False
        life.settled = life.dismissed = True
        await life.handle.detach()
        return True


async def _hear(handle: Handle, words: re.Pattern[str]) -> None:
    """Returns when the engine has said so."""
    async for line in handle.lines():
        if words.search(line):
            return
    await asyncio.Event().wait()  # it ended without: its exit tells


async def _at_once(instance: InstanceId, *, process_stays: bool = False) -> bool:
    return True
