"""What llama-server's flags cost or save at a start: seconds until it answers, and until its first token.

    python -m bench.starts [--rounds 7] [--llama-server PATH] [--json FILE]

Each real model of the demo (`make demo-smoke` fetches them) is started by the very command that Roundhouse runs, with one
thing changed. The variants take turns within a round, so that a machine whose speed drifts is unfair to none. Files are in
the page cache. Greedy answers to one prompt are compared with those of the first variant.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.real_engine import free_port, running

from bench.memory import processor_words
from bench.switching import DEMO
from roundhouse.config.models import ModelConfig
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.ports import Build
from roundhouse.runtime import binaries
from roundhouse.runtime.files import facts_of

ENGINE = LlamaCpp()
POLL = 0.005
PROMPT = {"prompt": "The capital of France is", "n_predict": 8, "temperature": 0, "cache_prompt": False}
MODELS = ("SmolLM2*.gguf", "gemma-3-270m*.gguf")
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "balanced": ("balanced", ()),
    "fast-start (`--no-warmup`)": ("fast-start", ()),
    "with its own fitting (`-fit on`)": ("balanced", ("-fit", "on")),
    "`--no-repack`": ("balanced", ("--no-repack",)),
    "without its page (`--no-ui`)": ("balanced", ("--no-ui",)),
    "less log (`-lv 1`)": ("balanced", ("-lv", "1")),
}
"""By name: the profile, and arguments of the user's."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--llama-server", help="another one than Roundhouse would find")
    words.add_argument("--json", type=Path, help="write the rows there too")
    said = words.parse_args()
    build = asyncio.run(binaries.find("llamacpp", ENGINE.binaries, said.llama_server))
    rows = [row for pattern in MODELS for row in compared(build, next(DEMO.rglob(pattern)), said.rounds)]
    print(f"{build.version}; {processor_words()}; {said.rounds} rounds, median (least); seconds")
    print("| model | flags | answers after | first token | first token of the next request | same answer |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("| {model} | {variant} | {ready} | {first} | {next} | {same} |".format(**row))
    if said.json:
        said.json.write_text(
            json.dumps({"build": build.version, "processor": processor_words(), "rows": rows}, indent=1)
        )


def compared(build: Build, path: Path, rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[tuple[float, float, float, str]]] = {name: [] for name in VARIANTS}
    for number in range(rounds):
        print(f"{path.name}: round {number + 1} of {rounds}", file=sys.stderr)
        for name, (profile, args) in VARIANTS.items():
            found[name].append(started(build, path, profile, args))
    answer = found["balanced"][0][3]
    return [
        {
            "model": path.stem,
            "variant": name,
            "ready": figure([run[0] for run in runs]),
            "first": figure([run[1] for run in runs]),
            "next": figure([run[2] for run in runs]),
            "same": "yes" if all(run[3] == answer for run in runs) else "no",
        }
        for name, runs in found.items()
    ]


def started(build: Build, path: Path, profile: str, args: tuple[str, ...]) -> tuple[float, float, float, str]:
    """Seconds to the first 200 of its health, to the first token after the start, to that of the next request."""
    wanted = ModelConfig(
        id="m", path=path, engine="llamacpp", context=4096, slots=1, profile=profile, args=("--device", "none", *args)
    )
    port = free_port()
    command = ENGINE.command(wanted, facts_of(path), build, port)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with running(command, port, Path(folder) / "log") as server:
            while (reply := server.ask("/health")) is None or reply[0] != 200:
                assert server.process.poll() is None, server.lines()
                time.sleep(POLL)
            ready = time.monotonic() - began
            first, text = asked(server)
            later, _ = asked(server)
    return ready, ready + first, later, text


def asked(server: Any) -> tuple[float, str]:
    began = time.monotonic()
    first = server.ask("/completion", json.dumps({**PROMPT, "n_predict": 1}).encode())
    spent = time.monotonic() - began
    assert first is not None
    reply = server.ask("/completion", json.dumps(PROMPT).encode())
    assert reply is not None
    return spent, json.loads(reply[1])["content"]


def figure(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f})"


if __name__ == "__main__":
    main()
