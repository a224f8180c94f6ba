"""Routes of the configuration: what its file would change (`plan`), and having it hold (`reload`). For admins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import Request, Response

from roundhouse.api.admin import Json
from roundhouse.api.client import order
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from roundhouse.api.auth import Caller
    from roundhouse.api.guard import Guard


class Reloader(Protocol):
    """What plans and applies it."""

    async def plan(self, text: str | None = None) -> dict[str, Any]:
        """What applying the file would do, or this text in its place."""

    async def apply(self, why: str) -> dict[str, Any]:
        """Applies the file."""


class House(Protocol):
    """What this needs of the running program."""

    guard: Guard

    def identify(self, request: Request) -> Caller:
        """Who asks."""


def add_reload(app: FastAPI, house: House, reloader: Reloader) -> None:
    """Adds the routes."""

    def require_admin(request: Request) -> None:
        caller = house.identify(request)
        if request.method != "GET":
            house.guard.admin(request.method, request.scope["headers"], caller)
        caller.require_admin()

    @app.get("/api/v1/plan", tags=["admin"])
    async def plan(request: Request) -> Response:
        """What applying the configuration file as it is now would change, and what each change takes."""
        require_admin(request)
        return Json(await reloader.plan())

    @app.post("/api/v1/plan", tags=["admin"])
    async def plan_text(request: Request) -> Response:
        """The same for the YAML `text` in the file's place. Nothing is written or applied."""
        require_admin(request)
        if not isinstance(text := (await order(request)).get("text"), str):
            raise BadRequest("Send the configuration's YAML as `text`.", param="text")
        return Json(await reloader.plan(text))

    @app.post("/api/v1/reload", tags=["admin"], responses={422: {"description": "The file is wrong; nothing changed"}})
    async def reload(request: Request) -> Response:
        """Applies the configuration file. Only models whose settings changed restart, after their running answers."""
        require_admin(request)
        told = await reloader.apply("asked by the API")
        return Json(told, 200 if told["applied"] else 422)
