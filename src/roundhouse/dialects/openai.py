"""OpenAI requests: what the router must know of one, and the body its engine gets.

Owns the field names of the OpenAI API that matter to routing. Knows no model, no engine, and nothing of answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import orjson

from roundhouse.dialects import body, chores, status
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What the router itself decides for every request; `set` and `strip` have no say in it.
_OURS: Final = ("model", "stream", "stream_options")


class Operation(StrEnum):
    """What a request asks for; decided by its path."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    NATIVE = "native completion"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the router needs to know of a JSON request that names a model.

    Attributes:
        raw: the body as it came.
        fields: the body as parsed; never sent on.
        model: the name the client asked for.
        include_usage: the client asked for `stream_options.include_usage`.
        choices: how many choices the answer has (`n`, times the prompts of a text completion).
        plain_text: none of spec B4's reasons speaks against text of ours in the answer (tasks apart).
        task: the name of the background task that a chat is by its shape (`chores`, spec D7); '' if it is none.
    """

    raw: bytes
    fields: Mapping[str, Any]
    operation: Operation
    model: str
    stream: bool
    include_usage: bool
    choices: int
    plain_text: bool
    task: str

    @property
    def messages(self) -> Sequence[Any]:
        """The chat's messages; empty where there are none."""
        found = self.fields.get("messages")
        return found if isinstance(found, list) else ()


_BEFORE_MESSAGES: Final = ("tools", "functions", "documents", "chat_template_kwargs", "reasoning_effort", "lora")
"""Fields that change what stands before a chat's messages in its prompt, or what is computed for it."""


def prompt_of(request: ChatRequest) -> bytes | None:
    """Bytes that begin alike where two prompts do, without lines of ours; None where there is no one text.

    They are no prompt: only its engine knows how that is written.
    """
    fields = request.fields
    if request.operation in {Operation.COMPLETION, Operation.NATIVE}:
        prompt = fields.get("prompt")
        return prompt.encode("utf-8", "replace") if isinstance(prompt, str) else None
    if not request.messages:
        return None
    messages = status.scrub_messages(request.messages) if status.may_hold_lines(request.raw) else None
    head = {key: fields[key] for key in _BEFORE_MESSAGES if fields.get(key)}
    try:
        # Without its last bracket a chat's text goes on where its next turn does.
        return orjson.dumps(head) + orjson.dumps(messages or request.messages)[:-1]
    except TypeError:  # nested deeper than can be written
        return None


def peek(raw: bytes, operation: Operation = Operation.CHAT, *, model: str | None = None) -> ChatRequest:
    """Reads a request body; `model` is the name found elsewhere (path or query) and used where the body has none.

    Fields that only the engine cares about are not checked: the engine says what is wrong with them.

    Raises:
        BadRequest: not a JSON object, no model, or `stream` is no boolean.
    """
    fields = body.RequestBody.parse(raw).fields
    stream = fields.get("stream")
    if not isinstance(stream, bool | None):
        raise BadRequest("stream must be true or false.", param="stream")
    options = fields.get("stream_options")
    return ChatRequest(
        raw=raw,
        fields=fields,
        operation=operation,
        model=_model(fields, model),
        stream=bool(stream),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        choices=_choices(fields),
        plain_text=bool(stream) and operation is Operation.CHAT and not _is_for_a_program(fields),
        task=chores.recognised(fields) if operation is Operation.CHAT else "",
    )


def _model(fields: Mapping[str, Any], elsewhere: str | None) -> str:
    model = fields.get("model", elsewhere)
    if isinstance(model, str) and model:
        return model
    if model is None or model == "":
        raise BadRequest('The request names no model. Add "model"; GET /v1/models lists them.', param="model")
    raise BadRequest("model must be a string.", param="model")


def _choices(fields: Mapping[str, Any]) -> int:
    n, prompt = fields.get("n"), fields.get("prompt")
    each = n if isinstance(n, int) and n > 0 else 1
    # A list of texts or of token lists is many prompts; a list of numbers is one.
    many = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    return each * len(prompt) if many and isinstance(prompt, list) else each


def _is_for_a_program(fields: Mapping[str, Any]) -> bool:
    """Text of ours would break what reads the answer: structured output, logprobs, several choices, a sure tool call.

    Tools alone do not count: Open WebUI always sends 36 of them, and which answer becomes a call is not known before.
    """
    shape = fields.get("response_format")
    structured = isinstance(shape, dict) and shape.get("type") != "text"
    grammar = any(fields.get(key) for key in ("json_schema", "grammar", "guided_json", "structured_outputs"))
    choice = fields.get("tool_choice")
    sure_call = choice == "required" or isinstance(choice, dict)
    return structured or grammar or sure_call or bool(fields.get("logprobs")) or _choices(fields) > 1


def prepare(
    request: ChatRequest,
    *,
    served_name: str,
    stream_upstream: bool = False,
    default_params: Mapping[str, object] | None = None,
    set_params: Mapping[str, object] | None = None,
    strip_params: Sequence[str] = (),
) -> bytes:
    """The body for the engine: the client's bytes, with only what must differ spliced in.

    Args:
        request: what the client asked.
        served_name: what the engine calls the model (spec A5).
        stream_upstream: the answer is streamed from the engine although the client wants it whole (spec A8).
        default_params: fill in what the client left out (aliases with defaults).
        set_params: win over whatever the client sent.
        strip_params: are removed from what the client sent.

    None of the three has a say in `model`, `stream` and `stream_options`.
    """
    changes: dict[str, bytes | None] = dict.fromkeys(strip_params)
    for key, value in (default_params or {}).items():
        if key not in request.fields or key in strip_params:
            changes[key] = orjson.dumps(value)
    changes.update((key, orjson.dumps(value)) for key, value in (set_params or {}).items())
    for key in _OURS:
        changes.pop(key, None)
    changes.update(_needed(request, served_name, stream_upstream=stream_upstream))
    return body.edit(request.raw, changes) if changes else request.raw


def _needed(request: ChatRequest, served_name: str, *, stream_upstream: bool) -> dict[str, bytes | None]:
    """The router's own changes: model, history, and for streams the usage that spec B6 always asks for."""
    changes: dict[str, bytes | None] = {}
    name = orjson.dumps(served_name)
    if request.fields.get("model") != served_name:
        changes["model"] = name
    if request.operation is Operation.CHAT and status.may_hold_lines(request.raw):
        scrubbed = status.scrub_messages(request.messages)
        if scrubbed is not None:
            changes["messages"] = body.written(scrubbed, "messages")
    if request.stream or stream_upstream:
        changes.update(_streaming(request))
    return changes


def _streaming(request: ChatRequest) -> dict[str, bytes | None]:
    changes: dict[str, bytes | None] = {} if request.stream else {"stream": b"true"}
    if request.operation is Operation.NATIVE:
        return changes
    found = request.fields.get("stream_options")
    options = found if isinstance(found, dict) else {}
    # Usage goes to the client once and last (spec B3), so the engine need not repeat it with every chunk.
    wanted = {**options, "include_usage": True}
    wanted.pop("continuous_usage_stats", None)
    if wanted != options:
        changes["stream_options"] = body.written(wanted, "stream_options")
    return changes
