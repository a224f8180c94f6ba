"""Random requests for models of which two to four fit, with a real llama-server: memory is never overrun, no load fails.

`make test-coload` sets ROUNDHOUSE_COLOAD=200, the number of requests; without it this is skipped. Nothing says how much
memory a model needs, so the ledger has its own estimates at first and what it has measured later. Two things are looked
at five times a second: what the ledger has promised (`ours` in `/health`, never more than the budget), and what the
engines' processes really hold (their proportional shares, PSS, added up here without the product's own code).
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from roundhouse.demo.run import default_cache, prepare
from tests.support.gguf_files import write_tiny_chat
from tests.support.house import Place, Running
from tests.support.real_engine import real_build

REQUESTS = int(os.environ.get("ROUNDHOUSE_COLOAD", "0"))
SEEDS = [int(seed) for seed in os.environ.get("ROUNDHOUSE_COLOAD_SEED", "4 5").split()]
BUDGET_MIB = 1100
TOLERANCE = 1.05
"""Processes may hold so much of the budget: they are looked at one after the other, while some grow and others end."""
CLIENTS = 3
TOKEN_BYTES = 2048
"""KV cache of one token of a tiny model with eight layers: keys and values of 64 numbers in f16 each."""
CACHES_MIB = (20, 60, 120, 200, 300, 400)
RUNNING = {"loading", "ready", "draining", "stopping"}
MIB = 2**20

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not REQUESTS, reason="takes some minutes: run it with `make test-coload`"),
]


@dataclass
class Seen:
    """What the observer saw; sizes in bytes."""

    samples: int = 0
    claimed: int = 0
    claims: dict[str, int] = field(default_factory=dict)
    measured: int = 0
    holders: dict[str, int] = field(default_factory=dict)
    over: int = 0
    unheeded: list[str] = field(default_factory=list)
    """Promises beyond the budget while nobody was on the way out: an engine may turn out larger than was thought."""
    together: Counter[int] = field(default_factory=Counter)


class Observer(threading.Thread):
    """Looks at the ledger and at the processes until it is told to stop."""

    def __init__(self, running: Running) -> None:
        super().__init__(daemon=True)
        self._running = running
        self._stopped = threading.Event()
        self.seen = Seen()
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self._stopped.wait(0.2):
                self._look()
        except Exception as error:
            self.failure = error

    def stop(self) -> None:
        self._stopped.set()
        self.join(30)
        if self.failure is not None:
            raise self.failure

    def _look(self) -> None:
        state = health(self._running.place.port)
        held = engines(self._running.pid, self._running.place.install)
        seen, total = self.seen, sum(held.values())
        seen.samples += 1
        claimed = state["devices"]["ram"]["ours"]
        claims = {n: m["device"]["ram"] for n, m in state["models"].items() if m["state"] in RUNNING}
        if claimed > seen.claimed:
            seen.claimed, seen.claims = claimed, claims
        leaves = any(model["state"] in {"draining", "stopping"} for model in state["models"].values())
        if claimed > BUDGET_MIB * MIB and not leaves:
            seen.unheeded.append(in_words(claims))
        seen.over += total > BUDGET_MIB * MIB
        if total > seen.measured:
            seen.measured, seen.holders = total, held
        seen.together[sum(model["state"] in {"ready", "draining"} for model in state["models"].values())] += 1


def health(port: int) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def engines(root: int, install: str) -> dict[str, int]:
    """Bytes that each engine's processes hold, by model: those with the installation's mark, below Roundhouse."""
    found: Counter[str] = Counter()
    for process in psutil.Process(root).children(recursive=True):
        try:
            mark = process.environ().get("ROUNDHOUSE_ENGINE", "")
            if mark.startswith(f"{install}:"):
                found[mark.partition(":")[2]] += share(process.pid)
        except (psutil.Error, OSError):  # it has ended
            continue
    return dict(found)


def share(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


class Client(threading.Thread):
    """Takes steps from the common list and asks; an agent that stays with its model for some requests, then changes."""

    def __init__(self, port: int, steps: list[dict], lock: threading.Lock) -> None:
        super().__init__(daemon=True)
        self._port, self._steps, self._lock = port, steps, lock
        self.failures: list[str] = []
        self.answered = 0

    def run(self) -> None:
        while step := self._next():
            try:
                self._ask(step)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{step['model']}: {error!r}")
            time.sleep(step["think"])  # not to synchronise: a client's own time between its requests

    def _next(self) -> dict | None:
        with self._lock:
            return self._steps.pop(0) if self._steps else None

    def _ask(self, step: dict) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        try:
            connection.request("POST", step["path"], json.dumps(step["body"]), {"content-type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or b'"error"' in body:
                self.failures.append(f"{step['model']}: {answer.status} {body[-300:]!r}")
            self.answered += 1
        finally:
            connection.close()


def script(models: list[str], chance: random.Random) -> list[dict]:
    """The requests, the same for the same seed: half of them go on with the model of the one before."""
    steps, model = [], models[0]
    for _ in range(REQUESTS):
        model = model if chance.random() < 0.5 else chance.choice(models)
        step = {"model": model, "think": chance.uniform(0, 0.2), "path": "/v1/chat/completions"}
        if model == "minilm":
            step |= {"path": "/v1/embeddings", "body": {"model": model, "input": "A cat sits on the mat."}}
        else:
            chat = {"messages": [{"role": "user", "content": "Say something about trains."}]}
            step["body"] = {
                "model": model,
                "stream": chance.random() < 0.5,
                "max_tokens": chance.randint(1, 24),
                **chat,
            }
        steps.append(step)
    return steps


def write_config(place: Place) -> list[str]:
    assets = prepare(default_cache(os.environ), Console(stderr=True), os.environ)
    flags = ["--device", "none", "--cache-ram", "0"]
    models: dict[str, dict] = {}
    for size in CACHES_MIB:
        path = write_tiny_chat(place.folder / f"kv{size}.gguf", f"kv{size}", n_ctx=262144, n_layer=8)
        tokens = size * MIB // TOKEN_BYTES // 2
        models[f"kv{size}"] = {"path": str(path), "context": tokens, "slots": 2, "args": ["-t", 1, *flags]}
    real = {"context": 4096, "slots": 2, "args": flags}
    models["smollm2"] = {"path": str(assets.smollm2), **real}
    template = ["--jinja", "--chat-template-file", str(assets.template)]
    models["gemma3"] = {"path": str(assets.gemma3), **real, "args": [*template, *flags]}
    models["minilm"] = {"path": str(assets.minilm), **real, "kind": "embedding", "context": 512}
    engine = {"llamacpp": {"binary": real_build().argv[0]}}
    place.write(models, devices={"ram": f"{BUDGET_MIB}MiB"}, engines=engine, status={"channel": "off"})
    return list(models)


def counted(running: Running, name: str) -> dict[str, float]:
    """A counter's values by its labels."""
    connection = http.client.HTTPConnection("127.0.0.1", running.place.port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)}


def in_words(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / MIB:.0f}" for name, size in sizes.items())


@pytest.mark.parametrize("seed", SEEDS)
def test_random_loads_side_by_side_stay_within_the_budget_and_none_fails(seed):
    if len(real_build().argv) != 1:
        pytest.skip("needs a llama-server program: xllamacpp does not know all its flags")
    place = Place()
    models = write_config(place)
    steps, lock = script(models, random.Random(seed)), threading.Lock()
    begun = time.monotonic()
    with Running(place) as running:
        observer = Observer(running)
        observer.start()
        clients = [Client(place.port, steps, lock) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        observer.stop()
        loads = counted(running, "roundhouse_loads_total")
        switches = sum(counted(running, "roundhouse_switches_total").values())
        failures = [failure for client in clients for failure in client.failures]
        answered = sum(client.answered for client in clients)
        log = running.log()[-3000:] if failures else ""
    seen = observer.seen
    print(
        f"\nseed {seed}: {answered} requests, {len(failures)} failed; {sum(loads.values()):.0f} loads, {switches:.0f} models made room; "
        f"ready at once: {dict(sorted(seen.together.items()))}; budget {BUDGET_MIB} MiB, promised at most "
        f"{seen.claimed / MIB:.0f} ({in_words(seen.claims)}), measured at most {seen.measured / MIB:.0f} "
        f"({in_words(seen.holders)}), over it in {seen.over} of {seen.samples} samples; {time.monotonic() - begun:.0f} s"
    )
    assert not failures, f"{failures[:5]}\n{log}"
    assert answered == REQUESTS
    assert [name for name, count in loads.items() if 'result="failed"' in name and count] == []
    assert max(seen.together) >= 2, "no two models were there at once: nothing was tried"
    assert not seen.unheeded, f"promised beyond the budget, and nobody leaves: {seen.unheeded}"
    assert seen.measured <= BUDGET_MIB * MIB * TOLERANCE, f"held: {in_words(seen.holders)}"
