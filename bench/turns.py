"""`make bench-switching`: whose turn it is, played with real engines. Prints tables, writes bench/results/switching.json.

    python -m bench.turns [--quick] [--only agents,overload,...] [--policies turns,run-first,...] [--seconds N] [--seed N]

Roundhouse against its own run-first and FIFO settings and llama-server's router mode, with the same clients
(`workloads.py`) for the same time. Not counted: each program first loads every model once, and the clients play for a
lead-in, so that load and think times are known where they are learned. A benchmark, not a test: nothing fails because of a figure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import slow
from bench.contestants import CONTESTANTS, Engine
from bench.play import Record, Stage, play, summary
from bench.run import RESULTS, machine
from bench.workloads import SCALE, STEP, Ask, Workload, workloads
from roundhouse.demo.run import default_cache, prepare
from roundhouse.engines import ENGINES
from roundhouse.ports import Build
from roundhouse.runtime import binaries

QUICK = {"agents": (10.0, 14.0), "overload": (0.0, 16.0)}
"""Seconds of lead-in and seconds that count."""


def files(workload: Workload, folder: Path) -> dict[str, Path]:
    """The workload's models in this folder: made there, or links to those of `make demo`, which are fetched if need be."""
    made = {name: folder / f"{name}.gguf" for name in workload.models}
    for name, played in workload.models.items():
        if played.load is None:
            made[name].symlink_to(demo_models()[name])
        else:
            (slow.embedding if played.kind == "embedding" else slow.chat)(folder, name)
            slow.set_pace(made[name], played.load / SCALE, STEP)
    return made


@functools.cache
def demo_models() -> dict[str, Path]:
    assets = prepare(default_cache(os.environ), Console(stderr=True), os.environ)
    return {"smollm2": assets.smollm2, "gemma3": assets.gemma3}


def warm_up(stage: Stage, workload: Workload) -> None:
    async def each() -> None:
        for name, played in workload.models.items():
            await stage.send(Ask(name, 1 if played.kind == "chat" else 0), "warm-up")

    asyncio.run(each())
    if failures := [record.failed for record in stage.records if record.failed]:
        raise SystemExit(f"a model did not load: {failures[0]}")


def loads(engine: Engine) -> Counter[str]:
    return Counter({name: slow.loads(path) for name, path in engine.files.items()})


def check_slowed(engine: Engine) -> None:
    if not all(loads(engine).values()):
        raise SystemExit(
            f"{' '.join(engine.build.argv)} took no notice of bench/slow.c: it must be a llama-server that is linked "
            "with libllama.so. Name one with --llama-server."
        )


def run(policy: str, workload: Workload, folder: Path, build: Build, preload: Path, seed: int) -> dict[str, Any]:
    """One program, one workload."""
    folder.mkdir()
    engine = Engine(build, preload, files(workload, folder))
    title, start = CONTESTANTS[policy]
    print(f"{workload.name}: {title}, {workload.lead_in:g} + {workload.seconds:g} s", file=sys.stderr, flush=True)
    # The rules that know no background tasks are not told of any.
    marks_tasks = policy == "turns"
    with start(engine, workload, folder) as port:
        warm_up(Stage(port, marks_tasks), workload)
        check_slowed(engine)
        stage = Stage(port, marks_tasks)
        before: Counter[str] = Counter()
        ticks = processor()
        asyncio.run(play(stage, workload, seed, lambda: before.update(loads(engine))))
        end = stage.now()
        counted = dict(loads(engine) - before)
        busy, idle = (now - then for now, then in zip(processor(), ticks, strict=True))
    found = {"name": title, **summary(stage.records, workload.lead_in, end)}
    found |= {"switches": sum(counted.values()), "loads_by_model": counted}
    found["processor_busy"] = round(busy / (busy + idle), 2)
    (folder / "requests.json").write_text(json.dumps([row(record) for record in stage.records]))
    return found


def processor() -> tuple[int, int]:
    """Ticks that this machine's processors were busy and idle (proc(5)): a row measured on a busy one says little."""
    figures = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = figures[3] + figures[4]
    return sum(figures) - idle, idle


def row(record: Record) -> list[Any]:
    """Model, task or not, then sent, first token and done in seconds."""
    times = [None if moment is None else round(moment, 3) for moment in (record.sent, record.first, record.done)]
    return [record.ask.model, record.ask.task, *times]


def table(workload: Workload, rows: dict[str, dict[str, Any]]) -> str:
    """Markdown. Waits are to the first token, in seconds as played."""
    models = list(workload.models)
    head = ["program", "done", "mean wait", "p95", "worst", *(f"worst {model}" for model in models)]
    head += ["switches", "not served", "failed", "CPU busy"]
    lines = [
        f"**{workload.title}**: {workload.seconds:g} s, max_wait {workload.max_wait / SCALE:g} s",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for found in rows.values():
        cells = [str(found["done"]), *(seconds(found[key]) for key in ("mean_wait_s", "p95_wait_s", "worst_wait_s"))]
        cells += [seconds(found["worst_wait_by_model_s"].get(model)) for model in models]
        cells += [str(found["switches"]), unserved(found), str(found["failed"])]
        cells.append(f"{found['processor_busy']:.0%}")
        lines.append(f"| {found['name']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *compared(rows), *bounded(workload, rows)])


def bounded(workload: Workload, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """How long a model may wait for its turn when one other is before it: until the leaving one's longest answer ends."""
    load = max((played.load or 0.0) / SCALE for played in workload.models.values())
    if "turns" in rows and load and (answer := rows["turns"]["longest_answer_s"]):
        limit = workload.max_wait / SCALE
        yield f"max_wait + longest answer + load: {limit:g} + {answer:.1f} + {load:g} = {limit + answer + load:.1f} s."


def compared(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Roundhouse beside each of the others, in a sentence."""
    ours = rows.get("turns")
    for policy, other in rows.items():
        if ours is None or policy == "turns" or not other["done"] or not other["mean_wait_s"]:
            continue
        done, wait = ours["done"] / other["done"], ours["mean_wait_s"] / other["mean_wait_s"]
        yield f"{ours['name']} : {other['name']} = {done:.2f} of the requests done, {wait:.2f} of the mean wait.\n"


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def unserved(found: dict[str, Any]) -> str:
    by_model = ", ".join(f"{count} {model}" for model, count in found["unserved_by_model"].items() if count)
    return by_model or "0"


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does: what was started is ended by the blocks that started it."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def chosen(asked: argparse.Namespace) -> list[Workload]:
    found = workloads()
    names = asked.only.split(",") if asked.only else [w.name for w in found if not asked.quick or w.name in QUICK]
    if unknown := set(names) - {workload.name for workload in found}:
        raise SystemExit(f"no workload is called {', '.join(sorted(unknown))}")
    found = [workload for workload in found if workload.name in names]
    if asked.quick:
        short = {workload.name: QUICK.get(workload.name, (2.0, 12.0)) for workload in found}
        found = [replace(w, lead_in=short[w.name][0], seconds=short[w.name][1]) for w in found]
    return [replace(workload, seconds=asked.seconds) for workload in found] if asked.seconds else found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="agents and overload for some seconds: 3 minutes")
    parser.add_argument("--only", help="workloads, with commas; all: agents,overload,tasks,embeddings,real")
    parser.add_argument("--policies", default=",".join(CONTESTANTS), help="programs, with commas; default: %(default)s")
    parser.add_argument("--seconds", type=float, help="how long each workload is counted, after its lead-in")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--llama-server", help="llama-server program; default: as Roundhouse finds it")
    parser.add_argument("--keep", type=Path, help="new folder for configurations, logs and requests, kept")
    asked = parser.parse_args()
    if asked.keep and asked.keep.exists():
        parser.error(f"--keep {asked.keep}: it is there already; name a new folder")
    if unknown := set(asked.policies.split(",")) - CONTESTANTS.keys():
        parser.error(f"--policies: no program is called {', '.join(sorted(unknown))}")
    return asked


def main() -> None:
    asked = arguments()
    results: dict[str, Any] = {"machine": machine(), "scale": SCALE, "seed": asked.seed, "workloads": {}}
    with ended_by_signals(), contextlib.ExitStack() as stack:
        place = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rh-turns-")))
        place.mkdir(parents=True, exist_ok=True)
        find = binaries.find("llamacpp", ENGINES["llamacpp"].binaries, asked.llama_server, place / "engines.json")
        build = asyncio.run(find)
        results["engine"] = build.version
        preload = slow.library(place)
        for workload in chosen(asked):
            rows = {}
            for policy in asked.policies.split(","):
                rows[policy] = run(policy, workload, place / f"{workload.name}-{policy}", build, preload, asked.seed)
            results["workloads"][workload.name] = {
                "title": workload.title,
                "seconds": workload.seconds,
                "programs": rows,
            }
            print(f"\n{table(workload, rows)}\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "switching.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(results["machine"])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted; all that was started has ended") from None
