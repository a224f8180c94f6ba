"""Routes of the configuration: what its file would change (`plan`), and having it hold (`reload`). For admins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import Request, Response

from roundhouse.api.admin import Guarded, Json, caller_of
from roundhouse.api.client import order
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from fastapi import FastAPI


class Reloader(Protocol):
    """What plans and applies it."""

    async def plan(self, text: str | None = None) -> dict[str, Any]:
        """What applying the file would do, or this text in its place."""

    async def apply(self, why: str) -> dict[str, Any]:
        """Applies the file."""


def add_reload(app: FastAPI, house: Guarded, reloader: Reloader) -> None:
    """Adds the routes."""

    @app.get("/api/v1/plan", tags=["admin"])
    async def plan(request: Request) -> Response:
        """What applying the configuration file as it is now would change, and what each change takes."""
        caller_of(house, request).require_admin()
        return Json(await reloader.plan())

    @app.post("/api/v1/plan", tags=["admin"])
    async def plan_text(request: Request) -> Response:
        """The same for the YAML `text` in the file's place. Nothing is written or applied."""
        caller_of(house, request).require_admin()
        if not isinstance(text := (await order(request)).get("text"), str):
            raise BadRequest("Send the configuration's YAML as `text`.", param="text")
        return Json(await reloader.plan(text))

    @app.post("/api/v1/reload", tags=["admin"], responses={422: {"description": "The file is wrong; nothing changed"}})
    async def reload(request: Request) -> Response:
        """Applies the configuration file. Only models whose settings changed restart, after their running answers."""
        caller_of(house, request).require_admin()
        told = await reloader.apply("asked by the API")
        return Json(told, 200 if told["applied"] else 422)
