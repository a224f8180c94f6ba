"""`/upstream/{model}/{path}`: an engine's own API and page, behind the same scheduler and keys (spec A7).

A request is passed as it is, but for what concerns this connection alone: the client's key stays here, the engine's
comes with it. It holds a place like any other request for as long as it lasts. Probes, and what a page needs to be
drawn, never start a load unless asked to.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote

from roundhouse.api.client import Client, declared_length
from roundhouse.api.record import Record
from roundhouse.api.reply import Outlet, send_error, send_part, send_whole
from roundhouse.core.memory import say
from roundhouse.core.model import Phase, Ticket
from roundhouse.errors import BodyTooLarge, LoadFailed, RouterError, UnknownModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from roundhouse.api.auth import Caller, Keys
    from roundhouse.api.guard import Guard
    from roundhouse.core.catalog import Catalog, Match
    from roundhouse.core.model import Grant
    from roundhouse.runtime.effects import Effects
    from roundhouse.runtime.sessions import Sessions
    from roundhouse.runtime.supervisor import Supervisor
    from roundhouse.runtime.upstream import Response, Upstream

PREFIX = "/upstream/"
STILL = (".js", ".css", ".html", ".ico", ".png", ".svg", ".woff2", ".json", ".map", ".webmanifest")
"""Ends of paths that a page is drawn from."""
PROBES = frozenset(
    {"", "/", "/props", "/slots", "/health", "/metrics", "/v1/models", "/models", "/version", "/lora-adapters"}
)
"""Paths that ask how an engine is, or for its page."""
OPERATORS = (
    *("/slots", "/lora-adapters", "/props", "/models/", "/tools"),  # llama.cpp
    *("/v1/model/", "/v1/token/", "/v1/lora", "/v1/template"),  # TabbyAPI
    *("/sleep", "/wake_up", "/collective_rpc", "/reset_", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"),  # vLLM
    *(
        "/release_memory_occupation",
        "/resume_memory_occupation",
        "/update_weights",
        "/flush_cache",
        "/abort",
        "/shutdown",
    ),
    *("/start_profile", "/stop_profile", "/load_lora_adapter", "/unload_lora_adapter"),  # SGLang
)
"""Beginnings of paths by which an engine is changed, or other users' prompts are seen: not for ordinary keys."""
_STAYS_HERE = frozenset({b"authorization", b"x-api-key", b"cookie", b"host", b"content-length", b"origin", b"referer"})
_DROPPED = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"trailer", b"te"}
)


class PassThrough:
    """Serves these paths."""

    def __init__(
        self,
        catalog: Catalog,
        keys: Keys,
        guard: Guard,
        supervisor: Supervisor,
        upstream: Upstream,
        engines: Effects,
        sessions: Sessions,
        objection: Callable[[str], Awaitable[str | None]],
        keep_books: Callable[[Record], None],
        limit: int,
    ) -> None:
        self._catalog = catalog
        self._keys = keys
        self._guard = guard
        self._supervisor = supervisor
        self._upstream = upstream
        self._engines = engines
        self._sessions = sessions
        self._objection = objection
        self._keep_books = keep_books
        self._limit = limit
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        self._count += 1
        record = Record(f"up-{self._count:x}", time.time(), scope["path"], self._supervisor.now())
        client = Client(receive)
        outlet = Outlet(send, client.unwatch)
        try:
            await self._serve(scope, client, outlet, record)
        except RouterError as error:
            record.status, record.error = error.status, error.message
            if not outlet.started:
                await send_error(outlet.send, error, [(b"x-request-id", record.id.encode())])
            # Nothing can be told in the middle of somebody else's format: without its end, the connection is cut.
        except asyncio.CancelledError:
            if not client.gone:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # we run in a task
            record.status = 499
        finally:
            client.unwatch()
            record.total_s = self._supervisor.now() - record.arrived
            self._keep_books(record)

    async def _serve(self, scope: Scope, client: Client, outlet: Outlet, record: Record) -> None:
        caller = self._keys.identify(scope["headers"])
        record.key, record.key_class = caller.name, caller.key_class
        self._guard.relay(scope["method"], scope["headers"], caller)
        match, path = self._place(scope, caller)
        record.asked, record.model = match.asked, match.model.id
        if not _may(caller, scope["method"], path):
            caller.require_manage()
        length = declared_length(scope)
        if length is not None and length > self._limit:
            raise BodyTooLarge(f"The request body has {say(length)}; the limit is {say(self._limit)} (limits.body).")
        if path == "" and scope["method"] in {"GET", "HEAD"}:  # a page's relative links need the slash
            where = scope["raw_path"] + b"/"
            await send_whole(outlet.send, 308, b"", [(b"location", where)])
            return
        body = await client.body(self._limit)
        client.watch()
        await self._wait_for(match, path, scope, record)
        ticket = Ticket(self._supervisor.next_ticket(), match.model.id, record.arrived, caller.name, caller.priority)
        async with self._supervisor.lease(ticket) as lease:
            await lease.wait()
            grant = lease.result()
            record.served_by = grant.model
            record.queue_s = max(0.0, self._supervisor.now() - record.arrived)
            response = await self._send(grant, scope, path, body)
            try:
                await self._relay(response, outlet, record)
            finally:
                response.cancel()

    def _place(self, scope: Scope, caller: Caller) -> tuple[Match, str]:
        """The model, and the path at its engine: the longest name that fits, also where its slashes are encoded."""
        rest = unquote(scope["path"]).removeprefix(PREFIX)
        found = self._catalog.split_path(rest)
        if found is None:
            raise UnknownModel(f"No model's name begins {rest[:100]!r}; the path is {PREFIX}MODEL/…", param="model")
        name, path = found
        match = self._catalog.find(name, self._is_loaded)
        caller.require_model(match.asked, match.model.id)
        return match, path

    def _is_loaded(self, model: str) -> bool:
        state = self._supervisor.fleet.models.get(model)
        return state is not None and state.instance is not None and state.instance.phase is Phase.READY

    async def _wait_for(self, match: Match, path: str, scope: Scope, record: Record) -> None:
        model = match.model.id
        if self._is_loaded(model):
            return
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("autoload", ["0"])[-1]
        if _is_probe(scope["method"], path) and asked not in {"1", "true"}:
            raise LoadFailed(f"Model '{record.asked}' is not loaded, and a look at it loads nothing; add ?autoload=1.")
        if (reason := await self._objection(model)) is not None:
            raise LoadFailed(reason, retry_after=1.0)

    async def _send(self, grant: Grant, scope: Scope, path: str, body: bytes) -> Response:
        endpoint = self._engines.endpoint(grant.instance)
        if endpoint is None:
            raise LoadFailed(f"The engine of '{grant.model}' has just ended; try again.", retry_after=1.0)
        if _changes(scope["method"]):
            await self._sessions.unknown(grant.instance)
        encoded = _raw(scope, path)
        query = scope["query_string"]
        target = encoded + (b"?" + query if query else b"")
        headers = [(name, value) for name, value in scope["headers"] if name not in _STAYS_HERE]
        return await self._upstream.send(endpoint, scope["method"].encode(), target, headers, body)

    async def _relay(self, response: Response, outlet: Outlet, record: Record) -> None:
        record.status = response.status
        headers = [(name, value) for name, value in response.headers if name not in _DROPPED]
        await outlet.send({"type": "http.response.start", "status": response.status, "headers": headers})
        while data := await response.read():
            await send_part(outlet.send, data)
        await outlet.send({"type": "http.response.body", "body": b"", "more_body": False})
        await response.aclose()


def _raw(scope: Scope, path: str) -> bytes:
    """The path at the engine, encoded as the client had it."""
    raw: bytes = scope["raw_path"]
    length = len(path.encode())
    if not length:
        return b"/"
    return raw[-length:] if unquote(raw[-length:].decode("latin-1")) == path else quote(path).encode()


def _changes(method: str) -> bool:
    return method not in {"GET", "HEAD", "OPTIONS"}


def _is_probe(method: str, path: str) -> bool:
    return not _changes(method) and (path in PROBES or path.endswith(STILL))


def _may(caller: Caller, method: str, path: str) -> bool:
    """Whether a key that may use a model may also ask its engine this."""
    return caller.anonymous or not (path.startswith(OPERATORS) and (_changes(method) or path.startswith("/slots")))
