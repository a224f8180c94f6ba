"""Which paths are relayed, as what, and to where; every other path belongs to the admin application.

Relay routes are found by one look into a table and served as plain ASGI, so that no body is parsed and rebuilt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.api.reply import send_error
from roundhouse.core.model import Kind
from roundhouse.dialects.openai import Operation
from roundhouse.errors import MethodNotAllowed

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from roundhouse.api.gateway import Gateway
    from roundhouse.runtime.effects import Runnable


@dataclass(frozen=True, slots=True)
class Route:
    """One relayed path: what it asks for, and the path it has at the engine."""

    operation: Operation
    upstream_path: str
    kinds: frozenset[Kind] = frozenset(Kind)
    needs: str = ""

    def fits(self, runnable: Runnable, kind: Kind) -> bool:
        """Whether a model of that kind can answer; engines of others ('openai') are asked whatever we believe."""
        return kind in self.kinds or runnable.engine.name == "openai"


_CHAT = frozenset({Kind.CHAT})
_EMBEDDING = frozenset({Kind.EMBEDDING})

ROUTES: dict[str, Route] = {
    "/v1/chat/completions": Route(Operation.CHAT, "/v1/chat/completions", _CHAT, "it needs a chat model"),
    "/v1/completions": Route(Operation.COMPLETION, "/v1/completions", _CHAT, "it needs a chat model"),
    "/v1/embeddings": Route(Operation.EMBEDDING, "/v1/embeddings", _EMBEDDING, "it needs an embedding model"),
    "/tokenize": Route(Operation.OTHER, "/tokenize"),
    "/detokenize": Route(Operation.OTHER, "/detokenize"),
}
ROUTES |= {path.removeprefix("/v1"): route for path, route in ROUTES.items() if path.startswith("/v1/")}


class Router:
    """The ASGI application: relay routes to the gateway, the rest to `admin`."""

    def __init__(self, gateway: Gateway, admin: ASGIApp) -> None:
        self._gateway = gateway
        self._admin = admin

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
        await self._admin(scope, receive, send)
