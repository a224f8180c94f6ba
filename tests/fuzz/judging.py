"""What any answer must be, whatever was asked: no mistake of ours, and errors in the words of the API."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from tests.fuzz.mutations import Ask

REFUSALS = frozenset({400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 501, 502, 503, 504})
"""Statuses with which a request may be refused; a 500 is an engine's own, where an answer says whose it is."""
SILENCE = 45.0
"""Seconds after which a server that says nothing is at fault."""
MISTAKES = (b"made a mistake", b"Traceback", b"Internal Server Error", b"site-packages")
FEEDS = ("/models/sse", "/api/v1/events")


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Asker:
    """A connection that is kept, as clients keep theirs."""

    def __init__(self, port: int) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE)

    def ask(self, ask: Ask) -> Got:
        """Sends it, and reads the whole answer; for a feed, its head."""
        link = self._link
        link.putrequest(ask.method, ascii_of(ask.path), skip_accept_encoding=True)
        for name, value in ask.headers:
            link.putheader(name, value.encode("latin-1"))
        if ask.body is not None or ask.method != "GET":
            link.putheader("content-length", str(len(ask.body or b"")))
        if ask.body is not None and "content-type" not in dict(ask.headers):
            link.putheader("content-type", "application/json")
        link.endheaders()
        try:
            if ask.body:
                link.send(ask.body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused by its head alone: the answer is there
        reply = link.getresponse()
        body = b"" if ask.path.startswith(FEEDS) else reply.read()
        if reply.will_close or ask.path.startswith(FEEDS):
            link.close()
        return Got(reply.status, {name.lower(): value for name, value in reply.getheaders()}, body)

    def close(self) -> None:
        self._link.close()


def ascii_of(path: str) -> str:
    return "".join(letter if " " < letter < "\x7f" else "%C3%A9" for letter in path)


def judge(ask: Ask, got: Got) -> str:
    """What is wrong with an answer; '' if nothing is."""
    passed = ask.path.startswith("/upstream/") or "x-roundhouse-model" in got.headers
    for words in MISTAKES[: None if not passed else 1]:
        if words in got.body:
            return f"says {words.decode()!r}"
    if got.status >= 400 and got.status not in REFUSALS and not passed:
        return f"status {got.status}"
    if ask.method in {"HEAD", "OPTIONS"} or not got.body or ask.path.startswith("/upstream/"):
        return "" if got.status < 400 or ask.method != "POST" or passed else "an error without a word"
    if got.status >= 400:
        return misshapen(ask.api, got)
    return unreadable(got)


def misshapen(api: str, got: Got) -> str:
    """Whether an error is not in the words of its API."""
    try:
        told = orjson.loads(got.body)
    except ValueError:
        return "an error that is no JSON"
    match api, told:
        case _, {"error": {"message": "Invalid HTTP request received."}} if got.status == 400:
            return ""  # no path was known yet
        case "ollama", {"error": str(message)}:
            return "" if message else "an error without a message"
        case "anthropic", {"type": "error", "error": {"type": str(), "message": str(message)}}:
            return "" if message else "an error without a message"
        case "openai", {"error": {"message": str(message), "type": str(), "param": _, "code": _}}:
            return "" if message else "an error without a message"
    return f"an error in no shape of {api}"


def unreadable(got: Got) -> str:
    """Whether a good answer is not what its content type says."""
    kind = got.headers.get("content-type", "")
    try:
        if "event-stream" in kind:
            payloads = [part[5:].strip() for part in got.body.split(b"\n") if part.startswith(b"data:")]
            [json.loads(payload) for payload in payloads if payload != b"[DONE]"]
        elif "ndjson" in kind:
            [json.loads(line) for line in got.body.splitlines()]
        elif "json" in kind:
            json.loads(got.body)
    except ValueError as error:
        return f"{kind} that is none: {error}"
    return ""
