"""API keys over HTTP, for admins: `/api/v1/keys`, `/api/v1/keys/NAME`, `/api/v1/keys/NAME/rotate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastapi import Request, Response

from roundhouse.api.admin import Guarded, Json, caller_of
from roundhouse.api.client import order
from roundhouse.config.units import duration
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from roundhouse.api.keyholder import Keyholder

NO_STORE = {"cache-control": "no-store"}
"""With every answer that holds a secret."""


class House(Guarded, Protocol):
    """What these need of the running program."""

    keyholder: Keyholder


def add_keys(app: FastAPI, house: House) -> None:
    """Adds the routes."""

    @app.get("/api/v1/keys", tags=["admin"])
    async def keys(request: Request) -> Response:
        """All keys without their secrets: what each may do, what is left of its limits, what it has used."""
        caller_of(house, request).require_admin()
        return Json({"keys": await house.keyholder.told()})

    @app.post("/api/v1/keys", tags=["admin"], status_code=201)
    async def add(request: Request) -> Response:
        """Makes a key: `name`, and what the configuration says of one. Its secret is told here and never again."""
        caller_of(house, request).require_admin()
        wanted = await order(request)
        settings = {key: value for key, value in wanted.items() if key != "name"}
        name = wanted.get("name")
        if not isinstance(name, str):
            raise BadRequest("A key needs a `name`.", param="name")
        return Json({"name": name, "key": await house.keyholder.add(name, settings)}, 201, NO_STORE)

    @app.delete("/api/v1/keys/{name}", tags=["admin"])
    async def revoke(request: Request, name: str, last: bool = False) -> Response:
        """Revokes a key, for the next request on; `last=true` also the only one, after which no key is needed."""
        caller_of(house, request).require_admin()
        return Json({"name": name, "open": await house.keyholder.revoke(name, last=last)})

    @app.post("/api/v1/keys/{name}/rotate", tags=["admin"])
    async def rotate(request: Request, name: str, grace: str = "") -> Response:
        """Gives a key another secret; the former one stays good for `grace` (as in `1h`), else for nothing more."""
        caller_of(house, request).require_admin()
        try:
            seconds = duration(grace) if grace else 0.0
        except ValueError as error:
            raise BadRequest(f"grace: {error}", param="grace") from None
        return Json({"name": name, "key": await house.keyholder.rotate(name, seconds)}, 200, NO_STORE)
