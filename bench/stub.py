"""A stand-in engine that costs as little as possible: what is measured is the proxy before it.

    python -m bench.stub PORT

POST with `"stream": true`: `n` events of 170 bytes, `ms` apart (keys of the body). Else one small JSON answer.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

EVENT = (
    b'data: {"id":"chatcmpl-abc123","object":"chat.completion.chunk","created":1763800000,"model":"stub",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
FINISH = EVENT.replace(b'{"content":" token"}', b"{}").replace(b"null", b'"stop"')
USAGE = (
    b'data: {"id":"chatcmpl-abc123","object":"chat.completion.chunk","created":1763800000,"model":"stub",'
    b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
ANSWER = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MODELS = b'{"object":"list","data":[{"id":"stub","object":"model","created":1,"owned_by":"stub"}]}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole(data: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)


class Stub(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = b""
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            body = self.body(head, end + 4)
            if body is None:
                return
            self.answer(head, body)

    def body(self, head: bytes, start: int) -> bytes | None:
        if b"transfer-encoding: chunked" in head:
            end = self.buffer.find(b"0\r\n\r\n", start)
            if end < 0:
                return None
            raw, self.buffer = self.buffer[start:end], self.buffer[end + 5 :]
            return raw[raw.find(b"\r\n") + 2 :].rstrip(b"\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        if len(self.buffer) < start + length:
            return None
        body, self.buffer = self.buffer[start : start + length], self.buffer[start + length :]
        return body

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get"):
            self.transport.write(whole(MODELS))
            return
        asked = json.loads(body)
        if asked.get("stream"):
            task = asyncio.get_running_loop().create_task(self.stream(asked))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.transport.write(whole(ANSWER))

    async def stream(self, asked: dict) -> None:
        # Peers that drop unknown keys (LiteLLM) get the figures in `user`.
        told = json.loads(asked["user"]) if "user" in asked else asked
        count, gap = told.get("n", 100), told.get("ms", 0) / 1000
        write, event = self.transport.write, chunk(EVENT)
        loop = asyncio.get_running_loop()
        due = loop.time()
        write(HEAD)
        for _ in range(count):
            due += gap
            await asyncio.sleep(max(0.0, due - loop.time()))
            write(event)
        write(chunk(FINISH))
        if (asked.get("stream_options") or {}).get("include_usage"):
            write(chunk(USAGE % (count, count + 1)))
        write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
