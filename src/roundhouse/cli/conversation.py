"""One streamed chat answer as pieces: what is status, what reasoning, what the answer itself. Prints nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from roundhouse.cli.client import events
from roundhouse.cli.exits import Failed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from roundhouse.cli.client import Client

PATH = "/v1/chat/completions"
EVENT_CHANNEL = {"x-roundhouse-status": "event"}
"""Asks for status beside the answer, not in it: so it can be replaced on the screen, and stays out of the history."""

Message = dict[str, str]


class Kind(StrEnum):
    """What a piece is."""

    STATUS = "status"
    READY = "ready"
    REASONING = "reasoning"
    TEXT = "text"
    PERFORMANCE = "performance"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer, in the order of arrival."""

    kind: Kind
    text: str


def answer(client: Client, model: str, messages: list[Message]) -> Generator[Piece]:
    """Asks, and yields the answer as it comes. Closing the iterator ends the request, and with it the generation.

    Raises:
        Failed, NotRunning, Refused: before the answer, or in the middle of it.
    """
    body = {"model": model, "messages": messages, "stream": True}
    with client.open("POST", PATH, body, EVENT_CHANNEL) as response:
        for _, data in events(response):
            if data == "[DONE]":
                return
            yield from pieces(data)
    raise Failed("The answer ended before its end; the connection was closed.")


def whole(client: Client, model: str, messages: list[Message]) -> Any:  # noqa: ANN401 - the API's JSON as it is
    """Asks without a stream: the API's own object. Raises Failed, NotRunning, Refused."""
    return client.post(PATH, {"model": model, "messages": messages})


def pieces(data: str) -> Iterator[Piece]:
    """What one event of the stream holds. Raises Failed if it is an error."""
    try:
        chunk = json.loads(data)
    except ValueError:
        raise Failed("The answer holds something that is no JSON.") from None
    if "error" in chunk:
        raise Failed(str(chunk["error"].get("message") or chunk["error"]))
    line = str(((chunk.get("event") or {}).get("data") or {}).get("description") or "")
    performance = line.startswith("[Performance")
    if line and not performance:
        yield _status(line)
    for choice in chunk.get("choices") or ():
        yield from _delta(choice.get("delta") or {})
    if performance:
        yield Piece(Kind.PERFORMANCE, line)


def _status(line: str) -> Piece:
    return Piece(Kind.READY if line.startswith("✓") else Kind.STATUS, line)


def _delta(delta: Mapping[str, Any]) -> Iterator[Piece]:
    if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
        yield Piece(Kind.REASONING, reasoning)
    if text := delta.get("content"):
        yield Piece(Kind.TEXT, text)
