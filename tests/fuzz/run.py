"""`make fuzz`: spoilt requests to a running Roundhouse for as long as one likes, half of them to a real llama-server.

    python -m tests.fuzz.run --minutes 60        the run; its faults are kept below .cache/fuzz
    python -m tests.fuzz.run --replay SEED       one request again, with its answer

It fails when an answer is not what it must be (`judging`), when the log has a traceback or an error, when Roundhouse's
memory grows by more than `GROWTH` after the first tenth of the run, or when a model does not answer at the end.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import psutil

from tests.fuzz.judging import Asker, Got, judge
from tests.fuzz.mutations import Ask, any_ask
from tests.support.gguf_files import write_tiny_chat, write_tiny_embedding
from tests.support.house import Place, Running, Scripted
from tests.support.real_engine import real_build

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 4
GROWTH = 48 << 20
"""Bytes by which its memory may grow once warm: history and allocator; a leak of 100 bytes a request is more in an hour."""
KEPT = Path(".cache/fuzz")
MOST_FAULTS = 50


def of_seed(seed: int) -> Ask:
    """The request that a seed stands for; every second one goes to the scripted engine."""
    ask = any_ask(Random(seed))
    if seed % 2:
        return ask
    body = ask.body.replace(b'"alpha', b'"double') if ask.body is not None else None
    return Ask(ask.api, ask.method, ask.path.replace("alpha", "double"), body, ask.headers)


def settle(place: Place) -> None:
    """Writes models and configuration."""
    build = real_build()
    write_tiny_chat(place.folder / "alpha.gguf", "alpha")
    write_tiny_embedding(place.folder / "vectors.gguf")
    small = {"context": 512, "slots": 2, "args": ["--threads", 1], "memory": "300MiB"}
    models: dict[str, dict[str, object]] = {
        name: {"path": str(place.folder / f"{name}.gguf"), "preload": True, **small} for name in ("alpha", "vectors")
    }
    for name, kind in (("double", "chat"), ("ranker", "rerank")):
        models[name] = Scripted(place.folder, name, preload=True, kind=kind).config
    settings = {"engines": {"llamacpp": {"binary": build.argv[0]}}} if len(build.argv) == 1 else {}
    place.write(models, **settings)


class Fuzz:
    """Clients that share a count, and what they found."""

    def __init__(self, running: Running, first: int, seconds: float) -> None:
        self.running = running
        self.statuses: Counter[int] = Counter()
        self.faults: dict[tuple[str, str], int] = {}
        self.memory: list[int] = []
        self._process = psutil.Process(running.pid)
        self._end = time.monotonic() + seconds
        self._seeds = self._count(first)
        self._lock = threading.Lock()

    def _count(self, first: int) -> Iterator[int]:
        while time.monotonic() < self._end and len(self.faults) < MOST_FAULTS:
            yield first
            first += 1

    def client(self) -> None:
        """One of them, until the time is over."""
        asker = Asker(self.running.place.port)
        while True:
            with self._lock:
                seed = next(self._seeds, None)
            if seed is None:
                break
            ask = of_seed(seed)
            try:
                got = asker.ask(ask)
                wrong = judge(ask, got)
            except Exception as error:  # whatever a client would see of a server that breaks
                asker.close()
                got, wrong = Got(0, {}, b""), f"no answer: {type(error).__name__}: {error}"
            with self._lock:
                self.statuses[got.status] += 1
                if wrong:
                    self._keep(seed, ask, got, wrong)
        asker.close()

    def _keep(self, seed: int, ask: Ask, got: Got, wrong: str) -> None:
        key = (ask.path.partition("?")[0], wrong)
        self.faults[key] = self.faults.get(key, 0) + 1
        if self.faults[key] > 1:
            return
        KEPT.mkdir(parents=True, exist_ok=True)
        told = {"seed": seed, "wrong": wrong, "ask": repr(ask), "status": got.status, "answer": repr(got.body[:2000])}
        if not got.status:  # what it was busy with
            told["state"] = self._state()
        (KEPT / f"{seed}.json").write_text(json.dumps(told, indent=1))
        print(f"FAULT {wrong}: {ask.method} {ask.path} -> {got.status}; replay: --replay {seed}", flush=True)

    def _state(self) -> object:
        asker = Asker(self.running.place.port)
        try:
            return json.loads(asker.ask(Ask("openai", "GET", "/api/v1/state", None)).body)
        except (OSError, ValueError) as error:
            return repr(error)
        finally:
            asker.close()

    def run(self) -> None:
        """All of them, with a line now and then."""
        clients = [threading.Thread(target=self.client) for _ in range(CLIENTS)]
        started = time.monotonic()
        span = self._end - started
        for client in clients:
            client.start()
        looks = 0
        while any(client.is_alive() for client in clients):
            for client in clients:
                client.join(0.1)
            if (passed := time.monotonic() - started) >= looks * max(span / 60, 5.0):
                looks += 1
                self.look(passed)
        self.look(time.monotonic() - started)

    def look(self, passed: float) -> None:
        """One line: how many, how fast, how much memory."""
        self.memory.append(self._process.memory_info().rss)
        done = sum(self.statuses.values())
        rate = done / passed if passed else 0.0
        print(f"{passed:6.0f} s  {done:8d} requests  {rate:6.0f}/s  {self.memory[-1] / 2**20:6.1f} MiB", flush=True)

    def verdicts(self) -> list[str]:
        """What fails the run."""
        found = [f"{count} x {path}: {wrong}" for (path, wrong), count in self.faults.items()]
        warm = self.memory[max(1, len(self.memory) // 10)]
        if self.memory[-1] - warm > GROWTH:
            found.append(f"memory grew from {warm >> 20} to {self.memory[-1] >> 20} MiB")
        log = self.running.log()
        if "Traceback" in log:
            found.append("traceback in the log:\n" + log[log.index("Traceback") :][:3000])
        bad = [line for line in self.running.log_lines() if line.get("level") in {"error", "critical"}]
        return found + [f"{len(bad)} errors in the log, the first: {line}" for line in bad[:1]]


def all_answer(port: int) -> list[str]:
    """Whose models do not answer a plain request."""
    asker, found = Asker(port), []
    for name in ("alpha", "double"):
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}).encode()
        got = asker.ask(Ask("openai", "POST", "/v1/chat/completions", body))
        if got.status != 200:
            found.append(f"{name} does not answer at the end: {got}")
    asker.close()
    return found


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Spoilt requests to a running Roundhouse.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the first request; without, a random one")
    parser.add_argument("--replay", type=int, default=None, help="the seed of one request")
    options = parser.parse_args()
    place = Place()
    settle(place)
    with Running(place) as running:
        if options.replay is not None:
            ask = of_seed(options.replay)
            asker = Asker(place.port)
            got = asker.ask(ask)
            print(f"{ask}\n{got}\n{judge(ask, got) or 'as it must be'}\n{running.log()[-6000:]}")
            asker.close()
            return 0
        first = options.seed if options.seed is not None else secrets.randbits(40)
        print(f"seeds from {first}; Roundhouse {running.pid} in {place.folder}", flush=True)
        fuzz = Fuzz(running, first, options.minutes * 60)
        fuzz.run()
        found = fuzz.verdicts() + all_answer(place.port)
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / "last.log").write_text(running.log())
    print("statuses:", dict(sorted(fuzz.statuses.items())))
    print("\n".join(found) or "no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
