"""Plays a workload against a program over HTTP and writes down, for each request, when it came, began and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.workloads import Ask, Client, Workload

FAILED_PAUSE = 0.25
"""Seconds after a refusal: a client that fails at once is not to ask a thousand times."""


@dataclass(slots=True)
class Record:
    """One request, in seconds since the start; None: not yet. `failed` says why there was no whole answer."""

    ask: Ask
    sent: float
    first: float | None = None
    done: float | None = None
    failed: str = ""

    def wait(self, end: float) -> float:
        """Seconds to the first token; so far, if it has not come."""
        return (self.first if self.first is not None else end) - self.sent


class Stage:
    """A program at `port` while a workload is played on it. `marks_tasks`: background tasks say that they are some."""

    def __init__(self, port: int, marks_tasks: bool) -> None:
        self._port, self._marks_tasks = port, marks_tasks
        self._start = time.perf_counter()
        self.records: list[Record] = []

    def now(self) -> float:
        return time.perf_counter() - self._start

    async def send(self, ask: Ask, client: str) -> None:
        """One request to its end; never raises for what the program does wrong."""
        record = Record(ask, self.now())
        self.records.append(record)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
            try:
                writer.write(self._request(ask, client))
                await self._receive(reader, record)
            finally:
                writer.close()
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            record.failed = record.failed or f"{type(error).__name__}: {error}"
        if record.failed:
            await asyncio.sleep(FAILED_PAUSE)

    def _request(self, ask: Ask, client: str) -> bytes:
        path, body = "/v1/embeddings", {"model": ask.model, "input": "a b c"}
        if ask.tokens:
            # The tiny models end after their sentence; so that an answer has its length, the end is not allowed.
            chat: dict[str, Any] = {"stream": True, "max_tokens": ask.tokens, "ignore_eos": True, "user": client}
            chat["messages"] = [{"role": "user", "content": f"{client}: go on"}]
            path, body = "/v1/chat/completions", {"model": ask.model, **chat}
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close\r\n"
        if ask.task and self._marks_tasks:
            head += "x-openwebui-task: title_generation\r\n"
        return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data

    async def _receive(self, reader: asyncio.StreamReader, record: Record) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != b"200":
            record.failed = (
                f"{head.split(bytes((13,)))[0].decode()} {(await reader.read(500)).decode(errors='replace')}"
            )
            return
        whole = not record.ask.tokens
        if whole:
            record.first = self.now()
        while line := await reader.readline():
            if record.first is None and b'"content":"' in line:
                record.first = self.now()
            elif b'"error"' in line[:60]:
                record.failed = line.decode(errors="replace")[:500]
            whole = whole or b"[DONE]" in line
        if whole and not record.failed:
            record.done = self.now()
        else:
            record.failed = record.failed or "the answer was cut"


async def play(stage: Stage, workload: Workload, seed: int, at_start: Callable[[], None]) -> None:
    """Lets the clients work for the workload's time, then leaves them where they are. `at_start`: the lead-in is over."""
    asyncio.get_running_loop().call_later(workload.lead_in, at_start)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(workload.lead_in + workload.seconds), asyncio.TaskGroup() as group:
            for number, client in enumerate(workload.clients):
                chance = random.Random(f"{seed} {workload.name} {number}")
                group.create_task(_client(stage, client, f"client{number}", chance))


async def _client(stage: Stage, client: Client, name: str, chance: random.Random) -> None:
    await client(lambda ask: stage.send(ask, name), chance)


def summary(records: list[Record], start: float, end: float) -> dict[str, Any]:
    """Figures of one program and one workload between two moments: what ended or got its first token then.

    Requests without a first token at the end count with what they have waited so far: else a program that starves a
    model would look quick.
    """
    good = [record for record in records if not record.failed]
    done = [record for record in good if record.done is not None and record.done >= start]
    unserved = [record for record in good if record.first is None]
    waits = defaultdict(list)
    for record in (*unserved, *(r for r in good if r.first is not None and r.first >= start)):
        waits[record.ask.model].append(record.wait(end))
    every = sorted(wait for some in waits.values() for wait in some)
    answers = [r.done - r.first for r in done if r.done is not None and r.first is not None]
    failures = [record.failed for record in records if record.failed]
    return {
        "done": len(done),
        "done_by_model": {m: sum(r.ask.model == m for r in done) for m in sorted(waits)},
        "mean_wait_s": round(statistics.fmean(every), 3) if every else None,
        "p95_wait_s": round(every[math.ceil(0.95 * len(every)) - 1], 3) if every else None,
        "worst_wait_s": round(every[-1], 3) if every else None,
        "worst_wait_by_model_s": {model: round(max(some), 3) for model, some in sorted(waits.items())},
        "unserved": len(unserved),
        "unserved_by_model": {m: sum(r.ask.model == m for r in unserved) for m in sorted(waits)},
        "longest_answer_s": round(max(answers), 3) if answers else None,
        "failed": len(failures),
        "failures": sorted({failure[:200] for failure in failures})[:3],
        "seconds": round(end - start, 2),
    }
