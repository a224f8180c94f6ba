"""What the doubles of SGLang and vLLM share: how they are told to behave, their record, HTTP as uvicorn speaks it.

A double is a program of its own (standard library, starts in 0.1 s) that takes the engine's real command line. It knows
nothing of Roundhouse. What each engine says and how it dies is `sglang_double.py` and `vllm_double.py`; its processes
are `double_tree.py`; `fake_python.py` makes the interpreter that starts it in the engine's stead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.support.fake_engine import Script, gate

CAPTURES = Path(__file__).parent.parent / "captures"
BEHAVIOUR = "DOUBLE_BEHAVIOUR"
"""Environment variable: behaviour as JSON text, over what the interpreter's `behaviour.json` says."""
TEXTS = [" token", " second", "L", " jumps", "ş", " router", "nd", " 🚂"]


@dataclass(frozen=True)
class Behaviour:
    """How a double behaves; all of it can be set for a model by `env:`, by a start script, or for an interpreter.

    Attributes:
        record: file for notes (see `Record`); '' for none.
        gates: stages of the load (see each double's STAGES) to files: the stage waits until its file exists.
        load_seconds: time that all stages take together.
        hang_at: stage at which it stays for ever, silent. die_at: stage at which it dies.
        memory_out: it dies as an engine does that finds too little memory. Without, by an exception.
        occupied: ends with exit code 1, its port being taken. leak: starts a double-forked child in a session of its own.
        deaf: ignores SIGTERM. token_delay: seconds between two tokens. crash_wait: seconds from a child's death to its own.
        owns_up: vLLM told to end tells those whose answers it cuts; else they stall (with the real one it is a race).
        drain_step: seconds between looks at what is still running. version: what it says it is.
    """

    record: str = ""
    gates: Mapping[str, str] = field(default_factory=dict)
    load_seconds: float = 0.0
    hang_at: str = ""
    die_at: str = ""
    memory_out: bool = False
    occupied: bool = False
    leak: bool = False
    deaf: bool = False
    token_delay: float = 0.0
    crash_wait: float = 0.0
    owns_up: bool = False
    drain_step: float = 0.02
    version: str = ""


def read_behaviour() -> Behaviour:
    """The interpreter's behaviour, and what the environment says over it."""
    file = Path(sys.prefix) / "behaviour.json"
    told = json.loads(file.read_text()) if file.exists() else {}
    return Behaviour(**(told | json.loads(os.environ.get(BEHAVIOUR, "{}"))))


class Record:
    """A file of JSON lines: what happened to a double, in every one of its processes."""

    def __init__(self, path: str) -> None:
        self.path = path

    def note(self, what: str, **more: object) -> None:
        if self.path:
            line = json.dumps({"what": what, "pid": os.getpid(), "at": time.monotonic(), **more}) + "\n"
            with Path(self.path).open("a") as file:
                file.write(line)

    def start(self, port: int) -> None:
        told = ("ROUNDHOUSE", "PORT", "SPT_NOENV", "VISIBLE_DEVICES", "DEVICE_ORDER")
        marks = {name: value for name, value in os.environ.items() if any(part in name for part in told)}
        self.note("start", port=port, argv=sys.argv, env=marks)


def say(text: str) -> None:
    """Writes to stderr as it stands: progress bars end in no newline."""
    data = text.encode()
    while data:
        data = data[os.write(2, data) :]


def pass_stage(behaviour: Behaviour, stage: str, share: float) -> None:
    """Blocks while a stage of the load lasts; `share` is its part of `load_seconds`."""
    while (path := behaviour.gates.get(stage)) and not Path(path).exists():
        time.sleep(0.01)
    if behaviour.hang_at == stage:
        time.sleep(3600)
    time.sleep(behaviour.load_seconds * share)


# --- HTTP ---


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Whole:
    """An answer in one piece: an object (JSON), a text (empty, or text/plain)."""

    status: int = 200
    body: object = ""

    def parts(self) -> tuple[str, bytes]:
        if isinstance(self.body, str):
            return "text/plain; charset=utf-8" if self.body else "", self.body.encode()
        return "application/json", dump(self.body)


@dataclass(frozen=True)
class Streamed:
    """An event stream: the payloads of its `data:` lines, `[DONE]` included."""

    events: AsyncIterator[bytes]


Answer = Whole | Streamed
Handler = Callable[[Request], Awaitable[Answer]]


def dump(value: object) -> bytes:
    """JSON as the engines write it: no spaces, no escapes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Door:
    """A server. `working` counts requests whose answers are not finished, `links` open connections."""

    def __init__(self, answer: Handler, record: Record, access: Callable[[str], None]) -> None:
        self.working = 0
        self.links = 0
        self.closing = False
        self._answer, self._record, self._access = answer, record, access
        self._number = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while not self.closing and await self._one(reader, writer):
                    pass
        finally:
            self.links -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await read_request(reader)
        if request.method == "GET":
            await self._send(request, await self._answer(request), writer)
            return True
        self._number += 1
        number = self._number
        said = {"path": request.path, "headers": list(request.headers.items()), "body": request.body.decode()}
        self._record.note("request", number=number, **said)
        self.working += 1
        loop = asyncio.get_running_loop()
        answering = loop.create_task(self._reply(request, writer))
        leaving = loop.create_task(reader.read(1))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.working -= 1
            fine = answering.done() and answering.exception() is None
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait((answering, leaving))
        self._record.note("answered" if fine else "left", number=number)
        return fine

    async def _reply(self, request: Request, writer: asyncio.StreamWriter) -> None:
        await self._send(request, await self._answer(request), writer)

    async def _send(self, request: Request, answer: Answer, writer: asyncio.StreamWriter) -> None:
        status = answer.status if isinstance(answer, Whole) else 200
        peer = "{}:{}".format(*writer.get_extra_info("peername"))
        self._access(f'{peer} - "{request.method} {request.path} HTTP/1.1" {status} {HTTPStatus(status).phrase}')
        head = {"date": formatdate(usegmt=True), "server": "uvicorn"}
        if isinstance(answer, Whole):
            kind, body = answer.parts()
            head |= {"content-length": str(len(body))} | ({"content-type": kind} if kind else {}) | {"vary": "Origin"}
            writer.write(head_bytes(status, head) + body)
        else:
            head |= {
                "content-type": "text/event-stream; charset=utf-8",
                "vary": "Origin",
                "transfer-encoding": "chunked",
            }
            writer.write(head_bytes(status, head))
            async for payload in answer.events:
                line = b"data: %b\n\n" % payload
                writer.write(b"%x\r\n%b\r\n" % (len(line), line))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def read_request(reader: asyncio.StreamReader) -> Request:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, body)


def head_bytes(status: int, fields: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


# --- generation ---


class Generation:
    """What both engines do with a request: how many tokens, at which pace, and which of our faults.

    `fake` in the request is a `Script` of the scripted engine; of it, tokens, delay, gate, gate_after, hang, die_after and,
    in streams, raw (payloads in place of ours) are heeded. Without, it makes `max_tokens` tokens (16 if unsaid), `token_delay` apart.
    """

    def __init__(self, asked: Mapping[str, Any], behaviour: Behaviour, context: int) -> None:
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
        told = dict(asked.get("fake") or {})
        told.setdefault("tokens", limit or 16)
        told.setdefault("delay", behaviour.token_delay)
        self.script = Script(**told)
        self.prompt = prompt_tokens(asked)
        self.limit = limit
        self.context = context
        self.texts = texts(self.script)
        self.finish = "stop" if limit is None or len(self.texts) < limit else "length"

    async def begin(self) -> None:
        """What happens before the head of the answer."""
        if self.script.gate and not self.script.gate_after:
            await gate(self.script.gate)
        if self.script.hang:
            await asyncio.Event().wait()

    async def tokens(self, stopped: Callable[[], bool] = lambda: False) -> AsyncIterator[str]:
        """Texts at their pace; ends early once `stopped`."""
        for count, text in enumerate(self.texts):
            if self.script.gate and self.script.gate_after == count > 0:
                await gate(self.script.gate)
            if self.script.die_after == count:
                await asyncio.sleep(0.05)  # what was said has left the building
                os.kill(os.getpid(), 9)
            if stopped():
                return
            yield text
            await asyncio.sleep(self.script.delay)


def texts(script: Script) -> list[str]:
    if isinstance(script.tokens, int):
        return [TEXTS[n % len(TEXTS)] for n in range(script.tokens)]
    return script.tokens


def prompt_tokens(asked: Mapping[str, Any]) -> int:
    """Four letters are a token, and a template has ten."""
    said = json.dumps(asked.get("messages") or asked.get("prompt") or "", ensure_ascii=False)
    return len(said) // 4 + 10


def with_version(behaviour: Behaviour, version: str) -> Behaviour:
    return behaviour if behaviour.version else replace(behaviour, version=version)
