"""`/openapi.json`: what FastAPI says of our own routes, and the relayed ones beside it, which it does not know.

Bodies are described as loosely as they are: engines take parameters that we don't know, and get them. Every error has
one shape per API. The statuses that Roundhouse gives are listed for each operation (`statuses`); `default` is for what
it passes on from an engine, and for its own mistakes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from roundhouse.api.media import PATHS as MEDIA
from roundhouse.api.routes import ROUTES
from roundhouse.api.statuses import RELAYED, of
from roundhouse.dialects import anthropic, ollama, responses
from roundhouse.dialects.openai import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastapi import FastAPI

    from roundhouse.errors import RouterError

    Described = dict[str, Any]


class _Told(NamedTuple):
    """What a path is, its fields beside `model`, what a stream is ('' for none), whose errors it has."""

    what: str
    fields: dict[str, Described]
    stream: str = ""
    errors: str = ""


JSON, SSE, NDJSON, FORM = "application/json", "text/event-stream", "application/x-ndjson", "multipart/form-data"
_TEXT: Final[Described] = {"type": "string"}
_OBJECT: Final[Described] = {"type": "object"}
_LIST: Final[Described] = {"type": "array", "items": _OBJECT}
_MODEL: Final[Described] = {
    "type": "string",
    "minLength": 1,
    "description": "Id or alias of a model; `GET /v1/models` lists them.",
}
_STREAM: Final[Described] = {"type": "boolean", "description": "Whether the answer comes in pieces."}
SCHEMAS: Final[dict[str, Described]] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string", "description": "What happened, to which model, and what to do."},
                    "type": _TEXT,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": _TEXT, "message": _TEXT},
            },
        },
    },
    "OllamaError": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
}
_TURNS: Final[Described] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": ["user", "assistant"]}, "content": {"oneOf": [_TEXT, _LIST]}},
    },
}
"""Anthropic's messages, which are taken apart here."""
_TEXT_OR_LIST: Final[Described] = {"oneOf": [_TEXT, {"type": "array"}]}
_FIELDS: Final[dict[Operation, dict[str, Described]]] = {
    Operation.CHAT: {"messages": _LIST},
    Operation.COMPLETION: {"prompt": _TEXT_OR_LIST},
    Operation.EMBEDDING: {"input": _TEXT_OR_LIST},
    Operation.RERANK: {"query": _TEXT, "documents": {"type": "array"}},
}
_ANY: Final[Described] = {}
_ENGINES: Final = "Engine"
"""Errors may be the engine's own, as it has them."""
_STREAMED = {Operation.CHAT, Operation.COMPLETION, Operation.NATIVE}
_OTHERS: Final[dict[str, _Told]] = {
    anthropic.MESSAGES: _Told(
        "Anthropic's Messages",
        {"messages": _TURNS, "max_tokens": {"type": "integer", "minimum": 1}},
        SSE,
        "Anthropic",
    ),
    anthropic.COUNT: _Told("Tokens of an Anthropic request", {"messages": _LIST}, "", "Anthropic"),
    responses.PATH: _Told("OpenAI's Responses", {"input": _TEXT_OR_LIST}, SSE),
    ollama.CHAT: _Told("Ollama's chat", {"messages": _LIST}, NDJSON, "Ollama"),
    ollama.GENERATE: _Told("Ollama's completion", {"prompt": _TEXT}, NDJSON, "Ollama"),
    ollama.EMBED: _Told("Ollama's embeddings", {"input": _TEXT_OR_LIST}, "", "Ollama"),
    ollama.EMBEDDINGS: _Told("Ollama's embeddings of one text, the older form", {"prompt": _TEXT}, "", "Ollama"),
}
_TYPES: Final = {
    "/metrics": "text/plain",
    "/api/v1/events": SSE,
    "/api/v1/models/{model}/log": "text/plain",
    "/models/sse": SSE,
}
"""What is no JSON of our own routes."""
_NAME: Final[dict[str, Described]] = {"model": _MODEL}
_BODIES: Final[dict[str, dict[str, Described]]] = {
    "/api/show": _NAME,
    "/api/v1/keys": {"name": {"type": "string", "description": "The rest is as in `keys:` of the configuration."}},
    "/api/v1/plan": {"text": {"type": "string", "description": "YAML, looked at in place of the file's."}},
    "/models/load": _NAME,
    "/models/unload": _NAME,
}
"""Bodies that our own routes read themselves, when they know who asks; all fields are required, others may be there."""


def describe(app: FastAPI) -> None:
    """Has the application's description tell of the relayed routes too, and of errors as they are."""
    plain: Callable[[], Described] = app.openapi

    def whole() -> Described:
        if app.openapi_schema is None:
            found = plain()
            _own(found)
            found["paths"] |= relayed()
            parts = found.setdefault("components", {})
            parts["schemas"] = SCHEMAS
            parts["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer", "description": "Where keys are configured."}
            }
            found["security"] = [{}, {"key": []}]
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]  # as FastAPI's documentation does it


def relayed() -> dict[str, Described]:
    """The paths that engines answer; those that are also served without `/v1` are told once."""
    found = {}
    for path, route in ROUTES.items():
        if f"/v1{path}" not in ROUTES:
            what = f"{str(route.operation).capitalize()}: answered by the model's engine"
            stream = SSE if route.operation in _STREAMED else ""
            found[path] = _operation(path, _Told(what, _FIELDS.get(route.operation, {}), stream), _ANY)
    found |= {path: _operation(path, other, _OBJECT) for path, other in _OTHERS.items()}
    for path in sorted(path for path in MEDIA if path.startswith("/v1/")):
        found[path] = _operation(path, _Told("Passed to the model's engine", {}, "*/*", _ENGINES), _ANY, FORM)
    return found


def _operation(path: str, told: _Told, answer: Described, *kinds: str) -> Described:
    """One POST. `answer` is what it is when it comes whole, `kinds` of bodies are taken beside JSON."""
    body: Described = {
        "type": "object",
        # Ollama's model is loaded by a request that asks nothing of it.
        "required": ["model"] if told.errors == "Ollama" else ["model", *told.fields],
        "properties": {"model": _MODEL, **told.fields, **({"stream": _STREAM} if told.stream else {})},
        "additionalProperties": True,
    }
    answers: dict[str, Described] = {JSON: {"schema": answer}}
    if told.stream:
        answers[told.stream] = {"schema": _ANY}  # of one event or line, whose forms are the API's own
    return {
        "post": {
            "tags": ["engines"],
            "summary": told.what,
            "operationId": "post" + "".join(part.capitalize() for part in re.split("[/_-]", path)),
            "requestBody": {"required": True, "content": {kind: {"schema": body} for kind in (JSON, *kinds)}},
            "responses": {"200": {"description": "The answer", "content": answers}} | _errors(RELAYED, told.errors),
        }
    }


def _own(found: Described) -> None:
    """Our own routes: errors in our shape in place of FastAPI's 422, bodies that FastAPI does not read."""
    for path, operations in found["paths"].items():
        whose = "Ollama" if path.startswith("/api/") and not path.startswith("/api/v1/") else ""
        for method, operation in operations.items():
            answers = operation["responses"]
            if answers.get("422", {}).get("description") == "Validation Error":
                del answers["422"]
            if method == "post" and path in _BODIES:
                schema = {"type": "object", "required": list(_BODIES[path]), "properties": _BODIES[path]}
                operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
            operation["responses"] = answers | _errors(of(method, path, operation), whose)
            if (kind := _TYPES.get(path)) is not None:
                answers["200"]["content"] = {kind: {"schema": _ANY if kind == SSE else _TEXT}}


def _errors(errors: Iterable[type[RouterError]], whose: str) -> dict[str, Described]:
    """By status what each error means, and `default`."""
    schema = _ANY if whose == _ENGINES else {"$ref": f"#/components/schemas/{whose}Error"}
    meant: dict[int, list[str]] = {}
    for error in sorted(errors, key=lambda error: (error.status, error.code)):
        meant.setdefault(error.status, []).append(f"`{error.code}`: {(error.__doc__ or '').partition(chr(10))[0]}")
    told = {str(status): "\n\n".join(words) for status, words in meant.items()}
    told["default"] = "Errors of the engine, as it has them, or a mistake of Roundhouse's own (`internal_error`)"
    return {status: {"description": words, "content": {JSON: {"schema": schema}}} for status, words in told.items()}
