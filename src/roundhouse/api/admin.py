"""What operators see and do: `/health`, `/metrics`, `/v1/models`, and the admin API under `/api/v1` (spec G1, H).

FastAPI: described at `/docs`. Everything here is small and rare; the hot path is in `gateway`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.exceptions import HTTPException

from roundhouse.api.description import describe
from roundhouse.api.pages import add_pages, prefers_pages
from roundhouse.dialects.failures import error_body
from roundhouse.errors import BadRequest, MethodNotAllowed, NotFound, RouterError, Unforeseen
from roundhouse.observe.bus import LOST, RESET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from roundhouse.api.auth import Caller
    from roundhouse.api.guard import Guard
    from roundhouse.observe.bus import Bus

FEED_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
FEED_PING = 15.0
"""Seconds between two comments on a quiet feed, so that dead clients are noticed."""


class House(Protocol):
    """What the admin API needs of the running program."""

    bus: Bus

    def identify(self, request: Request) -> Caller:
        """Who asks; raises Unauthorized."""

    guard: Guard

    def models(self, caller: Caller) -> list[dict[str, Any]]:
        """`/v1/models` for this caller."""

    def model(self, caller: Caller, name: str) -> dict[str, Any]:
        """One of them; raises UnknownModel."""

    def health(self) -> dict[str, Any]:
        """`/health` in full."""

    def may_see_health(self, request: Request) -> bool:
        """Whether this peer gets more than status and version."""

    def metrics_text(self) -> bytes:
        """Prometheus text."""

    async def load(self, name: str) -> dict[str, Any]:
        """Loads a model and returns its state when that is decided; raises LoadFailed."""

    async def unload(self, name: str) -> dict[str, Any]:
        """Unloads a model and returns its state when it is gone."""

    async def switches(self, model: str | None, limit: int) -> list[dict[str, Any]]:
        """The last switches, newest first."""

    async def pin(self, name: str, *, pinned: bool) -> dict[str, Any]:
        """Has a model never unloaded to make room, or no longer so, and returns its state."""

    def log(self, name: str, *, follow: bool) -> AsyncIterator[str]:
        """A model's output lines; raises UnknownModel at once."""


class Json(Response):
    """JSON by orjson."""

    def __init__(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(content), status, headers, "application/json")


def make_admin(house: House, version: str) -> FastAPI:
    """The admin application."""
    app = FastAPI(
        title="Roundhouse",
        version=version,
        summary="One endpoint in front of many local inference engines.",
        docs_url=None,  # it would be fetched from elsewhere; ours is in `pages`
        redoc_url=None,
    )
    _errors(app)
    _public(app, house)
    _operator(app, house)
    add_pages(app)
    describe(app)
    return app


class Guarded(Protocol):
    """Who can be asked who asks."""

    guard: Guard

    def identify(self, request: Request) -> Caller:
        """Who asks; raises Unauthorized."""


def caller_of(house: Guarded, request: Request) -> Caller:
    """Who asks. Of what changes something, Forbidden if a page of another site has a browser send it (spec F3)."""
    caller = house.identify(request)
    if request.method != "GET":
        house.guard.admin(request.method, request.scope["headers"], caller)
    return caller


def _errors(app: FastAPI) -> None:
    """FastAPI's own 404, 405 and 422 say `detail`; ours have OpenAI's shape everywhere (spec A4)."""

    @app.exception_handler(RouterError)
    async def ours(request: Request, error: RouterError) -> Response:
        headers = {"retry-after": str(max(1, round(error.retry_after)))} if error.retry_after is not None else {}
        if error.status == 401:
            headers["www-authenticate"] = "Bearer"
        body = orjson.dumps({"error": error.message}) if _is_ollamas(request.url.path) else error_body(error)
        return Response(body, error.status, headers, "application/json")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return await ours(request, MethodNotAllowed(f"{request.url.path} does not take {request.method}."))
        return await ours(request, NotFound(f"There is nothing at {request.url.path}; /docs lists what there is."))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return await ours(request, BadRequest(f"{where}: {first['msg']}", param=where))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, _error: Exception) -> Response:  # the server logs it
        return await ours(request, Unforeseen())


def _is_ollamas(path: str) -> bool:
    """Whether a path is of Ollama's API, whose errors are plain texts."""
    return path.startswith("/api/") and not path.startswith("/api/v1/")


def _public(app: FastAPI, house: House) -> None:
    @app.get("/health", tags=["operations"])
    async def health(request: Request) -> Response:
        """How everything is; 200 while Roundhouse serves."""
        full = house.health()
        if house.may_see_health(request):
            return Json(full)
        return Json({key: full[key] for key in ("status", "version")})

    @app.get("/metrics", tags=["operations"])
    async def metrics(request: Request) -> Response:
        """Prometheus metrics."""
        _require_any(house, request)
        return Response(house.metrics_text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", tags=["openai"])
    async def models(request: Request) -> Response:
        """Every model at once, loaded or not."""
        return Json({"object": "list", "data": house.models(house.identify(request))})

    @app.get("/v1/models/{model:path}", tags=["openai"])
    @app.get("/models/{model:path}", include_in_schema=False)
    async def model(request: Request, model: str) -> Response:
        """One model."""
        return Json(house.model(house.identify(request), model))

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        if prefers_pages(request.headers.get("accept", "")):
            return RedirectResponse("/ui", 307)
        return PlainTextResponse(
            "Roundhouse is running. The API is under /v1, its description at /docs, its state at /health.\n"
        )


def _operator(app: FastAPI, house: House) -> None:
    @app.get("/api/v1/state", tags=["admin"])
    async def state(request: Request) -> Response:
        """The whole picture: models, devices, queue."""
        _require_any(house, request)
        return Json(house.health())

    @app.get("/api/v1/switches", tags=["admin"])
    async def switches(request: Request, model: str | None = None, limit: int = 50) -> Response:
        """The last switches, each taken apart: newest first, at most 1000."""
        _require_any(house, request)
        return Json({"switches": await house.switches(model, min(limit, 1000))})

    @app.get("/api/v1/events", tags=["admin"])
    async def events(request: Request) -> Response:
        """Server-sent events: a snapshot, then changes. `Last-Event-ID` resumes."""
        _require_any(house, request)
        after = request.headers.get("last-event-id")
        return StreamingResponse(_feed(house, after), media_type="text/event-stream", headers=FEED_HEADERS)

    @app.post("/api/v1/models/{model:path}/load", tags=["admin"])
    async def load(request: Request, model: str) -> Response:
        """Loads a model (making room if need be) and answers when it is ready or has failed."""
        caller_of(house, request).require_manage()
        return Json(await house.load(model))

    @app.post("/api/v1/models/{model:path}/unload", tags=["admin"])
    async def unload(request: Request, model: str) -> Response:
        """Unloads a model after its running answers, and answers when it is gone."""
        caller_of(house, request).require_manage()
        return Json(await house.unload(model))

    @app.post("/api/v1/models/{model:path}/pin", tags=["admin"])
    async def pin(request: Request, model: str) -> Response:
        """Has a model never unloaded to make room, until Roundhouse ends."""
        caller_of(house, request).require_manage()
        return Json(await house.pin(model, pinned=True))

    @app.post("/api/v1/models/{model:path}/unpin", tags=["admin"])
    async def unpin(request: Request, model: str) -> Response:
        """Ends a pin, also a configured one."""
        caller_of(house, request).require_manage()
        return Json(await house.pin(model, pinned=False))

    @app.get("/api/v1/models/{model:path}/log", tags=["admin"])
    async def log(request: Request, model: str, follow: int = 0) -> Response:
        """A model's output; `follow=1` goes on as it comes."""
        caller_of(house, request).require_manage()
        lines = house.log(model, follow=bool(follow))
        return StreamingResponse(
            (line + "\n" async for line in lines), media_type="text/plain; charset=utf-8", headers=FEED_HEADERS
        )


def _require_any(house: House, request: Request) -> None:
    house.identify(request)


async def _feed(house: House, after: str | None) -> AsyncIterator[bytes]:
    """One feed, until the client leaves or Roundhouse ends. After a gap the client gets the whole picture anew."""
    async with house.bus.subscribe(after) as subscription:
        while True:
            try:
                message = await asyncio.wait_for(anext(subscription), FEED_PING)
            except TimeoutError:
                yield b": ping\n\n"
                continue
            except StopAsyncIteration:
                return
            if message.kind in {RESET, LOST}:
                yield _message(message.id, "snapshot", {**house.health(), "gap": message.data})
            else:
                yield _message(message.id, message.kind, message.data)


def _message(number: str, kind: str, data: object) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"
