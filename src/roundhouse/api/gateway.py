"""One request: who asks, for which model; a place; the engine's answer on its way to the client; the books.

The only place where a request, a lease and an upstream stream meet. Knows nothing of how a model gets loaded.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from roundhouse.api.client import Client, declared_length
from roundhouse.api.record import Record
from roundhouse.api.reply import send_error, send_last
from roundhouse.api.streaming import Stream
from roundhouse.api.whole import answer_whole
from roundhouse.api.work import Work
from roundhouse.core.memory import say
from roundhouse.core.model import Phase, Ticket
from roundhouse.dialects import openai
from roundhouse.dialects.failures import error_event
from roundhouse.dialects.sse import DONE
from roundhouse.errors import BodyTooLarge, RouterError, Unsupported, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import Message, Receive, Scope, Send

    from roundhouse.api.auth import Caller, Keys
    from roundhouse.api.guard import Guard
    from roundhouse.api.routes import Route
    from roundhouse.config.models import Config
    from roundhouse.core.catalog import Catalog, Match
    from roundhouse.core.model import Grant, InstanceId
    from roundhouse.ports import Endpoint
    from roundhouse.runtime.effects import Runnable
    from roundhouse.runtime.supervisor import Supervisor
    from roundhouse.runtime.upstream import Upstream


class Gateway:
    """Serves the relay routes.

    Args:
        guard: raises Forbidden for cross-site requests (spec F3).
        endpoint_of: where an instance answers.
        keep_books: called once for every request that was read, whatever came of it.
        unexpected: told of exceptions that nobody foresaw; the client gets a plain 500.
    """

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        models: Mapping[str, Runnable],
        supervisor: Supervisor,
        upstream: Upstream,
        keys: Keys,
        endpoint_of: Callable[[InstanceId], Endpoint | None],
        guard: Guard,
        keep_books: Callable[[Record], None],
        unexpected: Callable[[str, BaseException], None],
    ) -> None:
        self.config = config
        self.catalog = catalog
        self.models = models
        self.supervisor = supervisor
        self.upstream = upstream
        self._keys = keys
        self._endpoint_of = endpoint_of
        self._guard = guard
        self._keep_books = keep_books
        self._unexpected = unexpected

    async def __call__(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        """Serves one request of a relay route."""
        now = self.supervisor.now()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")[:128].decode("latin-1")
        record = Record(given or f"req-{secrets.token_hex(8)}", time.time(), scope["path"], now)
        client = Client(receive)
        progress = _Progress(send)
        try:
            work = await self._read(scope, headers, client, route, record)
            client.watch()
            await self._serve(work, progress)
        except RouterError as error:
            await self._fail(progress, record, error)
        except asyncio.CancelledError:
            if not client.gone:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # we run in a task
            record.status = record.status or 499
        except Exception as error:  # the last resort: no traceback reaches a client (spec A4)
            self._unexpected(record.id, error)
            await self._fail(progress, record, RouterError("Roundhouse made a mistake; its log has the details."))
        finally:
            client.unwatch()
            record.total_s = self.supervisor.now() - record.arrived
            if client.gone:
                record.status = 499
            self._keep_books(record)

    def endpoint_of(self, grant: Grant) -> Endpoint:
        """Where the granted instance answers.

        Raises:
            UpstreamError: it ended in this very moment.
        """
        endpoint = self._endpoint_of(grant.instance)
        if endpoint is None:
            raise UpstreamError(f"The engine of '{grant.model}' has just ended; try again.", retry_after=1.0)
        return endpoint

    async def _read(
        self, scope: Scope, headers: dict[bytes, bytes], client: Client, route: Route, record: Record
    ) -> Work:
        """Everything that can be refused without a model."""
        caller = self._keys.identify(scope["headers"])
        record.key = caller.name
        self._guard(scope["method"], scope["headers"])
        limit = self.config.limits.body
        length = declared_length(scope)
        if length is not None and length > limit:
            raise BodyTooLarge(f"The request body has {say(length)}; the limit is {say(limit)} (limits.body).")
        raw = await client.body(limit)
        request = openai.peek(raw, route.operation)
        record.asked = request.model
        record.stream = request.stream
        match = self.catalog.find(request.model, self._is_loaded)
        caller.require_api("openai")
        caller.require_model(match.asked, match.model.id)
        record.model = match.model.id
        ticket = self._ticket(match, caller, headers, request, record)
        record.task = ticket.task
        return Work(route, request, match, caller, ticket, headers, record, self.config)

    def _is_loaded(self, model: str) -> bool:
        state = self.supervisor.fleet.models.get(model)
        return state is not None and state.instance is not None and state.instance.phase is Phase.READY

    def _ticket(
        self, match: Match, caller: Caller, headers: dict[bytes, bytes], request: openai.ChatRequest, record: Record
    ) -> Ticket:
        marked = headers.get(b"x-roundhouse-task") or headers.get(b"x-openwebui-task")
        priority = caller.priority or match.model.priority
        if caller.admin or caller.trusted:
            asked = headers.get(b"x-roundhouse-priority", b"")
            priority = int(asked) if asked.lstrip(b"-").isdigit() else priority
        return Ticket(
            self.supervisor.next_ticket(),
            match.model.id,
            record.arrived,
            caller.name,
            priority,
            task=bool(marked) or request.task,
            allowed=caller.allowed_models,
        )

    async def _serve(self, work: Work, progress: _Progress) -> None:
        runnable = self.models[work.match.model.id]
        if not work.route.fits(runnable, self.supervisor.fleet.models[work.match.model.id].spec.kind):
            raise Unsupported(f"Model '{work.match.asked}' can't do {work.route.operation}; {work.route.needs}.")
        async with self.supervisor.lease(work.ticket) as lease:
            if work.request.stream:
                stream = Stream(self, work, lease, progress)
                await stream.run()
            else:
                await answer_whole(self, work, lease, progress)

    async def _fail(self, progress: _Progress, record: Record, error: RouterError) -> None:
        """An error in the way in which it can still be told."""
        record.error = error.message
        record.status = error.status
        if not progress.started:
            await send_error(progress.send, error, [(b"x-request-id", record.id.encode("latin-1"))])
        elif not progress.ended:
            await send_last(progress.send, error_event(error) + DONE)


class _Progress:
    """An ASGI `send` that remembers what was sent."""

    __slots__ = ("_send", "ended", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.ended = False

    async def send(self, message: Message) -> None:
        """Sends on."""
        if message["type"] == "http.response.start":
            self.started = True
        elif not message.get("more_body"):
            self.ended = True
        await self._send(message)
