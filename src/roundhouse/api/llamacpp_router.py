"""The API of llama-server's router mode: Open WebUI's loaded dot and eject button, and llama.cpp's own page, use it.

`GET /models` is OpenAI's list with `status.value`, which `admin` has. Here are load, unload and the feed of changes, as
b10434 sends them: bare `data:` lines, `model_status` when a load begins and `status_change` afterwards.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import Request, Response  # noqa: TC002  FastAPI reads the annotations of its endpoints
from fastapi.responses import StreamingResponse

from roundhouse.api.admin import FEED_HEADERS, FEED_PING, Json
from roundhouse.errors import BadRequest
from roundhouse.observe.bus import LOST, RESET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from fastapi import FastAPI

    from roundhouse.api.admin import House
    from roundhouse.api.auth import Caller
    from roundhouse.observe.bus import Message


def add_router_api(app: FastAPI, house: House) -> None:
    """Adds the routes."""

    @app.post("/models/load", tags=["llama.cpp"])
    async def load(request: Request) -> Response:
        """Loads a model; answers when it is ready or has failed."""
        await house.load(await _wanted(house, request))
        return Json({"success": True})

    @app.post("/models/unload", tags=["llama.cpp"])
    async def unload(request: Request) -> Response:
        """Unloads a model after its running answers; answers when it is gone."""
        await house.unload(await _wanted(house, request))
        return Json({"success": True})

    @app.get("/models/sse", tags=["llama.cpp"])
    async def feed(request: Request) -> Response:
        """Changes of models as they come."""
        caller = house.identify(request)
        return StreamingResponse(_feed(house, caller), media_type="text/event-stream", headers=FEED_HEADERS)

    # Before `/models/{model}`, for which `sse` would be a model's name.
    app.router.routes.insert(0, app.router.routes.pop())


async def _wanted(house: House, request: Request) -> str:
    """The model in the body, of whom may load and unload it."""
    caller = house.identify(request)
    house.guard.admin(request.method, request.scope["headers"], caller)
    caller.require_manage()
    try:
        name = orjson.loads(await request.body())["model"]
    except (ValueError, LookupError, TypeError):
        name = None
    if not isinstance(name, str):
        raise BadRequest('The request names no model; send {"model": "…"}.', param="model")
    return name


async def _feed(house: House, caller: Caller) -> AsyncIterator[bytes]:
    """Until the client leaves or Roundhouse ends."""
    async with house.bus.subscribe() as subscription:
        while True:
            try:
                message = await asyncio.wait_for(anext(subscription), FEED_PING)
            except TimeoutError:
                yield b":\n\n"
                continue
            except StopAsyncIteration:
                return
            if message.kind in {RESET, LOST}:
                continue  # whoever missed something asks for the list
            model = message.data.get("model")
            if isinstance(model, str) and caller.allowed(model) and (told := _told(message)) is not None:
                yield b"data: " + orjson.dumps({"model": model, **told}) + b"\n\n"


def _told(message: Message) -> Mapping[str, Any] | None:
    """A message of ours in that API's words; None for what it does not know."""
    data = message.data
    match message.kind:
        case "loading":
            return {"event": "model_status", "data": {"status": "loading"}}
        case "progress" if data.get("fraction") is not None:
            stage = data.get("stage") or "text_model"
            progress = {"stages": [stage], "current": stage, "value": data["fraction"]}
            return {"event": "status_change", "data": {"status": "loading", "progress": progress}}
        case "ready":
            return {"event": "status_change", "data": {"status": "loaded"}}
        case "exited":
            return {
                "event": "status_change",
                "data": {"status": "unloaded", "exit_code": 0 if data.get("expected") else 1},
            }
        case _:
            return None
