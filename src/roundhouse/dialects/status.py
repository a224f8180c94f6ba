"""What a waiting client is told, and how: the literal lines of spec B1 and B3, the channels of B2, their removal (B4).

Pure text and frames. Knows nothing of loads or queues: callers bring the figures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from roundhouse.dialects import sse
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Channel(StrEnum):
    """A way to bring our lines to a client (spec B2; how each looks in the real Open WebUI decides who gets which)."""

    EVENT = "event"
    CONTENT = "content"
    REASONING = "reasoning"
    COMMENT = "comment"
    OFF = "off"


Channels = frozenset[Channel]

AUTO: Final = "auto"
_TERMINALS: Final = re.compile(r"\A(?:curl|wget|httpie|roundhouse-chat)\b", re.IGNORECASE)


# --- the lines ---


def loading(elapsed: float, expected: float, details: Sequence[str] = ()) -> str:
    """`⏳ Loading model... 15s / 180s · smol · 42 %`: seconds so far and seconds this model is expected to need."""
    line = f"⏳ Loading model... {int(elapsed)}s / {max(1, round(expected))}s"
    return " · ".join([line, *(_one_line(detail) for detail in details if detail)])


def ready(seconds: float) -> str:
    """`✓ Model ready! (42s)`: what the load took."""
    return f"✓ Model ready! ({round(seconds)}s)"


def failed(reason: str) -> str:
    """`✗ Loading failed: …` with the engine's own last words."""
    return f"✗ Loading failed: {_one_line(reason)}"


def performance(tokens: int, seconds: float) -> str:
    """`[Performance: 45.2 tok/s | 128 tokens in 2.83s]`; `seconds` of generation, more than 0.

    Very short times get more digits, so that the three figures still agree.
    """
    shown = f"{seconds:.2f}" if seconds >= 0.1 else f"{seconds:.4f}"
    return f"[Performance: {tokens / seconds:.1f} tok/s | {tokens} tokens in {shown}s]"


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- channels ---


def choose_channels(
    *,
    header: str | None,
    key: str | None,
    model: str | None,
    config: str,
    user_agent: str,
    streams: bool,
    chat: bool,
    text_allowed: bool,
) -> Channels:
    """Where status goes for one request: the first of header, key, model and config that says something (spec B2).

    Args:
        header: X-Roundhouse-Status.
        key: the setting of the API key.
        model: the setting of the model.
        config: the general setting.
        user_agent: tells terminals from others, for `auto`.
        streams: the client asked for a stream; without one there is nothing to put status in.
        chat: a chat completion; other streams only get comments.
        text_allowed: none of B4's reasons against `content` applies; where one does, `content` becomes `event`.

    Raises:
        BadRequest: the header names no channel.
    """
    asked = header.strip().lower() if header else key or model or config
    channels = _named(asked, user_agent)
    if not streams or channels == {Channel.OFF}:
        return frozenset()
    if not chat:
        return frozenset({Channel.COMMENT})
    if Channel.CONTENT in channels and not text_allowed:
        return (channels - {Channel.CONTENT}) | {Channel.EVENT}
    return channels


def _named(asked: str, user_agent: str) -> Channels:
    if asked == AUTO:
        return frozenset({Channel.EVENT, Channel.CONTENT} if _TERMINALS.match(user_agent) else {Channel.EVENT})
    try:
        return frozenset({Channel(asked)})
    except ValueError:
        names = ", ".join([AUTO, *Channel])
        raise BadRequest(f"X-Roundhouse-Status is {asked!r}; it can be {names}.") from None


def performance_channels(setting: str, channels: Channels, *, text_allowed: bool) -> Channels:
    """Where the performance line goes. `setting` is auto (with the status), content, usage or off."""
    if setting == AUTO:
        return channels - {Channel.REASONING}
    if setting == "content" and text_allowed:
        return frozenset({Channel.CONTENT})
    return frozenset()


# --- frames ---


@dataclass(frozen=True, slots=True)
class Frames:
    """Makes valid chat chunks around our lines, all with one id (`chatcmpl-…`), Unix time and model name."""

    id: str
    created: int
    model: str

    def chunk(self, delta: Mapping[str, object], **extra: object) -> bytes:
        """One chunk with that delta and no end; `extra` are top-level fields."""
        return sse.encode(
            {
                "id": self.id,
                "object": "chat.completion.chunk",
                "created": self.created,
                "model": self.model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
                **extra,
            }
        )

    def status(self, channels: Channels, line: str, *, done: bool) -> bytes:
        """A status line on each of the channels; `done` for the last one (ready or failed).

        In `content`, each line ends in a newline, and the last in two (spec B4).
        """
        text = line + ("\n\n" if done else "\n")
        frames: list[bytes] = []
        if Channel.COMMENT in channels:
            frames.append(sse.comment(line))
        if Channel.EVENT in channels:
            frames.append(self.chunk({}, event=event(line, done=done)))
        if Channel.REASONING in channels:
            frames.append(self.chunk({"reasoning_content": text}))
        if Channel.CONTENT in channels:
            frames.append(self.chunk({"content": text}))
        return b"".join(frames)


def event(line: str, *, done: bool) -> dict[str, object]:
    """What Open WebUI shows live over the answer, when a chunk has it as its `event` key."""
    return {"type": "status", "data": {"description": line, "done": done}}


# --- removal from history ---

_LOADING: Final = r"⏳ Loading model\.\.\. \d+s / \d+s(?: · [^\n]*)?(?:\n|\Z)"
_END: Final = r"(?:✓ Model ready! \(\d+s\)|✗ Loading failed: [^\n]*)(?:\n{1,2}|\Z)"
_AT_START: Final = re.compile(rf"\A(?:{_LOADING})*(?:{_END})?")
_AT_END: Final = re.compile(
    r"(?:\A\n{0,2}|\n\n)\[Performance: \d+\.\d tok/s \| \d+ tokens in \d+\.\d+s\]\n?\Z"
)  # \A: a client may have trimmed an answer that was nothing but the line
_MARKS: Final = (b"Loading model... ", b"Model ready! (", b"Loading failed: ", b"[Performance: ")


def scrub(text: str) -> str:
    """The text without our lines at its start and end; the same lines in the middle stay (spec B4)."""
    return _AT_END.sub("", _AT_START.sub("", text, count=1), count=1)


def may_hold_lines(raw: bytes) -> bool:
    """Whether a request body can hold lines of ours at all: a quick look that spares the rest."""
    return any(mark in raw for mark in _MARKS)


def scrub_messages(messages: Sequence[Any]) -> list[Any] | None:
    """The messages with our lines removed from the assistant's; None when there were none."""
    scrubbed = [_scrub_message(message) for message in messages]
    return scrubbed if scrubbed != list(messages) else None


def _scrub_message(message: Any) -> Any:  # noqa: ANN401 - whatever JSON the client sent
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    changed = {
        key: scrub(message[key]) for key in ("content", "reasoning_content") if isinstance(message.get(key), str)
    }
    if isinstance(message.get("content"), list):
        changed["content"] = _scrub_parts(message["content"])
    return {**message, **changed}


def _scrub_parts(parts: list[Any]) -> Any:  # noqa: ANN401 - the same list, as JSON
    """Our lines are at the start of the first text part and at the end of the last."""
    texts = [index for index, part in enumerate(parts) if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if not texts:
        return parts
    result = list(parts)
    for index, pattern in ((texts[0], _AT_START), (texts[-1], _AT_END)):
        result[index] = {**result[index], "text": pattern.sub("", result[index]["text"], count=1)}
    return result
