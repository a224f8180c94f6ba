"""OpenAI's Responses API: each request a chat, remembered so that a later one may go on from it."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import Request  # noqa: TC002  FastAPI reads the annotations of its endpoints
from fastapi import Response as Answer  # noqa: TC002

from roundhouse.api.admin import Json
from roundhouse.api.translated import Translated
from roundhouse.dialects.responses import PATH, Response, previous
from roundhouse.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.types import Scope

    from roundhouse.api.admin import House
    from roundhouse.api.auth import Caller, Keys
    from roundhouse.api.gateway import Gateway
    from roundhouse.api.guard import Guard
    from roundhouse.api.translated import Operator
    from roundhouse.config.models import Limits
    from roundhouse.dialects.translation import Translation
    from roundhouse.observe.responses import Responses


class OpenAiErrors:
    """Errors as they are everywhere else."""

    name = "openai"

    def error(self, status: int, fields: Mapping[str, Any]) -> bytes:
        """`{"error": {...}}`."""
        return orjson.dumps({"error": fields})


class Remembering(Translated):
    """Serves `POST /v1/responses`."""

    def __init__(
        self, gateway: Gateway, operator: Operator, keys: Keys, guard: Guard, limits: Limits, store: Responses
    ) -> None:
        super().__init__(gateway, operator, keys, guard, limits, OpenAiErrors())
        self._store = store

    async def translate(self, scope: Scope, raw: bytes, caller: Caller) -> Translation:
        """A chat that goes on from the response that it names."""
        earlier = None
        if (number := previous(raw)) is not None:
            kept = await self._store.find(number, caller.name)
            if kept is None:
                raise _unknown(number)
            earlier = kept.said
        return Response(raw, secrets.token_hex(16), time.time(), earlier)

    def ended(self, translation: Translation, caller: Caller) -> None:
        """Remembers a response that ended well."""
        assert isinstance(translation, Response)
        if translation.stored and translation.told is not None:
            said = [*translation.said, *([translation.answer] if translation.answer else [])]
            self._store.keep(translation.id, caller.name, time.time(), said, translation.told)


def add_responses(app: FastAPI, house: House, store: Responses) -> None:
    """Adds what there is to ask of remembered responses."""

    @app.get(PATH + "/{number}", tags=["openai"])
    async def response(request: Request, number: str) -> Answer:
        """A response that was remembered."""
        kept = await store.find(number, _caller(house, request).name)
        if kept is None:
            raise _unknown(number)
        return Json(kept.told)

    @app.delete(PATH + "/{number}", tags=["openai"])
    async def forget(request: Request, number: str) -> Answer:
        """Forgets a response."""
        caller = _caller(house, request)
        house.guard.relay(request.method, request.scope["headers"], caller)
        if not await store.forget(number, caller.name):
            raise _unknown(number)
        return Json({"id": number, "object": "response", "deleted": True})


def _caller(house: House, request: Request) -> Caller:
    caller = house.identify(request)
    caller.require_api("openai")
    return caller


def _unknown(number: str) -> NotFound:
    error = NotFound(f"Response '{number[:80]}' does not exist (any more); send the whole conversation as `input`.")
    error.param, error.code = "previous_response_id", "previous_response_not_found"
    return error
