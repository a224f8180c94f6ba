"""Which errors each route may answer with, for its description: tests/e2e/test_openapi.py holds answers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from roundhouse.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    Conflict,
    Forbidden,
    LoadFailed,
    NoRoom,
    NotFound,
    NotKept,
    NotLoaded,
    QueueFull,
    QueueTimeout,
    RequestCancelled,
    RouterError,
    ShuttingDown,
    TaskRefused,
    TooManyRequests,
    Unauthorized,
    UnknownModel,
    Unsupported,
    UpstreamError,
    UpstreamTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    Errors = frozenset[type[RouterError]]

_BODY: Final[Errors] = frozenset({BadRequest, BodyTooLarge, BodyTooSlow})
_ENGINE: Final[Errors] = frozenset({UpstreamError, UpstreamTimeout})
_LOAD: Final[Errors] = frozenset({LoadFailed, NoRoom, ShuttingDown})
_WAIT: Final[Errors] = frozenset({QueueFull, QueueTimeout, RequestCancelled, TaskRefused})
RELAYED: Final[Errors] = frozenset(
    {Unauthorized, Forbidden, UnknownModel, TooManyRequests, Unsupported, *_BODY, *_LOAD, *_WAIT, *_ENGINE}
)
"""Of what engines answer, beside their own."""
_OPEN: Final = frozenset({"/health", "/api/version"})
"""These take no key."""
_FOR_ALL: Final = frozenset(
    {
        "/metrics", "/models", "/models/sse", "/props", "/v1/models", "/v1/models/{model}", "/api/v1/events",
        "/api/v1/state", "/api/v1/switches", "/api/v1/requests/{id}/why",
    }
)  # fmt: skip
"""Reading these takes a key, but no right of it."""
_MORE: Final[dict[tuple[str, str], Errors]] = {
    ("get", "/api/v1/plan"): frozenset({Conflict}),
    ("post", "/api/v1/plan"): frozenset({Conflict}),
    ("post", "/api/v1/reload"): frozenset({Conflict}),
    ("get", "/api/v1/captures"): frozenset({NotFound}),
    ("post", "/api/v1/keys"): frozenset({Conflict, NotKept}),
    ("delete", "/api/v1/keys/{name}"): frozenset({Conflict, NotKept}),
    ("post", "/api/v1/keys/{name}/rotate"): frozenset({Conflict, NotKept}),
    ("post", "/api/v1/models/{model}/load"): _LOAD,
    ("post", "/api/v1/requests/{id}/cancel"): frozenset({Conflict}),
    ("post", "/api/show"): frozenset({UnknownModel}),
    ("post", "/models/load"): _LOAD | {UnknownModel},
    ("post", "/models/unload"): frozenset({UnknownModel}),
    ("get", "/props"): frozenset({UnknownModel, NotLoaded, Forbidden, TooManyRequests}) | _ENGINE,
}
_REFUSED: Final = frozenset({"/api/pull", "/api/push", "/api/create", "/api/delete", "/api/copy"})


def of(method: str, path: str, operation: Mapping[str, Any]) -> Errors:
    """Errors of one of our own routes; `operation` is its description."""
    if path in _OPEN:
        return frozenset()
    found: set[type[RouterError]] = {Unauthorized}
    if method != "get" or path not in _FOR_ALL:
        found.add(Forbidden)
    if "{model}" in path:
        found.add(UnknownModel)
    elif "{" in path:
        found.add(NotFound)
    if "requestBody" in operation:
        found |= _BODY
    if any(one["in"] == "query" for one in operation.get("parameters", ())):
        found.add(BadRequest)
    if path in _REFUSED:
        found.add(Unsupported)
    return frozenset(found | _MORE.get((method, path), frozenset()))
