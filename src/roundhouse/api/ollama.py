"""The parts of Ollama's API that ask no model: what there is, what is loaded, and what is not done here.

Chat, generate and embed are translated (`dialects/ollama`, `api/translated`).
"""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from fastapi import Request, Response  # noqa: TC002  FastAPI reads the annotations of its endpoints

from roundhouse.api.admin import Json
from roundhouse.api.client import small_body
from roundhouse.errors import BadRequest, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

    from roundhouse.api.admin import House
    from roundhouse.api.auth import Caller

VERSION: Final = "0.13.0"
"""What we answer as Ollama's version: clients look at it before they use what newer ones have."""
NEVER: Final = "2318-01-01T00:00:00Z"
"""When a model leaves that nobody unloads, in Ollama's words."""
REFUSED: Final = ("pull", "push", "create", "delete", "copy")
_PARAMETERS: Final = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?[BM])(?![\w.])", re.IGNORECASE)


def add_ollama(app: FastAPI, house: House) -> None:
    """Adds the routes."""

    @app.get("/api/version", tags=["ollama"])
    async def version() -> Response:
        """Which Ollama this is like."""
        return Json({"version": VERSION})

    @app.get("/api/tags", tags=["ollama"])
    async def tags(request: Request) -> Response:
        """Every model."""
        return Json({"models": [_entry(model) for model in _models(house, request)]})

    @app.get("/api/ps", tags=["ollama"])
    async def running(request: Request) -> Response:
        """Models that are loaded."""
        states = house.health()["models"]
        loaded = [model for model in _models(house, request) if model["loaded"] and model["id"] in states]
        return Json({"models": [_running(model, states[model["id"]]) for model in loaded]})

    @app.post("/api/show", tags=["ollama"])
    async def show(request: Request) -> Response:
        """One model."""
        caller = _caller(house, request)
        name = _name(await small_body(request))
        return Json(_shown(house.model(caller, _known(house, caller, name))))

    for word in REFUSED:
        app.add_api_route(f"/api/{word}", _refusal(house, word), methods=["POST", "DELETE"], tags=["ollama"])


def _refusal(house: House, word: str) -> Any:  # noqa: ANN401  # FastAPI takes any endpoint
    async def refuse(request: Request) -> Response:
        """Models are files of the machine, named in the configuration."""
        _caller(house, request)
        raise Unsupported(f"Roundhouse does not {word} models; put the file where `models_dir` or a `path` looks.")

    return refuse


def _caller(house: House, request: Request) -> Caller:
    caller = house.identify(request)
    caller.require_api("ollama")
    return caller


def _models(house: House, request: Request) -> list[dict[str, Any]]:
    return house.models(_caller(house, request))


def _known(house: House, caller: Caller, name: str) -> str:
    """Clients of Ollama's write `name:latest`."""
    names = {model["id"] for model in house.models(caller)}
    short = name.removesuffix(":latest")
    return short if name not in names and short in names else name


def _name(raw: bytes) -> str:
    try:
        fields = orjson.loads(raw)
        name = fields.get("model") or fields.get("name")
    except (ValueError, AttributeError):
        name = None
    if not isinstance(name, str):
        raise BadRequest("model is required", param="model")
    return name


def _entry(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": model["id"],
        "model": model["id"],
        "modified_at": _time(model["created"]),
        "size": model.get("size") or 0,
        "digest": hashlib.sha256(model["id"].encode()).hexdigest(),
        "details": _details(model),
    }


def _details(model: Mapping[str, Any]) -> dict[str, Any]:
    family = model.get("architecture") or ""
    size = _PARAMETERS.search(model["id"])
    return {
        "parent_model": "",
        "format": "gguf" if model.get("engine") == "llamacpp" else model.get("engine") or "",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": size[1].upper() if size else "",
        "quantization_level": model.get("quantization") or "",
    }


def _running(model: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    memory = state["device"]
    entry = _entry(model)
    del entry["modified_at"]
    return entry | {
        "size": sum(memory.values()),
        "size_vram": sum(size for device, size in memory.items() if device != "ram"),
        "context_length": model.get("context_length") or 0,
        "expires_at": NEVER,
    }


def _shown(model: Mapping[str, Any]) -> dict[str, Any]:
    architecture = model.get("architecture") or "unknown"
    can = model["info"]["meta"]["capabilities"]
    kinds = {"embedding": ["embedding"], "rerank": ["rerank"]}
    capabilities = kinds.get(model.get("kind", "chat"), ["completion", "tools"])
    return {
        "modelfile": f"# {model['id']} is served by Roundhouse ({model.get('engine')})",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": {
            "general.architecture": architecture,
            f"{architecture}.context_length": model.get("context_length") or 0,
        },
        "capabilities": [*capabilities, *(["vision"] if can.get("vision") else [])],
        "modified_at": _time(model.get("created") or time.time()),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
