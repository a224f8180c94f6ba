"""`make bench`: Roundhouse beside its peers, in one run on this machine. Prints tables, writes bench/results/latest.json.

    python -m bench.run [--quick] [--only relay|switch|decide]

A benchmark, not a test: nothing fails because of a figure. Each row is the median of `--rounds` rounds; the rounds go
through all programs in turn, so that a machine whose speed drifts is unfair to nobody.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import decisions, programs, switching

RESULTS = programs.ROOT / "bench" / "results"
Start = Callable[[Path, int], AbstractContextManager[programs.Running]]
PROXIES: dict[str, Start] = {
    "roundhouse": programs.roundhouse,
    "fastapi": programs.fastapi_httpx,
    "litellm": programs.litellm,
    "captures": partial(programs.roundhouse, name="Roundhouse, all bodies captured", more="captures: {store: all}\n"),
}
"""`captures` and, by `--before`, an older Roundhouse show what observing costs."""
STREAMS = (1, 16, 64)
EVENTS, SPACING = 300, 10
"""A stream: 300 events of 170 bytes, 10 ms apart. Cost per event rises as events come singly: quote both."""


def load(port: int, model: str, kind: str, concurrency: int, requests: int, pids: tuple[int, ...]) -> dict:
    argv = [sys.executable, "-m", "bench.load", str(port), "/v1/chat/completions", model, kind]
    argv += [str(concurrency), str(requests), str(EVENTS if kind == "stream" else 1), str(SPACING)]
    argv += [",".join(map(str, pids))]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=programs.ROOT, check=False)
    if done.returncode != 0:
        return {"failed": (done.stderr or done.stdout)[-300:]}
    found: dict = json.loads(done.stdout)
    return found


def measure(running: programs.Running, requests: int, rounds: int) -> dict[str, dict]:
    """Small JSON requests at concurrency 1, 8 and 64; streams at 1, 16 and 64."""
    load(running.port, running.model, "json", 4, 200, running.pids)  # warm-up
    found: dict[str, dict] = {}
    for concurrency in (1, 8, 64):
        some = [load(running.port, running.model, "json", concurrency, requests, running.pids) for _ in range(rounds)]
        found[f"json x{concurrency}"] = middle(some)
    for streams in STREAMS:
        some = [load(running.port, running.model, "stream", streams, streams, running.pids) for _ in range(rounds)]
        found[f"stream x{streams}"] = middle(some)
    return found


def middle(rows: list[dict]) -> dict:
    good = [row for row in rows if "failed" not in row]
    if not good:
        return rows[0]
    numbers = {key for row in good for key, value in row.items() if isinstance(value, int | float)}
    return {**good[0], **{key: round(statistics.median(row[key] for row in good), 3) for key in numbers}}


def relay(folder: Path, requests: int, rounds: int, only: list[str]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    with programs.stub(folder) as engine:
        direct = programs.Running("direct (no proxy)", "", engine, "stub", ())
        found["direct"] = {"name": direct.name, "version": "", **measure(direct, requests, rounds)}
        for key in only:
            fewer = requests if key not in {"fastapi", "litellm"} else max(200, requests // 5)
            with PROXIES[key](folder, engine) as running:
                print(f"measuring {running.name} {running.version}", file=sys.stderr)
                found[key] = {"name": running.name, "version": running.version, **measure(running, fewer, rounds)}
    return found


def relay_table(found: dict[str, dict]) -> str:
    direct = found["direct"]
    head = (
        "| proxy | CPU per request | CPU per event (x1 / x16 / x64 streams) | added p50, x1 | added p99, x64 streams |"
    )
    lines = [head, "|---|---|---|---|---|"]
    for row in found.values():
        per_event = " / ".join(cell(row[f"stream x{n}"], "cpu_us_per_event", "µs") for n in STREAMS)
        added = difference(row["json x1"], direct["json x1"], "p50_ms")
        late = difference(row["stream x64"], direct["stream x64"], "first_p99_ms")
        title = f"{row['name']} {row['version']}".strip()
        lines.append(
            f"| {title} | {cell(row['json x8'], 'cpu_us_per_request', 'µs')} | {per_event} | {added} | {late} |"
        )
    return "\n".join(lines)


def cell(row: dict, key: str, unit: str) -> str:
    value = row.get(key)
    return "–" if not value else f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def difference(row: dict, base: dict, key: str) -> str:
    if key not in row or key not in base:
        return "failed"
    return "–" if row is base else f"{row[key] - base[key]:+.2f} ms"


def machine() -> dict[str, str]:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cores = str(len(__import__("os").sched_getaffinity(0)))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model,
        "cores": cores,
        "python": platform.python_version(),
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests, one round")
    parser.add_argument("--only", choices=("relay", "switch", "decide"))
    parser.add_argument("--before", help="Python of an environment with an older Roundhouse, as one more peer")
    parser.add_argument("--peers", default="captures,fastapi,litellm", help="which peers besides Roundhouse")
    parser.add_argument("--llama-server", help="llama-server program for the switch; default: as Roundhouse finds it")
    asked = parser.parse_args()
    requests, rounds = (400, 1) if asked.quick else (4000, 3)
    found: dict[str, object] = {"machine": machine()}
    with tempfile.TemporaryDirectory(prefix="rh-bench-") as place:
        folder = Path(place)
        if asked.only in {None, "decide"}:
            costs = decisions.measure(20_000 if asked.quick else 60_000)
            found["decide"] = costs
            print(f"\n{decisions.table(costs)}\n")
        if asked.only in {None, "relay"}:
            proxies = ["roundhouse", *(p for p in asked.peers.split(",") if p)]
            if asked.before:
                PROXIES["before"] = partial(programs.roundhouse, name="Roundhouse before", python=asked.before)
                proxies.append("before")
            rows = relay(folder, requests, rounds, proxies)
            found["relay"] = rows
            print(f"\n{relay_table(rows)}\n")
        if asked.only in {None, "switch"}:
            rows = switching.measure(folder, 3 if asked.quick else 10, asked.llama_server)
            found["switch"] = rows
            print(f"\n{switching.table(rows)}\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(f"{found['machine']}")


if __name__ == "__main__":
    main()
