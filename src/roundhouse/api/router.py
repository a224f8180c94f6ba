"""The ASGI application: relay routes go to the gateway, every other path to the admin application.

Relay routes are found by one look into a table and served as plain ASGI, so that no body is parsed and rebuilt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.api.engine_paths import PREFIX, QUERIED, parameter
from roundhouse.api.reply import send_error
from roundhouse.api.routes import ROUTES
from roundhouse.errors import MethodNotAllowed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from roundhouse.api.gateway import Gateway


class Router:
    """The ASGI application: relay routes to the gateway, the rest to `admin`."""

    def __init__(
        self, gateway: Gateway, admin: ASGIApp, others: Mapping[str, ASGIApp], passed: ASGIApp, sockets: ASGIApp
    ) -> None:
        """Makes it.

        Args:
            gateway: serves relay routes.
            admin: serves what nobody else does.
            others: other APIs, by the paths of their POST requests.
            passed: serves what is passed to engines.
            sockets: serves the WebSockets among it.
        """
        self._gateway = gateway
        self._admin = admin
        self._others = others
        self._passed = passed
        self._sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http":
            route = ROUTES.get(scope["path"])
            if route is not None:
                if scope["method"] == "POST":
                    await self._gateway(scope, receive, send, route)
                    return
                if scope["method"] != "OPTIONS":
                    error = MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}.")
                    await send_error(send, error, [(b"allow", b"POST")])
                    return
            if _is_passed(scope):
                await self._passed(scope, receive, send)
                return
            other = self._others.get(scope["path"])
            if other is not None and scope["method"] == "POST":
                await other(scope, receive, send)
                return
        elif scope["type"] == "websocket" and scope["path"].startswith(PREFIX):
            await self._sockets(scope, receive, send)
            return
        await self._admin(scope, receive, send)


def _is_passed(scope: Scope) -> bool:
    """Whether an engine's own path is asked for; of `/props` without a model, our own answer is meant."""
    if scope["path"].startswith(PREFIX):
        return True
    if scope["path"] not in QUERIED or scope["method"] not in {"GET", "HEAD"}:
        return False
    return scope["path"] != "/props" or bool(parameter(scope["query_string"], "model"))
