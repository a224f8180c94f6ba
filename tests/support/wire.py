"""An HTTP client that hides nothing: raw bytes of requests and answers, streams read at any pace, sudden departures."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

LIMIT = 60.0
"""Seconds after which a silent server fails the test."""


@dataclass
class Reply:
    """A whole answer; header names in lower case, the first of doubles."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """The error object, having checked that it has OpenAI's shape."""
        error: dict[str, Any] = self.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert "Traceback" not in error["message"]
        return error


class Answer:
    """An answer whose head has come. `raw` is all of the body read so far, chunk framing removed."""

    def __init__(self, status: int, headers: dict[str, str], link: Link) -> None:
        self.status = status
        self.headers = headers
        self.raw = b""
        self._link = link
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._left = int(headers.get("content-length", 0))
        self._ended = False

    async def part(self) -> bytes:
        """The next piece of the body; b'' at its end."""
        if self._ended:
            return b""
        reader = self._link.reader
        async with asyncio.timeout(LIMIT):
            if self._chunked:
                size = int(await reader.readline(), 16)
                data = await reader.readexactly(size)
                await reader.readexactly(2)
            else:
                data = await reader.read(self._left) if self._left else b""
                self._left -= len(data)
        self._ended = not data
        self.raw += data
        return data

    async def rest(self) -> bytes:
        """The whole body, once it has ended."""
        while await self.part():
            pass
        return self.raw

    async def until(self, text: str | bytes) -> bytes:
        """What has come when `text` has. Fails when the answer ends without it."""
        wanted = text.encode() if isinstance(text, str) else text
        while wanted not in self.raw:
            assert await self.part(), f"the answer ended without {wanted!r}: {self.raw.decode()}"
        return self.raw

    async def reply(self) -> Reply:
        return Reply(self.status, self.headers, await self.rest())

    async def events(self) -> Events:
        return Events((await self.rest()).decode())


class Events:
    """A finished event stream, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        blocks = text.replace("\r\n", "\n").split("\n\n")  # both end a line; TabbyAPI writes the former
        assert blocks[-1] == "", f"does not end in a blank line: {text[-200:]!r}"
        self.blocks = blocks[:-1]
        self.comments = [block[1:].strip() for block in self.blocks if block.startswith(":")]
        payloads = [block.removeprefix("data: ") for block in self.blocks if block.startswith("data:")]
        self.done = payloads[-1:] == ["[DONE]"] and payloads.count("[DONE]") == 1
        self.chunks: list[dict[str, Any]] = [json.loads(payload) for payload in payloads if payload != "[DONE]"]

    @property
    def text_of_answer(self) -> str:
        return "".join(self.pieces("content"))

    def pieces(self, key: str) -> list[str]:
        """What each chunk's delta has under a key."""
        deltas = [choice["delta"] for chunk in self.chunks for choice in chunk.get("choices", ()) if "delta" in choice]
        return [delta[key] for delta in deltas if delta.get(key)]

    @property
    def statuses(self) -> list[str]:
        """Descriptions of status events."""
        return [chunk["event"]["data"]["description"] for chunk in self.chunks if "event" in chunk]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [chunk["error"] for chunk in self.chunks if "error" in chunk]

    @property
    def usages(self) -> list[dict[str, Any]]:
        return [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]

    @property
    def finishes(self) -> list[str]:
        return [c["finish_reason"] for chunk in self.chunks for c in chunk.get("choices", ()) if c.get("finish_reason")]


class Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Sequence[tuple[str, str]] | Mapping[str, str] = (),
    ) -> None:
        pairs = list(headers.items() if hasattr(headers, "items") else headers)
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
        if "host" not in dict(pairs):
            lines.append("host: 127.0.0.1")
        if body is not None:
            lines += [f"content-length: {len(body)}", "content-type: application/json"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    async def head(self) -> Answer:
        """The head of the next answer."""
        async with asyncio.timeout(LIMIT):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            if name:
                headers.setdefault(name.lower(), value)
        return Answer(int(lines[0].split(" ")[1]), headers, self)

    def leave(self) -> None:
        """Closes at once."""
        self.writer.transport.abort()


@asynccontextmanager
async def link(port: int, limit: int = 64 << 20) -> AsyncIterator[Link]:
    """A connection to a local port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    try:
        yield Link(reader, writer)
    finally:
        writer.transport.abort()


class Api:
    """A client of one server. `headers` go with every request."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self.port = port
        self.headers = dict(headers or {})

    @asynccontextmanager
    async def open(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answer]:
        """Sends a request (an object is sent as JSON, bytes as they are) and waits for the head of its answer."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with link(self.port) as one:
            one.send(method, path, raw, self.headers | dict(headers or {}))
            yield await one.head()

    async def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        async with self.open(method, path, body, headers) as answer:
            return await answer.reply()

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return await self.ask("GET", path, None, headers)

    async def post(self, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        return await self.ask("POST", path, b"" if body is None else body, headers)

    def stream(self, model: str, headers: Mapping[str, str] | None = None, **more: Any) -> Any:
        """Opens a streamed chat; `fake` scripts the engine."""
        return self.open("POST", "/v1/chat/completions", chat(model, stream=True, **more), headers)

    async def events(self, model: str, headers: Mapping[str, str] | None = None, **more: Any) -> Events:
        """A streamed chat from its beginning to its end."""
        async with self.stream(model, headers, **more) as answer:
            assert answer.status == 200, await answer.rest()
            return await answer.events()

    async def chat(self, model: str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
        return await self.post("/v1/chat/completions", chat(model, **more), headers)

    async def health(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get("/health")).json()
        return found

    async def model(self, name: str) -> dict[str, Any]:
        """One model as `/health` has it."""
        found: dict[str, Any] = (await self.health())["models"][name]
        return found

    async def until(self, name: str, state: str) -> dict[str, Any]:
        """Polls until a model is in a state: for what has no event that a client could wait for."""
        async with asyncio.timeout(LIMIT):
            while (found := await self.model(name))["state"] != state:
                await asyncio.sleep(0.02)
        return found


def chat(model: str, text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
