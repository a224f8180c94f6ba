"""Errors in OpenAI's shape: ours rendered, and every engine's own shape turned into it (spec A4).

Shapes seen on the wire: llama.cpp and vLLM `{"error": {...}}`, SGLang flat `{"object": "error", ...}`, TabbyAPI
`{"detail": ...}` and `{"error": {"message", "trace"}}`, and text/plain from a crashed handler.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.dialects import sse
from roundhouse.errors import RouterError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_TEXT: Final = 2000
_MARKUP: Final = re.compile(r"<[^>]*>")
# OpenAI's words where engines have their own, or none: by HTTP status.
_BY_STATUS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "bad_request"),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    413: ("invalid_request_error", "body_too_large"),
    422: ("invalid_request_error", "bad_request"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    501: ("invalid_request_error", "not_supported"),
    503: ("server_error", "engine_unavailable"),
    504: ("timeout_error", "engine_timeout"),
}
_CODES: Final[Mapping[str, str]] = {"exceed_context_size_error": "context_length_exceeded"}


def error_fields(error: RouterError) -> dict[str, Any]:
    """`{"message", "type", "param", "code"}` of an error of ours."""
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def error_body(error: RouterError) -> bytes:
    """The JSON body of an error of ours."""
    return orjson.dumps({"error": error_fields(error)})


def error_event(error: RouterError) -> bytes:
    """The same as an event, for a stream that has begun."""
    return sse.encode({"error": error_fields(error)})


def normalise_error(status: int, answer: bytes) -> bytes:
    """An engine's error body in OpenAI's shape; `status` is its HTTP status, which stays."""
    return orjson.dumps({"error": _fields(status, _parsed(answer))})


def upstream_error(status: int, answer: bytes) -> RouterError:
    """The same as an error of ours, with the engine's status."""
    return _as_error(status, _fields(status, _parsed(answer)))


def is_error(chunk: Mapping[str, Any]) -> bool:
    """Whether a parsed event of a stream says that the answer failed."""
    return bool(chunk.get("error")) or chunk.get("object") == "error"


def chunk_error(chunk: Mapping[str, Any]) -> tuple[RouterError, bytes]:
    """An error event of an engine's stream: as an error, and as an event in OpenAI's shape."""
    found = chunk.get("error")
    told = (found if isinstance(found, dict) else chunk).get("code")
    status = told if isinstance(told, int) and 400 <= told < 600 else UpstreamError.status
    fields = _fields(status, chunk)
    return _as_error(status, fields), sse.encode({"error": fields})


def _parsed(answer: bytes) -> object:
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError:
        return _MARKUP.sub(" ", answer[: 4 * _LONGEST_TEXT].decode(errors="replace"))


def _fields(status: int, found: object) -> dict[str, Any]:
    """OpenAI's four fields, and whatever else the engine told inside its `error` (llama.cpp's n_ctx, for one)."""
    told = _told(found)
    usual_type, usual_code = _BY_STATUS.get(
        status, ("invalid_request_error", "bad_request") if status < 500 else ("server_error", "engine_error")
    )
    kind, code = told.pop("type", None), told.pop("code", None)
    message = str(told.pop("message", "") or "").strip()[:_LONGEST_TEXT]
    told.pop("trace", None)  # TabbyAPI: a stack trace of the server, no business of the client's
    told.pop("object", None)
    return {
        "message": message or f"The engine answered with status {status} and no explanation.",
        # Class names (vLLM's "BadRequestError") are not OpenAI's types; snake_case ones may be.
        "type": kind if isinstance(kind, str) and kind.endswith("_error") else usual_type,
        "param": told.pop("param", None),
        "code": code if isinstance(code, str) else _CODES.get(str(kind), usual_code),
        **told,
    }


def _told(found: object) -> dict[str, Any]:
    match found:
        case {"error": dict(error)}:
            return dict(error)
        case {"error": str(message)} | {"detail": str(message)} | str(message):
            return {"message": " ".join(message.split())}
        case {"detail": list(details)}:
            return {"message": "; ".join(_validation(detail) for detail in details)}
        case {"message": message, **others}:
            return {"message": message} | {key: others[key] for key in ("type", "param", "code") if key in others}
        case _:
            return {}


def _validation(detail: object) -> str:
    """FastAPI's `{"loc": ["body", "x"], "msg": "..."}` as `body.x: ...`."""
    match detail:
        case {"loc": list(where), "msg": str(what)}:
            return f"{'.'.join(map(str, where))}: {what}"
        case _:
            return str(detail)


def _as_error(status: int, fields: Mapping[str, Any]) -> RouterError:
    error = UpstreamError(fields["message"], param=fields["param"])
    error.status, error.type, error.code = status, fields["type"], fields["code"]
    return error
