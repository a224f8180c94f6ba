"""The API of llama-server's router mode: Open WebUI's loaded dot and eject button, and llama.cpp's own page, use it.

`GET /models` is OpenAI's list with what that server adds to it. The feed of changes is as b10434 sends it: bare `data:`
lines, `model_status` when a load begins and `status_change` afterwards. As there, a load or an unload is answered when
it has begun; what is known to be wrong by then is told, and what is done already is no error.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import Request, Response  # noqa: TC002  FastAPI reads the annotations of its endpoints
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute

from roundhouse import __version__
from roundhouse.api.admin import FEED_HEADERS, FEED_PING, Json, caller_of
from roundhouse.api.client import small_body
from roundhouse.core.model import Kind
from roundhouse.errors import BadRequest
from roundhouse.observe.bus import LOST, RESET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from roundhouse.api.admin import House
    from roundhouse.api.auth import Caller
    from roundhouse.observe.bus import Message

LOAD_HOLD, UNLOAD_HOLD = 0.3, 10.0
"""Seconds for which the answer to a load and to an unload is held, so that it can tell what came of it."""
PROPS = {
    "role": "router",
    "max_instances": 0,
    "models_autoload": True,
    "model_alias": "roundhouse",
    "model_path": "none",
    "default_generation_settings": {"params": None, "n_ctx": 0},
    "ui_settings": {},
    "webui_settings": {},
    "build_info": f"roundhouse-{__version__}",
    "cors_proxy_enabled": False,
}
"""As llama-server's router has it (b10434); no limit to instances but memory."""


def add_router_api(app: FastAPI, house: House) -> None:
    """Adds the routes."""

    @app.post("/models/load", tags=["llama.cpp"])
    async def load(request: Request) -> Response:
        """Begins to load a model; `GET /models/sse` tells how it goes."""
        name = await _wanted(house, request)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOAD_HOLD):
                await house.load(name)
        return Json({"success": True})

    @app.post("/models/unload", tags=["llama.cpp"])
    async def unload(request: Request) -> Response:
        """Unloads a model after its running answers; does not wait for long ones."""
        name = await _wanted(house, request)
        with suppress(TimeoutError):
            async with asyncio.timeout(UNLOAD_HOLD):
                await house.unload(name)
        return Json({"success": True})

    @app.get("/models", tags=["llama.cpp"])
    async def models(request: Request) -> Response:
        """Every model at once, with the fields that llama-server's router adds."""
        return Json({"object": "list", "data": [_listed(entry) for entry in house.models(house.identify(request))]})

    @app.get("/props", tags=["llama.cpp"])
    async def props(request: Request) -> Response:
        """That this is a router; `?model=` asks a loaded model's engine."""
        house.identify(request)
        return Json(PROPS)

    @app.get("/models/sse", tags=["llama.cpp"])
    async def feed(request: Request) -> Response:
        """Changes of models as they come."""
        caller = house.identify(request)
        return StreamingResponse(_feed(house, caller), media_type="text/event-stream", headers=FEED_HEADERS)

    # Before `/models/{model}` of OpenAI's list, for which `sse` would be a model's name.
    feeds = next(r for r in app.router.routes if isinstance(r, APIRoute) and r.path == "/models/sse")
    app.router.routes.remove(feeds)
    app.router.routes.insert(0, feeds)


async def _wanted(house: House, request: Request) -> str:
    """The model in the body, of whom may load and unload it."""
    caller = caller_of(house, request)
    caller.require_manage()
    raw = await small_body(request)
    try:
        name = orjson.loads(raw)["model"]
    except (ValueError, LookupError, TypeError):
        name = None
    if not isinstance(name, str):
        raise BadRequest('The request names no model; send {"model": "…"}.', param="model")
    house.model(caller, name)  # raises UnknownModel where the key may not use it
    return name


def _listed(entry: dict[str, Any]) -> dict[str, Any]:
    """A model of OpenAI's list with what clients of that API look for: modalities, and how a load failed."""
    inputs = ["text", "image"] if entry["info"]["meta"]["capabilities"].get("vision") else ["text"]
    outputs = ["embeddings"] if entry.get("kind") == Kind.EMBEDDING else ["text"]
    failed = {"failed": True, "exit_code": 1} if entry["status"]["value"] == "failed" else {}
    return {
        **entry,
        "status": {**entry["status"], **failed},
        "architecture": {"input_modalities": inputs, "output_modalities": outputs},
        "source": "preset",
        "can_remove": False,
    }


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
                if message.kind == "ready":
                    told["data"]["info"] = _listed(house.model(caller, model))
                yield b"data: " + orjson.dumps({"model": model, **told}) + b"\n\n"


def _told(message: Message) -> dict[str, Any] | None:
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
