"""The load: keep-alive connections that ask and wait, counted and timed from the client's side.

    python -m bench.load URL_PORT PATH MODEL KIND CONCURRENCY REQUESTS EVENTS MS [CPU_PIDS]

Prints one JSON line: seconds, requests, events, round trips and first bytes (ms, p50 and p99), and CPU seconds that the
processes CPU_PIDS (comma separated, with all their children) used meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import uvloop


def tree(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += tree(int(child))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def cpu(pids: list[int]) -> float:
    ticks = 0
    for root in pids:
        for pid in tree(root):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except FileNotFoundError:
                continue
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def request(path: str, model: str, kind: str, events: int, ms: float) -> bytes:
    body = {
        "model": model,
        "stream": kind == "stream",
        "user": json.dumps({"n": events, "ms": ms}),
        "messages": [{"role": "user", "content": "hello " * 20}],
        "max_tokens": max(1, events),
    }
    data = json.dumps(body).encode()
    return (
        b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nauthorization: Bearer sk-bench\r\n"
        b"content-length: %d\r\n\r\n%s" % (path.encode(), len(data), data)
    )


class Tally:
    def __init__(self) -> None:
        self.round_trips: list[float] = []
        self.first: list[float] = []
        self.events = 0


async def worker(port: int, data: bytes, count: int, tally: Tally) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    for _ in range(count):
        start = time.perf_counter()
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
            raise SystemExit(f"answered {head[:400]!r} {(await reader.read(800))!r}")
        if b"content-length:" in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            tally.first.append(time.perf_counter() - start)
        else:
            await drain(reader, start, tally)
        tally.round_trips.append(time.perf_counter() - start)
    writer.close()


async def drain(reader: asyncio.StreamReader, start: float, tally: Tally) -> None:
    first, tail = True, b""
    while True:
        part = await reader.read(65536)
        if first:
            tally.first.append(time.perf_counter() - start)
            first = False
        if not part:
            raise SystemExit("the stream was cut")
        tally.events += part.count(b"data: ")
        tail = (tail + part)[-8:]
        if tail.endswith(b"0\r\n\r\n"):
            return


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3 if values else 0.0


async def main() -> None:
    port, path, model, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    concurrency, requests, events, ms = int(sys.argv[5]), int(sys.argv[6]), int(sys.argv[7]), float(sys.argv[8])
    pids = [int(pid) for pid in sys.argv[9].split(",")] if len(sys.argv) > 9 and sys.argv[9] else []
    tally = Tally()
    data = request(path, model, kind, events, ms)
    before, start = cpu(pids), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker(port, data, max(1, requests // concurrency), tally))
    seconds, used = time.perf_counter() - start, cpu(pids) - before
    done = len(tally.round_trips)
    print(
        json.dumps(
            {
                "kind": kind,
                "concurrency": concurrency,
                "requests": done,
                "events": tally.events,
                "seconds": round(seconds, 3),
                "p50_ms": round(quantile(tally.round_trips, 0.5), 3),
                "p99_ms": round(quantile(tally.round_trips, 0.99), 3),
                "first_p50_ms": round(quantile(tally.first, 0.5), 3),
                "first_p99_ms": round(quantile(tally.first, 0.99), 3),
                "cpu_s": round(used, 3),
                "cpu_us_per_request": round(used / done * 1e6, 1),
                "cpu_us_per_event": round(used / tally.events * 1e6, 2) if tally.events else None,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
