"""A scripted engine: an OpenAI-compatible server that does what a test tells it to, well or badly.

A program of its own (standard library, starts in 0.1 s), run as `command:` of a model. How it starts and ends is said on
its command line, how it answers in the request itself, under the key `fake` (our relay passes unknown keys). Nothing
waits for a time where it can wait for a file: a `gate` is a path that the test creates. What it received, and when its
clients left, it appends to `--record` as lines of JSON, so that a test can read them after its death.

Command line: see `main`. Keys of `fake`: see `Script`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

POLL = 0.01
EMOJI = ["Hello", " 🚂", " wörld", " 你好", "!"]


@dataclass
class Script:
    """How one request is answered.

    tokens: the texts, or how many. delay: seconds between two. gate: a file that is waited for after `gate_after` tokens
    (0: before the head). die_after: tokens before the process kills itself. status: refuse with this status, `body` and
    `kind` (content type). size: bytes of text in each token. split: bytes per write, so that characters and events are
    torn. headers: more of them, with `status`. hang: the head never comes. raw: events instead of ours, as they stand. silent: no usage, whoever asked.
    finish_text: the finish chunk carries the last token (vLLM). close: ends without `[DONE]`. endless: never ends. linger: seconds from `[DONE]` to the end.
    """

    tokens: list[str] | int = field(default_factory=lambda: list(EMOJI))
    delay: float = 0.0
    gate: str = ""
    gate_after: int = 0
    die_after: int | None = None
    status: int = 200
    body: str = ""
    kind: str = "application/json"
    headers: list[list[str]] = field(default_factory=list)
    size: int = 0
    split: int = 0
    hang: bool = False
    raw: list[str] = field(default_factory=list)
    silent: bool = False
    close: bool = False
    endless: bool = False
    linger: float = 0.0

    def texts(self) -> list[str]:
        found = [f"t{n} " for n in range(self.tokens)] if isinstance(self.tokens, int) else self.tokens
        return [text.ljust(self.size, "x") for text in found]


class Engine:
    """The server and its notes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.number = 0
        self.ready = False

    def note(self, what: str, **more: object) -> None:
        if self.options.record:
            with Path(self.options.record).open("a") as file:
                file.write(json.dumps({"what": what, "pid": os.getpid(), "at": time.monotonic(), **more}) + "\n")

    async def load(self) -> None:
        """Becomes ready, or not."""
        options = self.options
        print("loading the weights", flush=True)
        await gate(options.load_gate)
        for held in options.gpu:
            uuid, _, size = held.partition("=")
            with Path(os.environ["FAKE_NVML"]).open("a") as file:
                file.write(f"process {uuid} {os.getpid()} {size}\n")
        if options.die_load:
            print(options.die_load, flush=True)
            os._exit(3)
        if not options.never:
            self.ready = True
            print("ready", flush=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self.one(reader, writer):
                pass
        writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = [tuple(line.split(": ", 1)) for line in head[1:] if line]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
        body = await whole_of(reader) if chunked else await reader.readexactly(length)
        if method == "GET":
            return self.about(path, writer)
        self.number += 1
        number = self.number
        self.note("request", number=number, path=path, headers=headers, body=body.decode(errors="replace"))
        answer = asyncio.get_running_loop().create_task(self.answer(path, body, writer))
        gone = asyncio.get_running_loop().create_task(reader.read(1))
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() or answer.exception() is not None:
            self.note("left", number=number)
            answer.cancel()
            return False
        gone.cancel()
        await asyncio.wait((gone,))
        self.note("answered", number=number)
        return answer.result()

    def about(self, path: str, writer: asyncio.StreamWriter) -> bool:
        status, found = 200, {"object": "list", "data": [{"id": "fake", "object": "model"}]}
        if path == "/health":
            found = {"status": "ok"}
        if not self.ready:
            status, found = 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
        write_whole(writer, status, json.dumps(found).encode())
        return True

    async def answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        try:
            asked = json.loads(body)
            script = Script(**asked.get("fake", {}))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # as engines say it of bad requests
            told = {"error": {"code": 400, "message": f"bad request: {error}", "type": "invalid_request_error"}}
            write_whole(writer, 400, json.dumps(told).encode())
            await writer.drain()
            return True
        if script.gate and not script.gate_after:
            await gate(script.gate)
        if script.hang:
            await asyncio.Event().wait()
        if script.status != 200:
            write_whole(writer, script.status, script.body.encode(), script.kind, script.headers)
        elif asked.get("stream"):
            return await self.stream(asked, script, writer, chat=path.endswith("chat/completions"))
        else:
            if script.die_after is not None:
                os._exit(9)
            write_whole(writer, 200, json.dumps(whole(asked, script, path)).encode())
        await writer.drain()
        return True

    async def stream(self, asked: dict, script: Script, writer: asyncio.StreamWriter, *, chat: bool) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        shape = {"id": "chatcmpl-fake", "object": "chat.completion.chunk" if chat else "text_completion", "created": 1}
        shape["model"] = asked.get("model")

        async def say(delta: object, end: str | None = None) -> None:
            text = (
                {"delta": delta} if chat else {"text": (delta.get("content") or "") if isinstance(delta, dict) else ""}
            )
            await self.send(writer, event({"choices": [{"index": 0, **text, "finish_reason": end}], **shape}), script)

        await say({"role": "assistant", "content": None})
        count = 0
        for text in script.texts() if not script.endless else forever(script):
            if script.gate and script.gate_after == count:
                await gate(script.gate)
            if script.die_after == count:
                await writer.drain()
                os._exit(9)
            await say({"content": text})
            count += 1
            if script.delay:
                await asyncio.sleep(script.delay)
        for raw in script.raw:
            await self.send(writer, raw.encode(), script)
        if script.gate and script.gate_after == count:
            await gate(script.gate)
        if script.close:
            await writer.drain()
            return False
        await say({}, "stop")
        if not script.silent:
            figures = usage(count)
            timings = {"predicted_n": count, "predicted_per_second": 50.0}
            if asked.get("stream_options", {}).get("include_usage"):
                last = {"choices": [], **shape, "usage": figures, "timings": timings}
                await self.send(writer, event(last), script)
        await self.send(writer, b"data: [DONE]\n\n", script)
        await asyncio.sleep(script.linger)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def send(self, writer: asyncio.StreamWriter, data: bytes, script: Script) -> None:
        step = script.split or len(data)
        for start in range(0, len(data), step):
            part = data[start : start + step]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            if script.split:
                await asyncio.sleep(0)


async def gate(path: str) -> None:
    """Returns when the file exists; at once for no path."""
    while path and not Path(path).exists():
        await asyncio.sleep(POLL)


def forever(script: Script):
    while True:
        yield "".ljust(script.size or 10, "x")


def usage(count: int) -> dict[str, int]:
    return {"completion_tokens": count, "prompt_tokens": 7, "total_tokens": count + 7}


def whole(asked: dict, script: Script, path: str) -> dict:
    """A `stream: false` answer."""
    if path.endswith("embeddings"):
        vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
        figures = {"prompt_tokens": 3, "total_tokens": 3}
        return {"object": "list", "data": [vector], "model": asked.get("model"), "usage": figures}
    if path.endswith("tokenize"):
        return {"tokens": [1, 2, 3]}
    text = "".join(script.texts())
    said = {"message": {"role": "assistant", "content": text}} if "messages" in asked else {"text": text}
    found = {"id": "chatcmpl-fake", "object": "chat.completion" if "messages" in asked else "text_completion"}
    found |= {"created": 1, "model": asked.get("model", ""), "choices": [{"index": 0, **said, "finish_reason": "stop"}]}
    return found if script.silent else found | {"usage": usage(len(script.texts()))}


def event(fields: dict) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


async def whole_of(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def write_whole(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    kind: str = "application/json",
    headers: list[list[str]] = (),
) -> None:
    more = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
    head = b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n"
    writer.write(head % (status, kind.encode(), len(body), more))
    writer.write(body)


async def run(options: argparse.Namespace) -> None:
    engine = Engine(options)
    told = ("ROUNDHOUSE", "PORT", "VISIBLE_DEVICES", "DEVICE_ORDER")
    engine.note(
        "start", port=options.port, env={k: v for k, v in os.environ.items() if any(part in k for part in told)}
    )
    if options.leak:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
        engine.note("leaked", child=child.pid)
    loop = asyncio.get_running_loop()
    if options.deaf:
        loop.add_signal_handler(signal.SIGTERM, engine.note, "deaf")
    else:
        loop.add_signal_handler(signal.SIGTERM, lambda: (engine.note("stopped"), os._exit(0)))
    server = await asyncio.start_server(engine.serve, "127.0.0.1", options.port)
    async with server:
        await engine.load()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", default="", help="file for notes")
    parser.add_argument("--load-gate", default="", help="file that ends the load")
    parser.add_argument("--die-at-start", default="", help="last words of a process that never listens")
    parser.add_argument("--die-load", default="", help="last words of one that dies at the end of its load")
    parser.add_argument("--never", action="store_true", help="stays at 503")
    parser.add_argument("--deaf", action="store_true", help="ignores SIGTERM")
    parser.add_argument("--gpu", action="append", default=[], help="UUID=BYTES that it holds there (see fake_nvml.c)")
    parser.add_argument("--leak", action="store_true", help="starts a child in a session of its own")
    options = parser.parse_args()
    if options.die_at_start:
        print(options.die_at_start, flush=True)
        sys.exit(3)
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
