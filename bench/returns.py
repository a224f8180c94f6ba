"""Coming back to a long conversation after a switch: part of `make bench-switching`. Writes bench/results/returns.json.

    python -m bench.returns [--quick] [--only roundhouse,off,router] [--seed N] [--llama-server PATH]

Two real models that do not fit together (the demo's SmolLM2, full attention, and Gemma 3 270M, a sliding window). A
conversation of about 4,000 tokens with one, a short question to the other, then the next turn with the first: the time to
its first token, beside the load that the switch takes by itself (the engine's own, from Roundhouse's swap report), with and
without saved conversations and with llama-server's router mode. Then switches of a tiny model, whose load is next to
nothing, so that what is left is ours. A benchmark, not a test: nothing fails because of a figure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.support.gguf_files import write_tiny_chat

from bench import programs
from bench.run import RESULTS, machine
from bench.turns import ended_by_signals, processor
from roundhouse.demo.config import CHAT_TEMPLATE
from roundhouse.demo.run import default_cache, prepare
from roundhouse.engines import ENGINES
from roundhouse.ports import Build
from roundhouse.runtime import binaries

CONTEXT, TOKENS = 8192, 16
SAME = ("--device", "none")
SENTENCES = {"smollm2": 330, "gemma3": 360}
"""That come to about 4,000 tokens."""
GOAL_LOADS, GOAL_SECONDS = 1.2, 0.3
PROGRAMS = {
    "roundhouse": "Roundhouse",
    "off": "Roundhouse, `sessions: {store: off}`",
    "router": "llama-server's router mode",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything of one program lies: the llama-server of all, its models, a folder."""

    build: Build
    models: dict[str, Path]
    folder: Path

    def args(self, name: str) -> list[str]:
        template = self.folder / "questions.jinja"
        template.write_text(CHAT_TEMPLATE)
        return [*SAME, *(["--jinja", "--chat-template-file", str(template)] if name == "gemma3" else [])]


@dataclass(slots=True)
class Turn:
    """What one answer was: seconds to its first token, tokens of its prompt that were reused, and of the prompt."""

    first: float
    reused: int
    prompt: int
    text: str


class Client:
    """Asks a program."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(
        self, model: str, messages: list[dict[str, str]], tokens: int = TOKENS, begun: threading.Event | None = None
    ) -> Turn:
        body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0}
        body |= {"stream": True, "ignore_eos": tokens != TOKENS}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        began, first, text, timings = time.perf_counter(), None, "", None
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                raise SystemExit(f"{model}: {reply.status} {reply.read()[:300]!r}")
            for line in reply:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                said = "".join(c.get("delta", {}).get("content") or "" for c in chunk.get("choices", ()))
                if said and first is None:
                    first = time.perf_counter() - began
                    if begun is not None:
                        begun.set()
                text, timings = text + said, chunk.get("timings") or timings
        finally:
            connection.close()
        assert timings is not None, text
        found = timings["cache_n"], timings["cache_n"] + timings["prompt_n"]
        return Turn(first or time.perf_counter() - began, *found, text)

    def switches(self, model: str) -> list[dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", f"/api/v1/switches?model={model}&limit=1000")
        found: list[dict[str, Any]] = json.loads(connection.getresponse().read())["switches"]
        connection.close()
        return found


@contextlib.contextmanager
def roundhouse(
    place: Place, store: str, context: int = CONTEXT, memory: int = 650, prefetch: str = "next"
) -> Iterator[int]:
    port, file, log = programs.free_port(), place.folder / "roundhouse.yaml", place.folder / "roundhouse.log"
    models = {
        name: {"path": str(path), "context": context, "slots": 1, "memory": f"{memory}MiB", "args": place.args(name)}
        for name, path in place.models.items()
    }
    text = {
        "listen": f"127.0.0.1:{port}", "state_dir": str(place.folder / "state"), "status": {"channel": "off"},
        "devices": {"ram": f"{memory + 350}MiB"}, "scheduling": {"max_wait": "0s", "linger": "off", "prefetch": prefetch},
        "engines": {"llamacpp": {"binary": place.build.argv[0]}}, "sessions": {"store": store}, "models": models,
    }  # fmt: skip
    file.write_text(json.dumps(text))
    with programs.process([sys.executable, "-m", "roundhouse", "serve", "-c", str(file)], log) as running:
        programs.wait_answer(f"http://127.0.0.1:{port}/health", running, log)
        yield port


@contextlib.contextmanager
def router(place: Place) -> Iterator[int]:
    port, preset, log = programs.free_port(), place.folder / "models.ini", place.folder / "router.log"
    sections = []
    for name, path in place.models.items():
        lines = [f"[{name}]", f"model = {path}", f"ctx-size = {CONTEXT}", "parallel = 1", "swa-full = true"]
        words = iter(place.args(name))
        lines += [f"{word.lstrip('-')} = {'true' if word == '--jinja' else next(words)}" for word in words]
        sections.append("\n".join(lines) + "\n\n")
    preset.write_text("".join(sections))
    argv = [*place.build.argv, "--models-preset", str(preset), "--models-max", "1", "-fit", "off"]
    with programs.process([*argv, "--host", "127.0.0.1", "--port", str(port)], log) as running:
        programs.wait_answer(f"http://127.0.0.1:{port}/models", running, log)
        yield port


@contextlib.contextmanager
def started(program: str, place: Place) -> Iterator[int]:
    with router(place) if program == "router" else roundhouse(place, "off" if program == "off" else "disk") as port:
        yield port


def returned(program: str, model: str, place: Place, times: int) -> dict[str, Any]:
    """One program and one model: a long conversation, left and come back to so many times."""
    print(f"{model}: {PROGRAMS[program]}", file=sys.stderr, flush=True)
    other = next(name for name in place.models if name != model)
    story = " ".join(f"The number {n + 1} comes after {n}." for n in range(SENTENCES[model]))
    messages = [{"role": "user", "content": f"{story} Which number was the last?"}]
    ticks = processor()
    with started(program, place) as port:
        client = Client(port)
        client.ask(other, [{"role": "user", "content": "Hello."}])  # both have been loaded once: their files are warm
        turns = [client.ask(model, messages)]
        for number in range(times):
            messages += [
                {"role": "assistant", "content": turns[-1].text},
                {"role": "user", "content": f"And {number}?"},
            ]
            client.ask(other, [{"role": "user", "content": "Hello."}])
            turns.append(client.ask(model, messages))
        messages += [{"role": "assistant", "content": turns[-1].text}, {"role": "user", "content": "And now?"}]
        stayed = client.ask(model, messages)
        loads = [] if program == "router" else [told["load_s"] for told in client.switches(model)[:times]]
    busy, idle = (now - then for now, then in zip(processor(), ticks, strict=True))
    back = turns[1:]
    return {
        "name": PROGRAMS[program],
        "first_turn_s": round(turns[0].first, 2),
        "stayed_s": round(stayed.first, 2),
        "prompt_tokens": back[-1].prompt,
        "ttft_s": [round(turn.first, 2) for turn in back],
        "load_s": [round(load, 2) for load in reversed(loads)],
        "reused": round(min(turn.reused / turn.prompt for turn in back), 3),
        "processor_busy": round(busy / (busy + idle), 2),
    }


def overhead(build: Build, folder: Path, times: int) -> dict[str, Any]:
    """Switches between two tiny models, by their parts, in milliseconds."""
    models = {name: write_tiny_chat(folder / f"{name}.gguf", name) for name in ("alpha", "beta")}
    place = Place(build, models, folder)
    with roundhouse(place, "disk", context=512, memory=400) as port:
        client = Client(port)
        for number in range(times + 2):
            client.ask(("alpha", "beta")[number % 2], [{"role": "user", "content": "hi"}])
        told = [switch for name in models for switch in client.switches(name) if switch["left"]]
    parts: dict[str, list[float]] = {"overhead": [], "load": [], "total": []}
    for switch in told:
        for part, seconds in switch["parts"].items():
            parts.setdefault(part, []).append(seconds)
        for part in ("overhead", "load", "total"):
            parts[part].append(switch[f"{part}_s"])
    return {
        "switches": len(told),
        **{
            part: {"median_ms": ms(statistics.median(found)), "most_ms": ms(max(found))}
            for part, found in parts.items()
        },
    }


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def table(model: str, rows: dict[str, dict[str, Any]]) -> str:
    lines = [f"**Back to a conversation with {model}**: time to the first token (seconds; each figure one turn)", ""]
    lines += [
        "| program | prompt | first turn | a turn that stays | back after a switch | its load | goal met | reused | CPU |"
    ]
    lines += ["|---" * 9 + "|"]
    for found in rows.values():
        pairs = list(zip(found["ttft_s"], found["load_s"], strict=False))
        good = sum(first <= GOAL_LOADS * load + GOAL_SECONDS for first, load in pairs)
        goal = f"{good} of {len(pairs)}" if pairs else "–"
        cells = [found["name"], f"{found['prompt_tokens']} tokens", str(found["first_turn_s"])]
        cells += [str(found["stayed_s"])]
        cells += [", ".join(map(str, found["ttft_s"])), ", ".join(map(str, found["load_s"])) or "–", goal]
        cells += [f"{found['reused']:.1%}", f"{found['processor_busy']:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def overhead_table(found: dict[str, Any]) -> str:
    lines = [
        f"**Parts of {found['switches']} switches** between two models of 3 MB (ms)",
        "",
        "| part | median | most |",
        "|---|---|---|",
    ]
    for part, figures in found.items():
        if part != "switches":
            lines.append(f"| {part} | {figures['median_ms']} | {figures['most_ms']} |")
    return "\n".join(lines)


def real(build: Build) -> tuple[Build, dict[str, Path]]:
    """The demo's models, and the engine by one name: that of xllamacpp is the demo's script."""
    assets = prepare(default_cache(os.environ), Console(stderr=True), os.environ)
    if len(build.argv) > 1:
        build = replace(build, argv=(str(assets.engine.program),))
    return build, {"smollm2": assets.smollm2, "gemma3": assets.gemma3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="SmolLM2 and Roundhouse alone, two returns")
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, with commas; default: %(default)s")
    parser.add_argument("--llama-server", help="llama-server program; default: as Roundhouse finds it")
    asked, _ = parser.parse_known_args()
    results: dict[str, Any] = {"machine": machine(), "models": {}}
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="rh-returns-") as folder:
        find = binaries.find(
            "llamacpp", ENGINES["llamacpp"].binaries, asked.llama_server, Path(folder) / "engines.json"
        )
        build, models = real(asyncio.run(find))
        results["engine"] = build.version
        names = ["roundhouse"] if asked.quick else asked.only.split(",")
        if "xllama" in build.argv[0]:  # it has no router mode
            names = [name for name in names if name != "router"]
        for model in ["smollm2"] if asked.quick else list(models):
            rows = {}
            for program in names:
                own = Path(folder) / f"{model}-{program}"
                own.mkdir()
                rows[program] = returned(
                    program, model, Place(build, models, own), 2 if asked.quick or program != "roundhouse" else 5
                )
            results["models"][model] = rows
            print(f"\n{table(model, rows)}\n", flush=True)
        own = Path(folder) / "tiny"
        own.mkdir()
        results["overhead"] = overhead(build, own, 6 if asked.quick else 30)
        print(f"\n{overhead_table(results['overhead'])}\n", flush=True)
    if not asked.quick:
        (RESULTS / "returns.json").write_text(json.dumps(results, indent=1) + "\n")
        print(f"written to {RESULTS / 'returns.json'}", file=sys.stderr)


if __name__ == "__main__":
    main()
