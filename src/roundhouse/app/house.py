"""The running program: everything made from one configuration, alive between `__aenter__` and `__aexit__`.

In: history read, engines of an earlier run adopted. Out: engines stopped or left, as configured. What the admin API may
ask (`api.admin.House`) is answered here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import roundhouse
from roundhouse.api import state
from roundhouse.api.admin import make_admin
from roundhouse.api.dashboard import add_dashboard
from roundhouse.api.dispatch import Dispatch
from roundhouse.api.gateway import Gateway
from roundhouse.api.guard import Guard
from roundhouse.api.key_routes import add_keys
from roundhouse.api.passthrough import PassThrough
from roundhouse.api.router import Router
from roundhouse.api.websocket import WebSocketPass
from roundhouse.app import output, programs, specs
from roundhouse.app.adoption import Adoption
from roundhouse.app.apis import add_routes, other_apis, with_cors
from roundhouse.app.books import Books
from roundhouse.app.dashboard import Dashboard
from roundhouse.app.hold import hold_engines
from roundhouse.app.keyring import open_keys
from roundhouse.app.launching import Launchers
from roundhouse.app.listing import Listing
from roundhouse.app.places import Box
from roundhouse.app.reasons import Reasons
from roundhouse.app.restart import is_restart
from roundhouse.app.shelving import open_shelf
from roundhouse.app.sockets import split
from roundhouse.app.swaps import Swaps
from roundhouse.core.catalog import Catalog
from roundhouse.core.model import Asked, ClosingTime, Device, Fleet, Objected, Phase, Want, is_seat
from roundhouse.errors import LoadFailed, RouterError
from roundhouse.launchers.kept import Kept
from roundhouse.observe import log as logging
from roundhouse.observe.bus import Bus
from roundhouse.observe.captures import Captures
from roundhouse.observe.journal import Journal
from roundhouse.observe.metrics import Metrics, Snapshot
from roundhouse.observe.redact import Secrets
from roundhouse.observe.responses import Responses
from roundhouse.observe.store import Store
from roundhouse.runtime import devices
from roundhouse.runtime.effects import Effects
from roundhouse.runtime.links import Links
from roundhouse.runtime.peaks import Peaks
from roundhouse.runtime.sessions import Sessions
from roundhouse.runtime.supervisor import Supervisor
from roundhouse.runtime.survey import Survey
from roundhouse.runtime.tasks import Tasks
from roundhouse.runtime.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from fastapi import Request
    from starlette.types import ASGIApp

    from roundhouse.api.auth import Caller
    from roundhouse.app.hold import Held
    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.core.model import ModelState
    from roundhouse.ports import Build, Endpoint, Engine, Reading

STOP_LIMIT = 30.0
"""Seconds within which all engines must have ended at the end."""


class House:
    """One Roundhouse."""

    bus: Bus
    app: ASGIApp

    def __init__(
        self, config: Config, environ: Mapping[str, str], held: Held | None = None, secrets: Secrets | None = None
    ) -> None:
        """`held` is what was taken hold of already; without it that happens on entering.

        `secrets` are those of the log; keys of engines are added as they are read.
        """
        self._secrets = secrets or Secrets()
        self.config = config
        self._held = held
        self._environ = environ
        self._log = logging.get("roundhouse")
        self._stack = AsyncExitStack()
        self._started = time.monotonic()
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()

    # --- life ---

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.closing()
        leave = self.config.shutdown.engines == "leave" or await is_restart(self._environ)
        await self.effects.close(leave_engines=leave, limit=STOP_LIMIT)
        for kept, grace in self._kept.values():
            await kept.close(grace, leave=leave)
        if self._shelf is not None and not leave and self.config.sessions.store == "memory":
            await self._shelf.drop(*self._shelf.saved.values())  # nobody is left to whom that memory belongs
        await self._stack.aclose()

    async def closing(self) -> None:
        """The end has begun: those who wait are told, feeds end; running answers go on."""
        self.supervisor.post(ClosingTime())
        self.bus.close()
        self._ending.set()

    async def _build(self) -> None:
        config, stack = self.config, self._stack
        held = self._held
        if held is None:
            held = await stack.enter_async_context(hold_engines(config, self._environ))
        self._store = await stack.enter_async_context(Store(config.state_dir / "roundhouse.db"))
        self.keyholder = await stack.enter_async_context(open_keys(config))
        self.keys = self.keyholder.keys
        self._responses = await stack.enter_async_context(Responses(config.state_dir / "responses.db"))
        self._shelf = await open_shelf(config, self._log)
        self.upstream = await stack.enter_async_context(Upstream())
        readers = await devices.detect()
        self._reader = devices.combine(readers)
        first = await self._reader.read({})
        self._tasks = Tasks(self._unexpected)
        stack.push_async_callback(self._tasks.close)
        await self._make_models(held, Box({**first.total, **config.devices}, first.total, first.gpus))
        self.captures: Captures | None = None
        if config.captures.store != "off":
            made = Captures(config.state_dir / "captures.db", config.captures, self._secrets.text, self._tasks.spawn)
            self.captures = await stack.enter_async_context(made)
        self._make_runtime(first)
        self._journal = Journal(config.state_dir / "journal.db", self.supervisor.fleet, self.supervisor.now)
        self.supervisor.journal = (await stack.enter_async_context(self._journal)).note
        await self._adopt(held)
        await self._survey.read()
        self._tasks.spawn(self._survey.run(), "survey")
        for model in self.config.models.values():
            if model.preload:
                await self._preload(model)

    async def _preload(self, model: ModelConfig) -> None:
        if (reason := await self._objection(model.id)) is not None:
            self._log.error("model can't be preloaded", model=model.id, reason=reason)
        else:
            self.supervisor.post(Asked(model.id, Want.LOAD))

    async def _adopt(self, held: Held) -> None:
        """Goes on with what an earlier Roundhouse left, and with units of ours that others started."""
        kept = {r.identity: r.launcher for r in self._runnables.values() if isinstance(r.launcher, Kept)}
        adoption = Adoption(self.effects, self.supervisor.fleet, self.upstream, self.books, kept)
        await adoption.adopt(held.engines)
        if held.systemd is not None:
            await adoption.recognise(await held.systemd.foreign_named(), held.systemd.claim)

    async def _make_models(self, held: Held, box: Box) -> None:
        """Looks at every model's files and makes what planner and effects need to know."""
        config = self.config
        learned, self._peaks = await self._store.expected_all(), await self._store.peaks_all()
        engines = [m for m in config.models.values() if not m.any_of]
        self._looked = await asyncio.to_thread(lambda: {m.id: specs.look(m) for m in engines})
        self._about = {m.id: specs.about(m, self._looked[m.id]) for m in engines}
        self._specs = [specs.make_spec(m, self._looked[m.id], box, learned, self._peaks) for m in engines]
        launchers = Launchers(held)
        folder = self._shelf.folder if self._shelf is not None else None
        self._kept = launchers.kept
        self._runnables = {
            m.id: specs.make_runnable(m, self._looked[m.id], launchers.of(m), self._build_of, box, folder)
            for m in engines
        }
        self._engines = {m.id: m.engine for m in engines}

    def _make_runtime(self, found: Reading) -> None:
        config = self.config
        fleet = Fleet(self._specs, self._devices(found.total), specs.make_policy(config))
        self.bus = Bus()
        self.metrics = Metrics(config.models, self._snapshot)
        self.books = Books(self._store, self.metrics, self.bus, self._log, self._engines, fleet)
        clock = asyncio.get_running_loop().time
        self.effects = Effects(self._runnables, self.upstream, self.books, clock, self._unexpected)
        self.supervisor = Supervisor(fleet, self.effects, clock)
        self._sessions = Sessions(self._shelf, self.upstream, self.books, self._unexpected)
        self._stack.push_async_callback(self._sessions.close)
        self.effects.sessions = self._sessions
        self._stack.push_async_exit(self.supervisor)
        self.effects.post = self.supervisor.post
        peaks = Peaks(fleet, self._peaks)
        self._survey = Survey(self._reader, config.devices, fleet, self.effects.trees, self.supervisor.post, peaks)
        self.effects.memory_back = self._survey.settled
        self.effects.memory_told = self._survey.told
        self.effects.secret, self.effects.hide = self._secrets.add, self._secrets.text
        links = Links(config.state_dir / "links.json", found.gpus)
        self._swaps = Swaps(fleet, self._runnables, links, self._store, self.bus, self.metrics, self._log, self._tasks)
        self._stack.push_async_callback(self._swaps.close)
        self.effects.switches = self._swaps.switches
        self.books.answered = self._swaps.answered
        reasons = Reasons(fleet, self._store, clock)
        self.books.story = reasons.story
        self.supervisor.watchers.append(reasons.saw)
        self.supervisor.observers += [self.books.saw, self.books.measured, self._swaps.saw, self._wake]
        self.supervisor.observers.append(lambda _event, _actions, _now: self._sessions.look(fleet))
        self.catalog = Catalog(config.models)
        self._listing = Listing(config.models, self.catalog, self._about, fleet, self.is_loaded)
        hosts = {split(address)[0] for address in config.listen}
        self.guard = Guard(hosts, config.cors.origins)
        ended = self.keyholder.counting(self.books.request)
        gateway = Gateway(
            config,
            self.catalog,
            self._objection,
            Dispatch(self._runnables, self.supervisor, self.upstream, self.effects, self._sessions),
            self.keys,
            self.guard,
            self.keyholder.limits,
            ended,
            self._unexpected,
        )
        gateway.captures = self.captures
        admin = make_admin(self, roundhouse.__version__)
        add_keys(admin, self)
        add_routes(admin, self, self._responses, reasons)
        add_dashboard(admin, self, Dashboard(config, self.supervisor, self._store, self._about, self._secrets))
        passed = PassThrough(
            self.catalog, self.keys, self.guard, self.keyholder.limits, self.supervisor, self.upstream, self.effects,
            self._sessions, self._objection, ended, self._unexpected, config.limits.body,
        )  # fmt: skip
        others = other_apis(self, gateway, self._responses, passed)
        self.app = with_cors(Router(gateway, admin, others, passed, WebSocketPass(passed)), config.cors.origins)

    def _devices(self, found: Mapping[str, int]) -> list[Device]:
        """Physical devices, configured budgets, and a seat for each fixed port."""
        budgets = self.config.devices
        names = [*found, *(name for name in budgets if name not in found)]
        physical = [Device(name, budgets.get(name, found.get(name, 0)), found.get(name, 0)) for name in names]
        seats = {device for spec in self._specs for device in spec.claim if is_seat(device)}
        return [*physical, *(Device(seat, 1) for seat in sorted(seats))]

    async def _build_of(self, model: ModelConfig, engine: Engine) -> Build:
        return await programs.build_of(self.config, model, engine, self.config.state_dir / "engines.json")

    async def _objection(self, model: str) -> str | None:
        """Why a model can't be loaded, known without trying; looked at again, as it may have been mended."""
        if self._looked[model].problem is None:
            return None
        self._looked[model] = looked = await asyncio.to_thread(specs.look, self.config.models[model])
        if looked.problem is None:
            return None
        self.supervisor.post(Objected(model, looked.problem))
        return f"Model '{model}' can't be loaded: {looked.problem}"

    def _unexpected(self, where: str, error: BaseException) -> None:
        self._log.error("unexpected error", where=where, exc_info=error)

    def _wake(self, *_: object) -> None:
        """Wakes those who wait for a change of the picture."""
        if not self._changed.is_set():
            self._changed.set()

    # --- what the admin API asks ---

    def identify(self, request: Request) -> Caller:
        """Who asks."""
        return self.keys.identify(request.scope["headers"], request.scope["query_string"])

    def may_see_health(self, request: Request) -> bool:
        """All of it: without configured keys, with a key, or on this machine and not through a proxy (spec H)."""
        if not self.keys:
            return True
        peer = request.client.host if request.client else ""
        proxied = any(name in request.headers for name in ("x-forwarded-for", "forwarded", "x-real-ip"))
        if peer in {"127.0.0.1", "::1"} and not proxied:
            return True
        try:
            self.identify(request)
        except RouterError:
            return False
        return True

    def models(self, caller: Caller) -> list[dict[str, Any]]:
        """The models that this caller may use, in the order of the configuration, by the first name that it may use."""
        return self._listing.models(caller)

    def model(self, caller: Caller, name: str) -> dict[str, Any]:
        """One model, by id or alias."""
        return self._listing.model(caller, name)

    def is_loaded(self, model: str) -> bool:
        """Whether it answers."""
        found = self.supervisor.fleet.models.get(model)
        return found is not None and found.instance is not None and found.instance.phase is Phase.READY

    def health(self) -> dict[str, Any]:
        """The whole picture."""
        fleet = self.supervisor.fleet
        endpoints: dict[str, Endpoint] = {}
        for instance in fleet.live():
            endpoint = self.effects.endpoint(instance.id)
            if endpoint is not None:
                endpoints[instance.model] = endpoint
        now = self.supervisor.now()
        uptime = time.monotonic() - self._started
        found = state.health(fleet, self._engines, endpoints, version=roundhouse.__version__, uptime=uptime, now=now)
        for name, told in found["models"].items():
            if (conversations := self._conversations(name)) is not None:
                told["conversations"] = conversations
            if name in self._swaps.last:
                told["switch"] = self._swaps.last[name]
        return found

    def _conversations(self, model: str) -> dict[str, object] | None:
        """What is kept of a model's conversations, or why nothing is; None where there is nothing to say."""
        if self._shelf is None:
            return None
        reason = self._runnables[model].engine.conversations(self.config.models[model], self._looked[model].facts)
        return {"off": reason} if isinstance(reason, str) else self._sessions.told(model)

    def _snapshot(self) -> Snapshot:
        lost = {"history": self._store.dropped, "journal": self._journal.dropped}
        return Snapshot(self.supervisor.fleet, self._survey.last, lost)

    def metrics_text(self) -> bytes:
        """Prometheus text."""
        return self.metrics.render()

    def require_model(self, caller: Caller, name: str) -> None:
        """Raises UnknownModel or Forbidden unless there is such a model, and the caller may use it."""
        match = self.catalog.find(name, self.is_loaded)
        caller.require_model(*match.names)

    async def load(self, name: str) -> dict[str, Any]:
        """Loads a model; returns when it is ready."""
        model = self._named(name)
        if (reason := await self._objection(model)) is not None:
            raise LoadFailed(reason)
        self.supervisor.post(Asked(model, Want.LOAD))
        await self._until(lambda s: s.asked is None and (s.instance is None or s.instance.phase is Phase.READY), model)
        found = self.supervisor.fleet.models[model]
        if found.instance is None:
            reason = (
                found.failure.reason if found.failure else "it does not fit; GET /health shows who holds the memory"
            )
            raise LoadFailed(f"Model '{model}' could not be loaded: {reason}")
        return self._told(model)

    async def unload(self, name: str) -> dict[str, Any]:
        """Unloads a model; returns when it is gone (or wanted again)."""
        model = self._named(name)
        before = self.supervisor.fleet.models[model].instance
        self.supervisor.post(Asked(model, Want.UNLOAD))
        await self._until(lambda s: before is None or s.instance is None or s.instance.id != before.id, model)
        return self._told(model)

    async def pin(self, name: str, *, pinned: bool) -> dict[str, Any]:
        """Has a model never unloaded to make room, or no longer so, until Roundhouse ends."""
        model = self._named(name)
        self.supervisor.post(Asked(model, Want.PIN if pinned else Want.UNPIN))
        return self._told(model)

    def _told(self, model: str) -> dict[str, Any]:
        fleet = self.supervisor.fleet
        told = state.model_state(fleet, fleet.models[model], self.supervisor.now())
        return {"model": model, **told, "engine": self._engines[model]}

    async def _until(self, true: Callable[[ModelState], bool], model: str) -> None:
        while not true(self.supervisor.fleet.models[model]):
            self._changed.clear()
            await self._changed.wait()

    def _named(self, name: str) -> str:
        return self.catalog.find(name, self.is_loaded).model.id

    async def switches(self, model: str | None, limit: int) -> list[dict[str, Any]]:
        """The last switches, newest first."""
        return await self._store.recent_switches(limit, model)

    def log(self, name: str, *, follow: bool) -> AsyncIterator[str]:
        """A model's last lines, then, if wanted, those to come."""
        return output.lines(self.effects, self._named(name), self._ending, self._secrets, follow=follow)
