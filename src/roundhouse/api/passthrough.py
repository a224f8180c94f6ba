"""`/upstream/{model}/{path}`: an engine's own API and page, behind the same scheduler and keys (spec A7).

A request is passed as it is, but for what concerns this connection alone: the client's key stays here, the engine's
comes with it. It holds a place like any other request for as long as it lasts. Probes, and what a page needs to be
drawn, never start a load unless asked to.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from roundhouse.api import engine_paths as paths
from roundhouse.api.auth import BROWSER_MARKS
from roundhouse.api.client import declared_length
from roundhouse.api.dispatch import NOTICE_SECONDS, EngineEnded, ended
from roundhouse.api.identity import session_of, user_of
from roundhouse.api.record import Record
from roundhouse.api.reply import Outlet, send_error, send_part, send_whole
from roundhouse.api.routes import PATH
from roundhouse.api.upload import Upload
from roundhouse.core.memory import say
from roundhouse.core.model import Phase, Ticket
from roundhouse.engines.openai import passed
from roundhouse.errors import (
    BodyTooLarge,
    Forbidden,
    LoadFailed,
    NotLoaded,
    RouterError,
    ShuttingDown,
    Unforeseen,
    UpstreamError,
)
from roundhouse.runtime.upstream import Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from roundhouse.api.auth import Caller, Keys
    from roundhouse.api.guard import Guard
    from roundhouse.api.limits import Limits
    from roundhouse.api.reply import Headers
    from roundhouse.core.catalog import Catalog
    from roundhouse.core.model import Grant
    from roundhouse.ports import Endpoint
    from roundhouse.runtime.effects import Effects
    from roundhouse.runtime.sessions import Sessions
    from roundhouse.runtime.supervisor import Lease, Supervisor
    from roundhouse.runtime.upstream import Response, Upstream

_NAVIGATES = {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}
_STAYS_HERE = frozenset({b"authorization", b"x-api-key", b"cookie", b"origin", b"referer", b"x-roundhouse-autoload"})
"""Headers of a request that are for us: keys, and what engines' own checks of origins would take amiss."""
_DROPPED = frozenset(
    {
        *(b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"trailer", b"te", b"proxy-authenticate"),
        # Cookies would not come back, and who may read our answers is ours to say (`cors.origins`).
        *(b"set-cookie", b"location"),
    }
)
_CORS = b"access-control-"


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that may go to an engine.

    Attributes:
        target: path and query as the engine gets them.
        base: our own path that stands for the engine's root; '' where there is none.
    """

    record: Record
    caller: Caller
    ticket: Ticket
    method: str
    path: str
    target: bytes
    base: str


class PassThrough:
    """Serves these paths.

    Args:
        objection: why a model can't be loaded, known without trying; None if nothing speaks against it.
        keep_books: called once for every request, whatever came of it.
        unexpected: told of exceptions that nobody foresaw.
        limit: bytes of a request body.
    """

    def __init__(
        self,
        catalog: Catalog,
        keys: Keys,
        guard: Guard,
        limits: Limits,
        supervisor: Supervisor,
        upstream: Upstream,
        engines: Effects,
        sessions: Sessions,
        objection: Callable[[str], Awaitable[str | None]],
        keep_books: Callable[[Record], None],
        unexpected: Callable[[str, BaseException], None],
        limit: int,
    ) -> None:
        self.supervisor = supervisor
        self.engines = engines
        self._catalog = catalog
        self._keys = keys
        self._guard = guard
        self._limits = limits
        self._upstream = upstream
        self._sessions = sessions
        self._objection = objection
        self._keep_books = keep_books
        self._unexpected = unexpected
        self._limit = limit
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        upload = Upload(receive, self._limit)
        outlet = Outlet(send, upload.stop)
        async with self.recorded(scope) as record:
            try:
                await self._serve(scope, upload, outlet, record)
            except RouterError as error:
                await _fail(outlet, record, error)
            except asyncio.CancelledError:
                if not upload.gone:  # the time for running answers is over (spec E5)
                    await _fail(outlet, record, ShuttingDown("Roundhouse is shutting down; try again soon."))
                    raise
                asyncio.current_task().uncancel()  # type: ignore[union-attr]  # we run in a task
                record.status = 499
            except Exception as error:  # noqa: BLE001  # the last resort: no traceback reaches a client (spec A4)
                self._unexpected(record.id, error)
                await _fail(outlet, record, Unforeseen())
            finally:
                upload.stop()

    @asynccontextmanager
    async def recorded(self, scope: Scope) -> AsyncIterator[Record]:
        """A record for the books, which has the length of what was done meanwhile."""
        self._count += 1
        given = dict(scope["headers"]).get(b"x-request-id", b"")[:128].decode("latin-1")
        path = scope.get(PATH, scope["path"])
        record = Record(given or f"up-{self._count:x}", time.time(), path, self.supervisor.now())
        try:
            yield record
        finally:
            record.total_s = self.supervisor.now() - record.arrived
            self._keep_books(record)

    def admit(self, scope: Scope, record: Record) -> Passed:
        """All that can be refused without a model.

        Raises:
            RouterError: no key, no model of that name, not for this key, or a web page of somebody else behind it.
        """
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        method = scope.get("method", "CONNECT")  # as RFC 8441 has a WebSocket
        caller = self._keys.identify(headers, scope["query_string"])
        record.key, record.key_class = caller.name, caller.key_class
        self._limits.admit(record, "openai")
        raw, query = scope["raw_path"], scope["query_string"]
        prefixed = scope["path"].startswith(paths.PREFIX)
        place = paths.place_of(raw, self._catalog) if prefixed else paths.queried(raw, query)
        self._guard.relay("POST", _as_guarded(headers, method, place.path), caller)
        match = self._catalog.find(place.name, self.is_loaded)
        record.asked, record.model = match.asked, match.model.id
        caller.require_api("openai")
        caller.require_model(*match.names)
        if paths.is_operators(method, place.path) and not caller.admin:
            raise Forbidden(
                f"{place.path} changes an engine, or shows what others asked it: the key '{caller.name}' may not; it"
                " takes an admin key."
            )
        query = paths.without(query, b"autoload", *(() if prefixed else (b"model",)))
        base = raw[: len(raw) - len(place.raw)].decode("latin-1").removesuffix("/") if prefixed else ""
        return Passed(
            record,
            caller,
            self._ticket(scope, caller, record, caller.priority or match.model.priority),
            method,
            place.path,
            (place.raw or b"/") + (b"?" + query if query else b""),
            base,
        )

    def _ticket(self, scope: Scope, caller: Caller, record: Record, priority: int) -> Ticket:
        headers = dict(scope["headers"])
        peer = scope.get("client")
        ticket = Ticket(
            self.supervisor.next_ticket(),
            record.model,
            record.arrived,
            caller.name,
            priority,
            allowed=caller.allowed_models,
            user=user_of(headers) if caller.trusted or caller.anonymous else "",
            session=session_of(headers, {}, str(peer[0]) if peer else ""),
            request=record.id,
        )
        record.session, record.user, record.priority = ticket.session, ticket.user, ticket.priority
        return ticket

    def is_loaded(self, model: str) -> bool:
        """Whether it answers now."""
        state = self.supervisor.fleet.models.get(model)
        return state is not None and state.instance is not None and state.instance.phase is Phase.READY

    async def ready_or_loadable(self, scope: Scope, passed: Passed) -> None:
        """Returns if the request may wait for its model.

        Raises:
            NotLoaded: it only looks.
            LoadFailed: it is known that the model can't be loaded.
        """
        model = passed.record.model
        if self.is_loaded(model):
            return
        wants_load = paths.wants_load(dict(scope["headers"]), scope["query_string"])
        if paths.is_look(passed.method, passed.path) and not wants_load:
            raise NotLoaded(
                f"Model '{passed.record.asked}' is not loaded, and a look at it loads nothing; add ?autoload=1, or send"
                " it a request."
            )
        if (reason := await self._objection(model)) is not None:
            raise LoadFailed(reason, retry_after=1.0)

    async def leased(self, passed_: Passed, serve: Callable[[Lease], Awaitable[None]]) -> None:
        """Serves with a place; once more if the engine had ended before it got anything (spec A9)."""
        try:
            async with self.supervisor.lease(passed_.ticket) as lease:
                await serve(lease)
        except EngineEnded:
            async with self.supervisor.lease(replace(passed_.ticket, id=self.supervisor.next_ticket())) as lease:
                await serve(lease)

    async def has_ended(self, grant: Grant) -> bool:
        """Whether an engine that went silent is gone, so that the next one who comes has it loaded again."""
        return await self.engines.ends(grant.instance, NOTICE_SECONDS)

    def note_grant(self, record: Record, grant: Grant) -> None:
        """Writes down who serves a request, and what it waited for."""
        record.served_by = grant.model
        waited = max(0.0, self.supervisor.now() - record.arrived)
        instance = self.supervisor.fleet.instance(grant.instance)
        if instance is not None and instance.since > record.arrived:
            record.load_s = max(0.0, min(waited, instance.since - max(record.arrived, instance.started)))
        record.queue_s = max(0.0, waited - record.load_s)

    def place(self, grant: Grant, passed_: Passed) -> tuple[Endpoint, bytes]:
        """Where the granted engine has the path.

        Raises:
            EngineEnded: it was gone already.
        """
        endpoint = self.engines.endpoint(grant.instance)
        if endpoint is None:
            raise ended(grant)
        return passed(endpoint, passed_.target)

    @asynccontextmanager
    async def past_the_desk(self, grant: Grant, *, computed: bool) -> AsyncIterator[None]:
        """What happens meanwhile may use any slot of the engine, unknown to us."""
        if not computed:
            yield
            return
        await self._sessions.passing(grant.instance)
        try:
            yield
        finally:
            self._sessions.passed(grant.instance)

    async def _serve(self, scope: Scope, upload: Upload, outlet: Outlet, record: Record) -> None:
        passed_ = self.admit(scope, record)
        length = declared_length(scope)
        if length is not None and length > self._limit:
            raise BodyTooLarge(f"The request body has {say(length)}; the limit is {say(self._limit)} (limits.body).")
        if passed_.path == "" and passed_.method in {"GET", "HEAD"}:  # a page's relative links need the slash
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            record.status = 308
            await send_whole(outlet.send, 308, b"", [(b"location", scope["raw_path"] + b"/" + query)])
            return
        upload.start()
        await self.ready_or_loadable(scope, passed_)
        body = await upload.body()
        headers = [(name, value) for name, value in scope["headers"] if name not in _STAYS_HERE]

        async def serve(lease: Lease) -> None:
            await lease.wait()
            grant = lease.result()
            self.note_grant(record, grant)
            computed = paths.is_computed(passed_.method, passed_.path)
            async with self.past_the_desk(grant, computed=computed):
                await self._exchange(grant, passed_, headers, body, outlet)

        await self.leased(passed_, serve)

    async def _exchange(
        self, grant: Grant, passed_: Passed, headers: Headers, body: bytes | AsyncIterator[bytes], outlet: Outlet
    ) -> None:
        endpoint, target = self.place(grant, passed_)
        try:
            response = await self._upstream.send(endpoint, passed_.method.encode(), target, headers, body)
        except UpstreamError as error:
            if await self.has_ended(grant) and isinstance(error, Unreachable):
                raise ended(grant) from None
            raise
        if response.status >= 500:
            self.engines.doubt(grant.instance)
        try:
            await _relay(response, outlet, passed_, endpoint)
        except UpstreamError:
            await self.has_ended(grant)
            raise
        finally:
            response.cancel()


async def _relay(response: Response, outlet: Outlet, passed_: Passed, endpoint: Endpoint) -> None:
    record = passed_.record
    record.status = response.status
    headers = [(n, v) for n, v in response.headers if n not in _DROPPED and not n.startswith(_CORS)]
    if (location := response.header(b"location")) is not None:
        headers.append((b"location", _here(location, passed_, endpoint)))
    headers += [
        (b"x-request-id", record.id.encode("latin-1")),
        *record.headers,
        (b"x-roundhouse-model", record.served_by.encode()),
    ]
    if b"event-stream" in (response.header(b"content-type") or b""):
        headers.append((b"x-accel-buffering", b"no"))
    await outlet.send({"type": "http.response.start", "status": response.status, "headers": headers})
    while data := await response.read():
        await send_part(outlet.send, data)
    await outlet.send({"type": "http.response.body", "body": b"", "more_body": False})
    await response.aclose()


def _here(location: bytes, passed_: Passed, endpoint: Endpoint) -> bytes:
    """An engine's redirection to itself, as the client can follow it; any other as it is."""
    text = location.decode("latin-1")
    parts = urlsplit(text)
    own = parts.hostname == endpoint.host and parts.port == endpoint.port
    if not passed_.base or not (own or (not parts.netloc and text.startswith("/"))):
        return location
    path = (parts.path or "/").removeprefix(endpoint.base)
    query = f"?{parts.query}" if parts.query else ""
    return f"{passed_.base}{path}{query}".encode("latin-1")


async def _fail(outlet: Outlet, record: Record, error: RouterError) -> None:
    """Nothing can be told in the middle of somebody else's format: without its end, the connection is cut."""
    record.status, record.error = error.status, error.message
    if not outlet.started:
        await send_error(outlet.send, error, [(b"x-request-id", record.id.encode("latin-1")), *record.headers])


def _as_guarded(headers: Sequence[tuple[bytes, bytes]], method: str, path: str) -> Sequence[tuple[bytes, bytes]]:
    """A link on another site may lead to a page, which is read by the one who follows it, and by nobody else."""
    marks = {name: value for name, value in headers if name in BROWSER_MARKS}
    if method == "GET" and paths.is_look(method, path) and all(marks.get(n) == v for n, v in _NAVIGATES.items()):
        return [(name, value) for name, value in headers if name != b"sec-fetch-site"]
    return headers
