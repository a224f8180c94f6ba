"""What the dashboard asks beyond state and feed: queue, past requests, a model in full, settings (spec G2, H).

All of it needs a key that may manage, once there are keys: it tells of others' requests and of paths on this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from fastapi import FastAPI, Query, Request, Response

from roundhouse.api.admin import Guarded, Json, caller_of

if TYPE_CHECKING:
    from roundhouse.api.auth import Caller

Outcome = Literal["ok", "failed"]


class Dashboard(Protocol):
    """Who knows."""

    def queue(self) -> dict[str, Any]:
        """Who waits, and for what; the loads under way."""

    async def requests(
        self,
        *,
        model: str | None,
        key: str | None,
        ok: bool | None,
        before: float | None,
        waited: float | None,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Past requests, newest first; `before` in seconds since the epoch, `waited` in seconds."""

    async def request(self, request: str) -> dict[str, Any]:
        """A request as it is now, or as the history has it; raises NotFound."""

    async def cancel(self, request: str, by: str) -> dict[str, Any]:
        """Ends a request; raises NotFound, Conflict."""

    def model(self, name: str) -> dict[str, Any]:
        """Settings, facts and command line; raises UnknownModel."""

    def settings(self) -> dict[str, Any]:
        """The configuration without models and secrets."""


def add_dashboard(app: FastAPI, house: Guarded, dashboard: Dashboard) -> None:
    """Adds the routes."""

    def require(request: Request) -> Caller:
        caller = caller_of(house, request)
        caller.require_manage()
        return caller

    @app.get("/api/v1/queue", tags=["admin"])
    async def queue(request: Request) -> Response:
        """Every waiting request with its place and the reason, those being answered, and the loads under way."""
        require(request)
        return Json(dashboard.queue())

    @app.get("/api/v1/requests", tags=["admin"])
    async def requests(
        request: Request,
        model: str | None = None,
        key: str | None = None,
        outcome: Outcome | None = None,
        before: float | None = None,
        waited: Annotated[float | None, Query(ge=0)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> Response:
        """Past requests, newest first. `before` (seconds since the epoch) continues a list, `waited` is in seconds."""
        require(request)
        ok = None if outcome is None else outcome == "ok"
        found = await dashboard.requests(model=model, key=key, ok=ok, before=before, waited=waited, limit=limit)
        return Json({"requests": found})

    @app.get("/api/v1/requests/{id:path}", tags=["admin"])
    async def request_(request: Request, id: str) -> Response:  # noqa: A002  # the path's own name
        """A request as it is now (`state` waiting or answering), or as it ended, with its `outcome`."""
        require(request)
        return Json(await dashboard.request(id))

    @app.post("/api/v1/requests/{id:path}/cancel", tags=["admin"])
    async def cancel(request: Request, id: str) -> Response:  # noqa: A002  # as above
        """Ends a request that waits or is being answered: its client gets the error `request_cancelled`.

        404 for one that is not known, 409 for one that has ended. For admin keys.
        """
        caller = require(request)
        caller.require_admin()
        return Json(await dashboard.cancel(id, caller.name))

    @app.get("/api/v1/config", tags=["admin"])
    async def settings(request: Request) -> Response:
        """The configuration as resolved, without its models; secrets are hidden."""
        require(request)
        return Json(dashboard.settings())

    @app.get("/api/v1/models/{model:path}/details", tags=["admin"])
    async def one(request: Request, model: str) -> Response:
        """One model in full: settings, what its files say, the command line that runs; secrets are hidden."""
        require(request)
        return Json(dashboard.model(model))
