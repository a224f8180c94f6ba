"""What another API's dialect has to say of a request, so that it becomes an OpenAI request and its answer comes back.

A request is translated once, before anything else looks at it, and its answer on the last step to the client: status,
turns, relaying and books know OpenAI's shapes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.core.model import Want


class Translation(Protocol):
    """One request, and the way back of its answer.

    Attributes:
        path: the route that it becomes; None where `whole` knows the answer without asking anybody.
        body: the OpenAI request.
        content_type: of a streamed answer.
        model: its name.
        before: what is done instead of asking it: it is loaded or unloaded. `whole` is given no body then.
        after: what is done when the answer has ended.
    """

    path: str | None
    body: bytes
    content_type: bytes
    model: str
    before: Want | None
    after: Want | None

    def feed(self, data: bytes) -> bytes:
        """Takes pieces of OpenAI's event stream, cut anywhere, and gives what the client gets now.

        Status comes as chunks with an `event` key, errors as events with an `error`, the end as `[DONE]`.
        """
        ...

    def end(self) -> bytes:
        """The stream has ended: what is still to come."""
        ...

    def whole(self, body: bytes) -> bytes:
        """A good answer in one piece."""
        ...


class Errors(Protocol):
    """How an API tells of errors.

    Attributes:
        name: of the API, as keys name it in `apis:`.
    """

    name: str

    def error(self, status: int, fields: Mapping[str, Any]) -> bytes:
        """The body of an error known before the first byte; `fields` are OpenAI's message, type, param, code."""
        ...


class Dialect(Errors, Protocol):
    """One API whose requests need nothing but themselves to be translated."""

    def translate(self, path: str, headers: Mapping[bytes, bytes], raw: bytes) -> Translation:
        """A request to `path`. Raises BadRequest in words."""
        ...
