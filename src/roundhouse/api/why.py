"""`GET /api/v1/requests/{id}/why`, `GET /api/v1/models/{id}/why`: what was decided, in words (spec G5, H)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI, Request, Response

from roundhouse.api.admin import Json

if TYPE_CHECKING:
    from roundhouse.api.auth import Caller
    from roundhouse.core.catalog import Catalog


class Reasons(Protocol):
    """Who knows."""

    async def of_request(self, request: str, key: str | None) -> dict[str, Any]:
        """The story of a request of this key, None = of any; raises NotFound."""

    async def of_model(self, model: str) -> dict[str, Any]:
        """What became of a model."""


class House(Protocol):
    """What this needs of the running program."""

    def identify(self, request: Request) -> Caller:
        """Who asks; raises Unauthorized."""

    catalog: Catalog

    def is_loaded(self, model: str) -> bool:
        """Whether it answers."""


def add_why(app: FastAPI, house: House, reasons: Reasons) -> None:
    """Adds the routes."""

    @app.get("/api/v1/requests/{id:path}/why", tags=["admin"])
    async def request_why(request: Request, id: str) -> Response:  # noqa: A002  # the path's own name
        """Why a request waited, was moved or refused: `lines` of time and text. Also while it still waits."""
        caller = house.identify(request)
        everybodys = caller.admin or caller.manage or caller.anonymous
        return Json(await reasons.of_request(id, None if everybodys else caller.name))

    @app.get("/api/v1/models/{model:path}/why", tags=["admin"])
    async def model_why(request: Request, model: str) -> Response:
        """Why a model is loaded, or left, or does not come: how it is now, and the last that happened to it."""
        caller = house.identify(request)  # before names are looked up: strangers are not told which there are
        match = house.catalog.find(model, house.is_loaded)
        caller.require_model(*match.names)
        return Json(await reasons.of_model(match.model.id))
