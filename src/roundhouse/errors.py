"""What can go wrong, as values: each error knows its HTTP status, code and what the user should do next.

Dialects render them in the shape of their API (spec A4); nothing here knows HTTP beyond the numbers.
"""

from __future__ import annotations


class RouterError(Exception):
    """Base of every error that may reach a client.

    Args:
        message: one or two sentences for the user: what happened, to which model, what to do next. Never a secret.
        retry_after: seconds after which trying again makes sense; becomes `Retry-After`.
        param: the request field at fault, as OpenAI's `error.param`.
    """

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"

    def __init__(self, message: str, *, retry_after: float | None = None, param: str | None = None) -> None:
        # What a client sent may be quoted in it, and a path that is no UTF-8 has letters that can't be written.
        self.message = message.encode("utf-8", "replace").decode()
        super().__init__(self.message)
        self.retry_after = retry_after
        self.param = param


class Unforeseen(RouterError):
    """An exception that nobody foresaw: all that its client is told of it."""

    def __init__(self) -> None:
        super().__init__("Roundhouse made a mistake; its log has the details.")


class ConfigError(RouterError):
    """The configuration can't be used. `message` names file, line and remedy."""

    code = "bad_configuration"


class BadRequest(RouterError):
    """The request itself is wrong; sending it again won't help."""

    status = 400
    type = "invalid_request_error"
    code = "bad_request"


class Unauthorized(RouterError):
    """No key, or one that is not known."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RouterError):
    """A known key that may not do this, or a cross-site browser request."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class UnknownModel(RouterError):
    """No model of that name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class NotFound(RouterError):
    """No such path or object."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Conflict(RouterError):
    """It does not go with what there is."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class NotKept(RouterError):
    """What was to be changed could not be written to the disk."""

    status = 503
    code = "not_kept"


class MethodNotAllowed(RouterError):
    """The path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class BodyTooLarge(RouterError):
    """The request body is over `limits.body`."""

    status = 413
    type = "invalid_request_error"
    code = "body_too_large"


class BodyTooSlow(RouterError):
    """The client stopped sending in the middle of its request."""

    status = 408
    type = "timeout_error"
    code = "request_timeout"


class TooManyRequests(RouterError):
    """A limit of the caller's own key is reached."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Unsupported(RouterError):
    """The model's engine can't do this."""

    status = 501
    type = "invalid_request_error"
    code = "not_supported"


class QueueFull(RouterError):
    """Too many requests are waiting already."""

    status = 503
    type = "overloaded_error"
    code = "queue_full"


class LoadFailed(RouterError):
    """The model could not be loaded; the message holds the engine's own last words."""

    status = 503
    type = "server_error"
    code = "model_load_failed"


class NotLoaded(RouterError):
    """A look at a model's engine, for which nothing is loaded."""

    status = 503
    type = "server_error"
    code = "model_not_loaded"


class NoRoom(LoadFailed):
    """The model does not fit, now or ever; the message names sizes and holders."""

    code = "not_enough_memory"


class TaskRefused(RouterError):
    """A background task that would have needed a switch (spec D7)."""

    status = 503
    type = "server_error"
    code = "task_refused"


class ShuttingDown(RouterError):
    """Roundhouse is ending."""

    status = 503
    type = "server_error"
    code = "shutting_down"


class QueueTimeout(RouterError):
    """Waited longer than `scheduling.queue.timeout` while no load was under way."""

    status = 504
    type = "timeout_error"
    code = "queue_timeout"


class RequestCancelled(RouterError):
    """An operator ended the request. The status is one that no client tries again for."""

    status = 499
    type = "invalid_request_error"
    code = "request_cancelled"
    SAID = "This request was cancelled by an operator"
    """How its message begins, which is what the history tells it by."""

    def __init__(self, by: str) -> None:
        """`by`: the name of the operator's key, '' where there are no keys."""
        key = f" (key '{by}')" if by else ""
        super().__init__(f"{self.SAID}{key}.")


class UpstreamError(RouterError):
    """The engine did not answer as an HTTP server should: refused, died, or spoke nonsense."""

    status = 502
    type = "server_error"
    code = "engine_error"


class UpstreamTimeout(UpstreamError):
    """The engine did not answer in time."""

    status = 504
    type = "timeout_error"
    code = "engine_timeout"
