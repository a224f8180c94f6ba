"""One request: who asks, for which model; a place; the engine's answer on its way to the client; the books.

The only place where a request, a lease and an upstream stream meet. Knows nothing of how a model gets loaded.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from roundhouse.api.client import Client, declared_length
from roundhouse.api.dispatch import EngineEnded
from roundhouse.api.engine_paths import parameter
from roundhouse.api.identity import session_of, user_of
from roundhouse.api.record import Record
from roundhouse.api.reply import Outlet, send_error, send_last
from roundhouse.api.routes import API, PATH
from roundhouse.api.streaming import Stream
from roundhouse.api.whole import answer_whole
from roundhouse.api.work import Work
from roundhouse.core.memory import say
from roundhouse.core.model import Phase, Ticket
from roundhouse.core.reload import removed_error
from roundhouse.dialects import chores, openai
from roundhouse.dialects.failures import error_event
from roundhouse.dialects.sse import DONE
from roundhouse.errors import BodyTooLarge, LoadFailed, RouterError, ShuttingDown, Unforeseen, Unsupported
from roundhouse.observe.captures import About

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from roundhouse.api.auth import Caller, Keys
    from roundhouse.api.dispatch import Dispatch
    from roundhouse.api.guard import Guard
    from roundhouse.api.limits import Limits
    from roundhouse.api.routes import Route
    from roundhouse.config.models import Config
    from roundhouse.core.catalog import Catalog, Match
    from roundhouse.observe.captures import Captures

_PRIORITY = re.compile(rb"-?[0-9]{1,9}")


class Gateway:
    """Serves the relay routes.

    Args:
        objection: why a model can't be loaded, known without trying; None if nothing speaks against it.
        dispatch: how granted requests get to their engines.
        keep_books: called once for every request that was read, whatever came of it.
        unexpected: told of exceptions that nobody foresaw; the client gets a plain 500.
    """

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        objection: Callable[[str], Awaitable[str | None]],
        dispatch: Dispatch,
        keys: Keys,
        guard: Guard,
        limits: Limits,
        keep_books: Callable[[Record], None],
        unexpected: Callable[[str, BaseException], None],
    ) -> None:
        self.config = config
        self._catalog = catalog
        self._objection = objection
        self._dispatch = dispatch
        self._supervisor = dispatch.supervisor
        self._keys = keys
        self._guard = guard
        self._limits = limits
        self._keep_books = keep_books
        self.unexpected = unexpected
        self.captures: Captures | None = None  # copies of bodies, where they are wanted
        # Ids differ between runs by the first part, within one by the second: no system call for each.
        self._run = secrets.token_hex(4)
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        """Serves one request of a relay route."""
        now = self._supervisor.now()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")[:128].decode("latin-1")
        self._count += 1
        record = Record(given or f"req-{self._run}-{self._count:x}", time.time(), scope.get(PATH, scope["path"]), now)
        client = Client(receive)
        outlet = Outlet(send, client.unwatch)
        if self.captures is not None:
            outlet.copy = self.captures.copy()
        work: Work | None = None
        try:
            work = await self._read(scope, headers, client, route, record)
            client.watch()
            await self._serve(work, outlet)
        except RouterError as error:
            await self._fail(outlet, record, error)
        except asyncio.CancelledError:
            if not client.gone:  # the time for running answers is over (spec E5)
                await self._fail(outlet, record, ShuttingDown("Roundhouse is shutting down; try again soon."))
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # we run in a task
            record.status = record.status or 499
        except Exception as error:  # noqa: BLE001  # the last resort: no traceback reaches a client (spec A4)
            self.unexpected(record.id, error)
            await self._fail(outlet, record, Unforeseen())
        finally:
            client.unwatch()
            record.total_s = self._supervisor.now() - record.arrived
            if client.gone:
                record.status = 499
            self._keep_books(record)
            if self.captures is not None and work is not None and outlet.copy is not None:
                about = About(record.id, record.key, record.model, record.at, record.status)
                self.captures.keep(about, work.request.raw, outlet.copy)

    async def _read(
        self, scope: Scope, headers: dict[bytes, bytes], client: Client, route: Route, record: Record
    ) -> Work:
        """Everything that can be refused without a model."""
        caller = self._keys.identify(scope["headers"], scope["query_string"])
        record.key, record.key_class = caller.name, caller.key_class
        self._guard.relay(scope["method"], scope["headers"], caller)
        self._limits.admit(record, scope.get(API, "openai"))
        limit = self.config.limits.body
        length = declared_length(scope)
        if length is not None and length > limit:
            raise BodyTooLarge(f"The request body has {say(length)}; the limit is {say(limit)} (limits.body).")
        raw = await client.body(limit, self.config.limits.body_timeout)
        query = scope["query_string"]
        request = openai.peek(raw, route.operation, model=parameter(query, "model") if query else None)
        record.asked = request.model
        record.stream = request.stream
        match = self._catalog.find(request.model, self._is_loaded)
        caller.require_api(scope.get(API, "openai"))
        caller.require_model(*match.names)
        record.model = match.model.id
        record.task = _task(headers, request)
        ticket = self._ticket(match, caller, headers, request, record, _address(scope))
        record.session, record.user, record.priority = ticket.session, ticket.user, ticket.priority
        return Work(route, request, match, caller, ticket, headers, record, self.config)

    def _is_loaded(self, model: str) -> bool:
        state = self._supervisor.fleet.models.get(model)
        return state is not None and state.instance is not None and state.instance.phase is Phase.READY

    def _ticket(
        self,
        match: Match,
        caller: Caller,
        headers: dict[bytes, bytes],
        request: openai.ChatRequest,
        record: Record,
        peer: str,
    ) -> Ticket:
        priority = caller.priority or match.model.priority
        if caller.admin or caller.trusted:
            asked = _priority(headers.get(b"x-roundhouse-priority", b""))
            priority = priority if asked is None else asked
        return Ticket(
            self._supervisor.next_ticket(),
            match.model.id,
            record.arrived,
            caller.name,
            priority,
            task=bool(record.task),
            allowed=caller.allowed_models,
            user=user_of(headers) if caller.trusted or caller.anonymous else "",
            session=session_of(headers, request.fields, peer),
            request=record.id,
        )

    async def _serve(self, work: Work, outlet: Outlet) -> None:
        model = work.match.model.id
        if (reason := await self._objection(model)) is not None:
            raise LoadFailed(reason, retry_after=1.0)
        state, runnable = self._supervisor.fleet.models.get(model), self._dispatch.models.get(model)
        if state is None or runnable is None:
            raise removed_error(model)
        if not work.route.fits(runnable, state.spec.kind):
            raise Unsupported(f"Model '{work.match.asked}' can't do {work.route.operation}; {work.route.needs}.")
        try:
            await self._answer(work, outlet)
        except EngineEnded:  # before we knew; whoever comes next has it loaded again (spec A9)
            work.ticket = replace(work.ticket, id=self._supervisor.next_ticket())
            await self._answer(work, outlet)

    async def _answer(self, work: Work, outlet: Outlet) -> None:
        async with self._supervisor.lease(work.ticket) as lease:
            try:
                if work.request.stream:
                    await Stream(self._dispatch, work, lease, outlet).run()
                else:
                    await answer_whole(self._dispatch, work, lease, outlet)
            finally:
                self._dispatch.left(work, lease.grant)

    async def _fail(self, outlet: Outlet, record: Record, error: RouterError) -> None:
        """An error in the way in which it can still be told."""
        record.error = error.message
        record.status = error.status
        if not outlet.started:
            await send_error(outlet.send, error, [(b"x-request-id", record.id.encode("latin-1")), *record.headers])
        elif not outlet.ended:
            await send_last(outlet.send, error_event(error) + DONE)


def _task(headers: dict[bytes, bytes], request: openai.ChatRequest) -> str:
    """The name of the background task that a request is; '' if it is none (spec D7). Headers go before shapes."""
    said = chores.stated(headers)
    return request.task if said is None else said


def _priority(said: bytes) -> int | None:
    """The priority that a header asks for; None where it is no number that the store could hold."""
    return int(said) if _PRIORITY.fullmatch(said) else None


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
