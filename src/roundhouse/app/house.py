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
from roundhouse.api.auth import Keys
from roundhouse.api.dashboard import add_dashboard
from roundhouse.api.dispatch import Dispatch
from roundhouse.api.gateway import Gateway
from roundhouse.api.guard import Guard
from roundhouse.api.key_routes import add_keys
from roundhouse.api.passthrough import PassThrough
from roundhouse.api.reload import add_reload
from roundhouse.api.router import Router
from roundhouse.api.websocket import WebSocketPass
from roundhouse.app import output, specs
from roundhouse.app.adoption import Adoption
from roundhouse.app.apis import add_routes, other_apis, with_cors
from roundhouse.app.books import Books
from roundhouse.app.dashboard import Dashboard
from roundhouse.app.hold import hold_engines, hold_units, know_units
from roundhouse.app.keyring import open_keys
from roundhouse.app.lineup import Workshop
from roundhouse.app.listing import Listing
from roundhouse.app.reasons import Reasons
from roundhouse.app.reload import Reloader
from roundhouse.app.restart import is_restart
from roundhouse.app.shelving import open_shelf
from roundhouse.app.sockets import split
from roundhouse.app.swaps import Swaps
from roundhouse.app.wishes import Wishes
from roundhouse.core.catalog import Catalog
from roundhouse.core.model import Asked, ClosingTime, Fleet, Objected, Phase, Reloaded, Want
from roundhouse.errors import RouterError
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
    from collections.abc import AsyncIterator, Mapping

    from fastapi import Request
    from starlette.types import ASGIApp

    from roundhouse.api.auth import Caller
    from roundhouse.app.claims import Peaks as Past
    from roundhouse.app.hold import Held
    from roundhouse.app.launching import Staying
    from roundhouse.app.lineup import Lineup
    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.ports import Endpoint, Reading

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
        self._ending = asyncio.Event()
        self._retired: list[Staying] = []

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
        for staying in (*self._retired, *self.lineup.launchers.staying.values()):
            await staying.kept.close(staying.grace, leave=leave)
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
        self._lent = held
        self._store = await stack.enter_async_context(Store(config.state_dir / "roundhouse.db"))
        self.keyholder = await stack.enter_async_context(open_keys(config))
        self.keys = self.keyholder.keys
        self._responses = await stack.enter_async_context(Responses(config.state_dir / "responses.db"))
        self._shelf = await open_shelf(config, self._log)
        self.upstream = await stack.enter_async_context(Upstream())
        readers = await devices.detect()
        self._reader = devices.combine(readers)
        first = await self._reader.read({})
        self.tasks = Tasks(self._unexpected)
        stack.push_async_callback(self.tasks.close)
        self._workshop = Workshop(held, self._store, first, self._shelf.folder if self._shelf is not None else None)
        self.lineup = await self._workshop.line_up(config)
        self.captures: Captures | None = None
        if config.captures.store != "off":
            made = Captures(config.state_dir / "captures.db", config.captures, self._secrets.text, self.tasks.spawn)
            self.captures = await stack.enter_async_context(made)
        self._make_runtime(first, await self._store.peaks_all())
        self._journal = Journal(config.state_dir / "journal.db", self.supervisor.fleet, self.supervisor.now)
        self.supervisor.journal = (await stack.enter_async_context(self._journal)).note
        await self._adopt(held)
        await self._survey.read()
        self.tasks.spawn(self._survey.run(), "survey")
        self.tasks.spawn(self.reloader.watch(), "watch of the configuration file")
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
        kept = {staying.identity: staying.kept for staying in self.lineup.launchers.staying.values()}
        adoption = Adoption(self.effects, self.supervisor.fleet, self.upstream, self.books, kept)
        await adoption.adopt(held.engines)
        if held.systemd is not None:
            await adoption.recognise(await held.systemd.foreign_named(), held.systemd.claim)

    def _make_runtime(self, found: Reading, past: Past) -> None:
        config, runnables = self.config, self.lineup.runnables
        fleet = Fleet(self.lineup.specs, self.lineup.devices, specs.make_policy(config))
        self.bus = Bus()
        self.metrics = Metrics(config.models, self._snapshot)
        self.books = Books(self._store, self.metrics, self.bus, self._log, self.lineup.engines, fleet)
        clock = asyncio.get_running_loop().time
        self.effects = Effects(runnables, self.upstream, self.books, clock, self._unexpected)
        self.supervisor = Supervisor(fleet, self.effects, clock)
        self._sessions = Sessions(self._shelf, self.upstream, self.books, self._unexpected)
        self._stack.push_async_callback(self._sessions.close)
        self.effects.sessions = self._sessions
        self._stack.push_async_exit(self.supervisor)
        self.effects.post = self.supervisor.post
        peaks = Peaks(fleet, past)
        self._survey = Survey(self._reader, config.devices, fleet, self.effects.trees, self.supervisor.post, peaks)
        self.effects.memory_back = self._survey.settled
        self.effects.memory_told = self._survey.told
        self.effects.secret, self.effects.hide = self._secrets.add, self._secrets.text
        links = Links(config.state_dir / "links.json", found.gpus)
        self._swaps = Swaps(fleet, runnables, links, self._store, self.bus, self.metrics, self._log, self.tasks)
        self._stack.push_async_callback(self._swaps.close)
        self.effects.switches = self._swaps.switches
        self.books.answered = self._swaps.answered
        self._wishes = Wishes(self.supervisor, self.lineup.engines, self._objection)
        reasons = Reasons(fleet, self._store, clock)
        self.books.story = reasons.story
        self.supervisor.watchers.append(reasons.saw)
        self.supervisor.observers += [self.books.saw, self.books.measured, self._swaps.saw, self._wishes.saw]
        self.supervisor.observers.append(lambda _event, _actions, _now: self._sessions.look(fleet))
        self.catalog = Catalog(config.models)
        self._listing = Listing(self.catalog, self.lineup.about, fleet, self.is_loaded)
        hosts = {split(address)[0] for address in config.listen}
        self.guard = Guard(hosts, config.cors.origins)
        ended = self.keyholder.counting(self.books.request)
        self._gateway = gateway = Gateway(
            config,
            self.catalog,
            self._objection,
            Dispatch(runnables, self.supervisor, self.upstream, self.effects, self._sessions),
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
        self.reloader = Reloader(self, self._environ, self._secrets)
        add_reload(admin, self, self.reloader)
        self._dashboard = Dashboard(config, self.supervisor, self._store, self.lineup.about, self._secrets)
        add_dashboard(admin, self, self._dashboard)
        passed = PassThrough(
            self.catalog, self.keys, self.guard, self.keyholder.limits, self.supervisor, self.upstream, self.effects,
            self._sessions, self._objection, ended, self._unexpected, config.limits.body,
        )  # fmt: skip
        others = other_apis(self, gateway, self._responses, passed)
        self.app = with_cors(Router(gateway, admin, others, passed, WebSocketPass(passed)), config.cors.origins)

    # --- another configuration ---

    async def make_ready(self, config: Config) -> Lineup:
        """What another configuration needs, made aside: nothing changes by it. Raises ConfigError."""
        Keys(config.keys)  # or a hash that is none would be found half way
        await hold_units(self._lent, config, self._environ, self._stack)
        return await self._workshop.line_up(config, self.lineup)

    def take_over(self, lineup: Lineup) -> None:
        """Has another configuration hold from now on. Nothing is awaited in here, so nobody sees half of it."""
        former, config = self.config, lineup.config
        self._secrets.add(*(m.api_key.get_secret_value() for m in config.models.values() if m.api_key is not None))
        retired = self.lineup.become(lineup, set(self.supervisor.fleet.instances.values()))
        self.config = self._gateway.config = self._dashboard.config = config
        self.catalog.set(config.models)
        self.metrics.set_models(config.models)
        self.keyholder.configure(config.keys, config.models)
        self._survey.budgets = config.devices
        know_units(self._lent, config)
        self._retired = [staying for staying in self._retired if staying.kept.running] + retired
        for staying in retired:
            staying.kept.stays = False
        self.supervisor.post(Reloaded(tuple(lineup.specs), tuple(lineup.devices), specs.make_policy(config)))
        for staying in retired:
            self.tasks.spawn(staying.kept.retire(staying.grace), "end of a process that stayed")
        for model in config.models.values():
            known = former.models.get(model.id)
            if model.preload and (known is None or not known.preload):
                self.tasks.spawn(self._preload(model), f"preload of {model.id}")

    async def _objection(self, model: str) -> str | None:
        """Why a model can't be loaded, known without trying; that is shown as a failure of it."""
        if (problem := await self.lineup.problem(model)) is None:
            return None
        self.supervisor.post(Objected(model, problem))
        return f"Model '{model}' can't be loaded: {problem}"

    def _unexpected(self, where: str, error: BaseException) -> None:
        self._log.error("unexpected error", where=where, exc_info=error)

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
        held = self._survey.last.ours if self._survey.last is not None else {}
        found = state.health(
            fleet, self.lineup.engines, endpoints, version=roundhouse.__version__, uptime=uptime, now=now, held=held
        )
        if (last := self.reloader.last) is not None:
            found["configuration"] = last
            if last["error"] is not None:  # the next start would fail
                found["status"] = "degraded"
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
        runnable, looked = self.lineup.runnables[model], self.lineup.looked[model]
        reason = runnable.engine.conversations(runnable.config, looked.facts)
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
        return await self._wishes.load(self._named(name))

    async def unload(self, name: str) -> dict[str, Any]:
        """Unloads a model; returns when it is gone (or wanted again)."""
        return await self._wishes.unload(self._named(name))

    async def pin(self, name: str, *, pinned: bool) -> dict[str, Any]:
        """Has a model never unloaded to make room, or no longer so, until Roundhouse ends."""
        return self._wishes.pin(self._named(name), pinned=pinned)

    def _named(self, name: str) -> str:
        return self.catalog.find(name, self.is_loaded).model.id

    async def switches(self, model: str | None, limit: int) -> list[dict[str, Any]]:
        """The last switches, newest first."""
        return await self._store.recent_switches(limit, model)

    def log(self, name: str, *, follow: bool) -> AsyncIterator[str]:
        """A model's last lines, then, if wanted, those to come."""
        return output.lines(self.effects, self._named(name), self._ending, self._secrets, follow=follow)
