"""Requests of other APIs, as OpenAI requests for the gateway, and its answers as theirs; the dialects know how."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from roundhouse.api.client import Client, declared_length
from roundhouse.api.reply import JSON, send_error, send_whole
from roundhouse.api.routes import API, PATH, TRANSLATED
from roundhouse.core.memory import say
from roundhouse.core.model import Want
from roundhouse.dialects.failures import error_event, error_fields
from roundhouse.errors import BadRequest, BodyTooLarge, RouterError, Unforeseen, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Scope, Send

    from roundhouse.api.auth import Caller, Keys
    from roundhouse.api.gateway import Gateway
    from roundhouse.api.guard import Guard
    from roundhouse.config.models import Limits
    from roundhouse.dialects.translation import Dialect, Errors, Translation

_REPLACED = frozenset({b"content-length", b"content-type", b"transfer-encoding"})

_ODD = (LookupError, TypeError, AttributeError, ValueError)
"""What a dialect's reading of an answer fails with that has another shape than OpenAI's."""


class Operator(Protocol):
    """Whoever loads and unloads."""

    def require_model(self, caller: Caller, name: str) -> None:
        """Raises UnknownModel or Forbidden unless there is such a model, and the caller may use it."""
        ...

    async def load(self, name: str) -> object:
        """Returns when it is loaded. Raises LoadFailed."""
        ...

    async def unload(self, name: str) -> object:
        """Returns when it is gone."""
        ...


class Translated:
    """Stands before the gateway, for one API.

    Args:
        operator: loads and unloads models.
        limits: of bodies.
    """

    def __init__(
        self, gateway: Gateway, operator: Operator, keys: Keys, guard: Guard, limits: Limits, errors: Errors
    ) -> None:
        self._gateway = gateway
        self._operator = operator
        self._keys = keys
        self._guard = guard
        self._limits = limits
        self._errors = errors

    async def translate(self, scope: Scope, raw: bytes, caller: Caller) -> Translation:
        """A request as an OpenAI request. Raises RouterError."""
        raise NotImplementedError

    def ended(self, translation: Translation, caller: Caller) -> None:
        """An answer has ended, well or not."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        back = _Back(send, self._errors)
        try:
            await self._serve(scope, receive, back)
        except Exception as error:  # noqa: BLE001  # the last resort: no traceback reaches a client (spec A4)
            self._gateway.unexpected(scope["path"], error)
            if not back.begun:
                await send_error(back.send, Unforeseen(), [])

    async def _serve(self, scope: Scope, receive: Receive, back: _Back) -> None:
        try:
            caller = self._keys.identify(scope["headers"], scope["query_string"])
            raw = await self._read(scope, receive, caller)
            translation = await self._understood(scope, raw, caller)
            back.translation = translation
            if translation.before is not None or translation.path is None:
                await self._operate(caller, translation, translation.before)
                await send_whole(back.send, 200, b"", [])
                return
        except RouterError as error:
            await send_error(back.send, error, [])
            return
        asked, route = _scope(scope, self._errors.name, translation), TRANSLATED[translation.path]
        try:
            await self._gateway(asked, _Body(receive, translation.body), back.send, route)
        finally:
            self.ended(translation, caller)
        if translation.after is not None:
            with suppress(RouterError):  # nobody is left to be told
                await self._operate(caller, translation, translation.after)

    async def _understood(self, scope: Scope, raw: bytes, caller: Caller) -> Translation:
        """As `translate`; what is nested deeper than a dialect can follow is refused."""
        try:
            return await self.translate(scope, raw, caller)
        except RecursionError:
            raise BadRequest("The request is nested too deeply.") from None

    async def _operate(self, caller: Caller, translation: Translation, want: Want | None) -> None:
        """Whoever may use a model may have it loaded, as a request for it does; to unload it takes `manage`."""
        caller.require_api(self._errors.name)
        self._operator.require_model(caller, translation.model)
        if want is Want.LOAD:
            await self._operator.load(translation.model)
        elif want is Want.UNLOAD:
            if not caller.anonymous:
                caller.require_manage()
            await self._operator.unload(translation.model)

    async def _read(self, scope: Scope, receive: Receive, caller: Caller) -> bytes:
        """The body, of whom may send one: a stranger's is not even read."""
        self._guard.relay(scope["method"], scope["headers"], caller)
        length, limit = declared_length(scope), self._limits.body
        if length is not None and length > limit:
            raise BodyTooLarge(f"The request body has {say(length)}; the limit is {say(limit)} (limits.body).")
        return await Client(receive).body(limit, self._limits.body_timeout)


class Spoken(Translated):
    """An API whose requests need nothing but themselves to be translated."""

    def __init__(
        self, gateway: Gateway, operator: Operator, keys: Keys, guard: Guard, limits: Limits, dialect: Dialect
    ) -> None:
        super().__init__(gateway, operator, keys, guard, limits, dialect)
        self._dialect = dialect

    async def translate(self, scope: Scope, raw: bytes, caller: Caller) -> Translation:
        """As the dialect does."""
        return self._dialect.translate(scope["path"], dict(scope["headers"]), raw)


def _scope(scope: Scope, api: str, translation: Translation) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name not in _REPLACED]
    headers += [JSON, (b"content-length", b"%d" % len(translation.body))]
    if all(name != b"x-roundhouse-status" for name, _ in headers):
        headers.append((b"x-roundhouse-status", b"event"))  # what becomes of it in this dialect, that knows
    return {**scope, "path": translation.path, "headers": headers, API: api, PATH: scope["path"]}


class _Body:
    """ASGI's `receive` of a request whose body is known; then the client's own, which tells when it leaves."""

    def __init__(self, receive: Receive, body: bytes) -> None:
        self._receive = receive
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}


class _Back:
    """ASGI's `send` that speaks the client's dialect."""

    def __init__(self, send: Send, errors: Errors) -> None:
        self.translation: Translation | None = None
        self._send = send
        self._errors = errors
        self._head: Message = {}
        self._parts: list[bytes] = []
        self._streams = False

    @property
    def begun(self) -> bool:
        """Whether anything was sent that can't be taken back."""
        return bool(self._head)

    async def send(self, message: Message) -> None:
        """Sends on, translated: a stream piece by piece, anything else when it is whole."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._streams:
            await self._stream(message)
        else:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body"):
                await self._whole(b"".join(self._parts))

    async def _begin(self, message: Message) -> None:
        self._head = message
        kind = dict(message["headers"]).get(b"content-type", b"")
        self._streams = message["status"] == 200 and b"event-stream" in kind
        if self._streams and self.translation is not None:
            await self._send({**message, "headers": _with(message, self.translation.content_type)})

    async def _stream(self, message: Message) -> None:
        assert self.translation is not None
        more = bool(message.get("more_body"))
        try:
            out = self.translation.feed(message.get("body", b""))
        except _ODD:
            out = self.translation.feed(b"\n\n" + error_event(_odd_answer()))
        if not more:
            out += self.translation.end()
        if out or not more:
            await self._send({"type": "http.response.body", "body": out, "more_body": more})

    async def _whole(self, body: bytes) -> None:
        status, told = self._told(self._head["status"], body)
        headers = [*_with(self._head, JSON[1]), (b"content-length", b"%d" % len(told))]
        await self._send({**self._head, "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": told, "more_body": False})

    def _told(self, status: int, body: bytes) -> tuple[int, bytes]:
        if status == 200 and self.translation is not None:
            try:
                return status, self.translation.whole(body)
            except _ODD:
                error = _odd_answer()
                return error.status, self._errors.error(error.status, error_fields(error))
        return status, self._errors.error(status, _fields(body))


def _odd_answer() -> RouterError:
    return UpstreamError("The engine's answer is not in the shape of OpenAI's API, so it can't be translated.")


def _with(head: Message, content_type: bytes) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in head["headers"] if name not in _REPLACED]
    return [*kept, (b"content-type", content_type)]


def _fields(body: bytes) -> Mapping[str, Any]:
    """OpenAI's error fields; the gateway's errors always have them."""
    try:
        found: Mapping[str, Any] = orjson.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        return {"message": body.decode(errors="replace"), "type": "server_error", "param": None, "code": None}
    return found
