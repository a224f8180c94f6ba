"""`GET /api/v1/captures` and `GET /api/v1/requests/{id}/capture`: copies of bodies, for admins alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import FastAPI, Query, Request, Response

from roundhouse.api.admin import Json
from roundhouse.errors import NotFound

if TYPE_CHECKING:
    from roundhouse.api.auth import Caller
    from roundhouse.observe.captures import Captures


class House(Protocol):
    """What this needs of the running program."""

    captures: Captures | None

    def identify(self, request: Request) -> Caller:
        """Who asks; raises Unauthorized."""


def add_captures(app: FastAPI, house: House) -> None:
    """Adds the routes."""

    def captures(request: Request) -> Captures:
        caller = house.identify(request)
        if not caller.anonymous:
            caller.require_admin()
        if house.captures is None:
            raise NotFound("Bodies are not kept here; set captures.store to errors or all.")
        return house.captures

    @app.get("/api/v1/captures", tags=["admin"])
    async def listed(request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        """Requests whose bodies were kept, newest first. For admin keys."""
        return Json({"captures": await captures(request).listed(limit)})

    @app.get("/api/v1/requests/{id:path}/capture", tags=["admin"])
    async def capture(request: Request, id: str) -> Response:  # noqa: A002  # the path's own name
        """What was kept of a request's body and of its answer's, secrets hidden. For admin keys."""
        found = await captures(request).find(id)
        if found is None:
            raise NotFound(f"Nothing was kept of a request '{id}'.")
        return Json(found)
