"""Weights that are read while the leaving model still answers. Writes bench/results/prefetch.json.

    python -m bench.prefetch [--rounds N] [--llama-server PATH]

The third part of `make bench-switching`. SmolLM2 answers at length. Gemma 3 270M, which does not fit beside it, is asked for
meanwhile, its file dropped from the page cache before. With `prefetch: next` its weights are read while the answer runs on,
with `off` when its engine starts. Both in each round, in changing order. What it is worth depends on the disk. A benchmark,
not a test.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

from bench.returns import Client, Place, real, roundhouse
from bench.run import RESULTS, machine
from bench.turns import ended_by_signals
from roundhouse.engines import ENGINES
from roundhouse.runtime import binaries

ANSWER = 160
"""Tokens of the answer that runs on: some seconds."""
QUESTION = [{"role": "user", "content": "Count from one to one hundred in words."}]


def drop(file: Path) -> None:
    """Out of the page cache, as after a day of other work; nobody may have it mapped."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def switched(prefetch: str, place: Place) -> dict[str, Any]:
    """One switch to a cold Gemma while SmolLM2 answers; the swap report of it."""
    place.folder.mkdir(exist_ok=True)
    with roundhouse(place, "off", prefetch=prefetch) as port:
        client = Client(port)
        client.ask("gemma3", QUESTION, 1)  # so that links and load times are known in each
        client.ask("smollm2", QUESTION, 1)
        drop(place.models["gemma3"])
        begun = threading.Event()
        answer = threading.Thread(target=Client(port).ask, args=("smollm2", QUESTION, ANSWER, begun))
        answer.start()
        begun.wait(60)
        turn = client.ask("gemma3", QUESTION, 1)
        answer.join()
        told = client.switches("gemma3")[0]
    return {**told, "ttft_s": turn.first}


def median(rows: list[dict[str, Any]], figure: str) -> float:
    return float(statistics.median(row[figure] for row in rows))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| `prefetch` | in memory when the engine started | the answer that ran on | engine's load | first token |"
    ]
    lines += ["|---" * 5 + "|"]
    for name, rows in found.items():
        cached = statistics.median(row["cached"] / row["weights"] for row in rows)
        drain = statistics.median(row["parts"].get("drain", 0.0) for row in rows)
        figures = f"{drain:.1f} s | {median(rows, 'load_s'):.2f} s | {median(rows, 'ttft_s'):.1f} s"
        lines.append(f"| {name} | {cached:.0%} of the weights | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-server", help="llama-server program; default: as Roundhouse finds it")
    asked, _ = parser.parse_known_args()
    found: dict[str, list[dict[str, Any]]] = {"next": [], "off": []}
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="rh-prefetch-") as folder:
        names = ENGINES["llamacpp"].binaries
        build, models = real(asyncio.run(binaries.find("llamacpp", names, asked.llama_server)))
        for number in range(asked.rounds):
            for name in list(found)[:: 1 if number % 2 else -1]:
                found[name].append(switched(name, Place(build, models, Path(folder) / f"{name}{number}")))
    print(f"{build.version}; {asked.rounds} rounds, medians\n\n{table(found)}")
    results = {"machine": machine(), "engine": build.version, "switches": found}
    (RESULTS / "prefetch.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
