"""The APIs beside OpenAI's chats, put together: who serves which path."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from starlette.middleware.cors import CORSMiddleware

from roundhouse.api import admin, media
from roundhouse.api.captures import add_captures
from roundhouse.api.llamacpp_router import add_router_api
from roundhouse.api.media import Media
from roundhouse.api.ollama import add_ollama
from roundhouse.api.responses import Remembering, add_responses
from roundhouse.api.translated import Operator, Spoken
from roundhouse.api.why import add_why
from roundhouse.dialects import anthropic, ollama, responses
from roundhouse.errors import RouterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from roundhouse.api.auth import Keys
    from roundhouse.api.gateway import Gateway
    from roundhouse.api.why import Reasons
    from roundhouse.config.models import Config
    from roundhouse.core.catalog import Catalog
    from roundhouse.observe.captures import Captures
    from roundhouse.observe.responses import Responses


EXPOSED = ["x-request-id", "x-roundhouse-model", "x-roundhouse-queue-s", "x-roundhouse-load-s", "retry-after"]
"""Headers of ours that scripts of allowed web origins may read."""


class House(admin.House, Operator, Protocol):
    """What they need of the running program."""

    config: Config
    catalog: Catalog
    keys: Keys
    captures: Captures | None

    def is_loaded(self, model: str) -> bool:
        """Whether it answers."""


def other_apis(house: House, gateway: Gateway, store: Responses, passed: ASGIApp) -> dict[str, ASGIApp]:
    """Applications by the paths of their POST requests; `passed` serves what is passed to engines."""

    def counts(name: str) -> bool:
        """Whether a model is loaded on llama.cpp, which counts the tokens of Anthropic's requests itself."""
        with suppress(RouterError):
            model = house.catalog.find(name, house.is_loaded).model
            return model.engine == "llamacpp" and house.is_loaded(model.id)
        return False

    common = gateway, house, house.keys, house.guard, house.config.limits
    speaks_ollama = Spoken(*common, ollama.Ollama(house.catalog.__contains__, time.time))
    speaks_anthropic = Spoken(*common, anthropic.Anthropic(counts))
    limits = house.config.limits.body, house.config.limits.body_timeout
    speaks = Media(passed, house.catalog, house.keys, house.guard, house.is_loaded, limits, gateway.unexpected)
    return {
        **dict.fromkeys(media.PATHS, speaks),
        **dict.fromkeys(ollama.PATHS, speaks_ollama),
        **dict.fromkeys(anthropic.PATHS, speaks_anthropic),
        responses.PATH: Remembering(*common, store),
    }


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Lets these web origins read answers; without any, browsers of other sites are told nothing."""
    if not origins:
        return app
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=EXPOSED)


def add_routes(app: FastAPI, house: House, store: Responses, reasons: Reasons) -> None:
    """Adds what these APIs ask without asking a model."""
    add_ollama(app, house)
    add_responses(app, house, store)
    add_router_api(app, house)
    add_why(app, house, reasons)
    add_captures(app, house)
