"""Speech, transcriptions and images (spec A2): the model is in a JSON body or in a form, answers may be binary.

A request is read, its model found, and the name that its engine serves put in place of the client's (A5); nothing else
is changed. From there on it goes the way of what is passed to engines: a place, the answer's bytes as they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import orjson

from roundhouse.api.client import Client, declared_length
from roundhouse.api.engine_paths import PREFIX
from roundhouse.api.reply import send_error
from roundhouse.api.routes import PATH
from roundhouse.core.memory import say
from roundhouse.dialects import body as json_body
from roundhouse.dialects import forms
from roundhouse.errors import BadRequest, BodyTooLarge, RouterError, Unforeseen, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from roundhouse.api.auth import Keys
    from roundhouse.api.guard import Guard
    from roundhouse.config.models import ModelConfig
    from roundhouse.core.catalog import Catalog

_ANY: Final = "openai"
"""The engine that is any program with OpenAI's API: it is asked whatever we believe."""
ENGINES: Final = {
    "/v1/audio/speech": frozenset({_ANY}),
    "/v1/audio/transcriptions": frozenset({_ANY, "vllm", "sglang", "llamacpp"}),
    "/v1/audio/translations": frozenset({_ANY, "vllm"}),
    "/v1/images/generations": frozenset({_ANY}),
    "/v1/images/edits": frozenset({_ANY}),
    "/v1/images/variations": frozenset({_ANY}),
}
"""Paths, and the engines that may have them."""
PATHS: Final = frozenset({*ENGINES, *(path.removeprefix("/v1") for path in ENGINES)})


class Media:
    """Serves the POST requests of `PATHS`.

    Args:
        passed: serves what is passed to engines.
        is_loaded: whether a model answers now.
        limits: bytes of a body, and seconds in which nothing of it comes.
        unexpected: told of exceptions that nobody foresaw.
    """

    def __init__(
        self,
        passed: ASGIApp,
        catalog: Catalog,
        keys: Keys,
        guard: Guard,
        is_loaded: Callable[[str], bool],
        limits: tuple[int, float],
        unexpected: Callable[[str, BaseException], None],
    ) -> None:
        self._passed = passed
        self._catalog = catalog
        self._keys = keys
        self._guard = guard
        self._is_loaded = is_loaded
        self._limit, self._patience = limits
        self._unexpected = unexpected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        try:
            there, body = await self._read(scope, receive)
        except RouterError as error:
            await send_error(send, error, [])
            return
        except Exception as error:  # noqa: BLE001  # the last resort: no traceback reaches a client (spec A4)
            self._unexpected(scope["path"], error)
            await send_error(send, Unforeseen(), [])
            return
        await self._passed(there, _Replayed(receive, body), send)

    async def _read(self, scope: Scope, receive: Receive) -> tuple[Scope, bytes]:
        """The request as it goes on. Who may not ask is refused before anything is read."""
        caller = self._keys.identify(scope["headers"], scope["query_string"])
        self._guard.relay(scope["method"], scope["headers"], caller)
        caller.require_api("openai")
        length = declared_length(scope)
        if length is not None and length > self._limit:
            raise BodyTooLarge(f"The request body has {say(length)}; the limit is {say(self._limit)} (limits.body).")
        body = await Client(receive).body(self._limit, self._patience)
        kind = dict(scope["headers"]).get(b"content-type", b"application/json")
        asked, replace = _in_form(body, kind) if kind.lower().startswith(b"multipart/") else _in_json(body)
        match = self._catalog.find(asked, self._is_loaded)
        caller.require_model(*match.names)
        path = scope["path"] if scope["path"].startswith("/v1/") else "/v1" + scope["path"]
        model = match.model
        if model.engine not in ENGINES[path]:
            raise Unsupported(f"Model '{asked}' can't do {path}: {model.engine} has no such thing.")
        body = replace(_served(model)) if _served(model) != asked else body
        raw = f"{PREFIX}{quote(model.id, safe='')}{path}".encode()
        headers = [(name, value) for name, value in scope["headers"] if name not in {b"content-length", b"expect"}]
        headers = [(name, value) for name, value in headers if name != b"transfer-encoding"]
        headers.append((b"content-length", b"%d" % len(body)))
        return {
            **scope, "path": f"{PREFIX}{model.id}{path}", "raw_path": raw, "headers": headers, PATH: scope["path"],
        }, body  # fmt: skip


def _served(model: ModelConfig) -> str:
    return model.served_name or model.id


def _in_json(body: bytes) -> tuple[str, Callable[[str], bytes]]:
    """The model's name, and the body with another one."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The request body is no JSON: {error}.") from None
    name = told.get("model") if isinstance(told, dict) else None
    if not isinstance(name, str) or not name:
        raise BadRequest("The request names no model.", param="model")
    return name, lambda other: json_body.edit(body, {"model": orjson.dumps(other)})


def _in_form(body: bytes, kind: bytes) -> tuple[str, Callable[[str], bytes]]:
    """As `_in_json`; the field may stand before the files or after them."""
    try:
        found = forms.find(body, kind, "model")
    except forms.BadForm as error:
        raise BadRequest(f"The form can't be read: {error}.") from None
    if found is None or not found.value:
        raise BadRequest("The form names no model (a field `model`).", param="model")
    return found.value, lambda other: body[: found.start] + other.encode() + body[found.end :]


class _Replayed:
    """ASGI's `receive` for what was read already; then the client's own, which tells when it leaves."""

    def __init__(self, receive: Receive, body: bytes) -> None:
        self._receive = receive
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()
