"""What a flag of llama-server's does to its start and to its answers: `make bench-starts`.

    python -m bench.starts [--llama-server PATH] [--rounds N] [--answers N] [--threads N] [--cold] [--only REGEX]

Each row is the command of a `balanced` model with one thing changed. A round starts every row once, one after another
and each time in another order, so that a machine that is slow for a while is slow for all of them; the differences
told are the medians of those within rounds. Health is polled every 2 ms. Processor time is the whole process's until
it was ready, which other programs disturb less; less still with `--threads 1`, as llama.cpp's threads wait for one
another by spinning. Answers are asked for in the first rounds only. The models are the demo's (`make demo-smoke` fetches
them).
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tests.support.real_engine import Server, free_port, running

from bench.memory import processor_words
from bench.switching import DEMO
from roundhouse.config.models import ModelConfig
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.ports import Build
from roundhouse.runtime import binaries
from roundhouse.runtime.files import facts_of

ENGINE = LlamaCpp()
TIMES = ("ready", "processor", "first")
FILES = ("SmolLM2*.gguf", "gemma-3-270m*.gguf")
STORY = "A train left the station in the morning and those who waited there looked after it for a while. " * 12
QUESTIONS = (
    "Write one sentence about trains.",
    f"Tell this again in your own words: {STORY}",
    "Count from one to twenty.",
)


@dataclass(frozen=True)
class Variant:
    """What is changed in the command of a `balanced` model."""

    name: str
    args: tuple[str, ...] = ()
    profile: Literal["fast-start", "balanced", "fast-answers"] = "balanced"
    progress: bool = True
    """Whether llama-server tells how far it is, as for its own router."""


def flags(*args: str) -> Variant:
    return Variant(f"`{' '.join(args)}`", args)


BASE = Variant("balanced")
VARIANTS = (
    BASE,
    Variant("`profile: fast-start`", profile="fast-start"),
    Variant("`profile: fast-answers`", profile="fast-answers"),
    Variant("without progress mode", progress=False),
    flags("-fit", "on"),
    flags("--no-warmup"),
    flags("--no-repack"),
    flags("-lm", "none"),
    flags("-lm", "dio"),
    flags("-lm", "mmap+mlock"),
    flags("--no-ui"),
    flags("-lv", "3"),
    flags("--log-disable"),
    flags("--chat-template", "chatml"),
    flags("--poll", "0"),
    flags("-ub", "2048", "-b", "2048"),
    flags("--spec-type", "ngram-mod"),
)


@dataclass(frozen=True)
class Conditions:
    """What all starts of a model have in common."""

    build: Build
    path: Path
    threads: int | None
    cold: bool


@dataclass(frozen=True)
class Start:
    """One start: seconds to health 200, of processor time until then, and from ready to the first token."""

    ready: float
    processor: float
    first: float
    answers: tuple[dict, ...] = ()
    """To `QUESTIONS`, where they were asked."""

    @property
    def speed(self) -> float:
        """Tokens per second of an answer."""
        return statistics.median(one["timings"]["predicted_per_second"] for one in self.answers)

    @property
    def prompt_speed(self) -> float:
        """Tokens per second of the longest prompt."""
        return max((one["timings"] for one in self.answers), key=lambda told: told["prompt_n"])["prompt_per_second"]

    @property
    def tokens(self) -> list[tuple[str, float]]:
        """Of the answers, with their log probabilities."""
        found = (token for one in self.answers for token in one["choices"][0]["logprobs"]["content"])
        return [(token["token"], token["logprob"]) for token in found]

    @property
    def to_token(self) -> float:
        return self.ready + self.first


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--llama-server", help="another one than Roundhouse would find")
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--answers", type=int, default=2, help="rounds in which answers are asked for")
    words.add_argument("--threads", type=int, help="of every row; default: llama.cpp's own number")
    words.add_argument("--only", default="", help="besides balanced, rows whose names this regular expression finds")
    words.add_argument("--cold", action="store_true", help="drop the file from the page cache before each start")
    words.add_argument("--json", type=Path, help="write the rows there too")
    said = words.parse_args()
    build = asyncio.run(binaries.find("llamacpp", ENGINE.binaries, said.llama_server))
    variants = [variant for variant in VARIANTS if variant is BASE or re.search(said.only, variant.name)]
    print(f"{build.version}; {processor_words()}; {said.rounds} rounds; {said.threads or 'default'} threads")
    tables: dict[str, list[dict]] = {}
    for pattern in FILES:
        path = next(DEMO.rglob(pattern), None)
        if path is None:
            print(f"{pattern} is not there: `make demo-smoke` fetches it", file=sys.stderr)
            continue
        starts = rounds(Conditions(build, path, said.threads, said.cold), variants, said.rounds, said.answers)
        tables[path.stem] = [row(variant, starts) for variant in variants]
        print(f"\n{table(path.stem, tables[path.stem])}")
    if said.json:
        said.json.write_text(json.dumps(tables, indent=1) + "\n")


def rounds(under: Conditions, variants: list[Variant], count: int, answered: int) -> dict[str, list[Start]]:
    """The starts of each variant, one a round."""
    found: dict[str, list[Start]] = {variant.name: [] for variant in variants}
    order, shuffle = list(variants), random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        start(replace(under, cold=False), BASE, Path(folder), ask=False)  # so that the program is in memory
        for number in range(count):
            shuffle.shuffle(order)
            for variant in order:
                found[variant.name].append(start(under, variant, Path(folder), ask=number < answered))
            print(f"{under.path.stem}: round {number + 1} of {count}", file=sys.stderr)
    return found


def start(under: Conditions, variant: Variant, folder: Path, *, ask: bool) -> Start:
    threads = ("-t", str(under.threads)) if under.threads else ()
    args = (*threads, *variant.args)
    model = ModelConfig(
        id="it", path=under.path, engine="llamacpp", launcher="process", context=4096, slots=1, args=args,
        profile=variant.profile,
    )  # fmt: skip
    port = free_port()
    command = ENGINE.command(model, facts_of(under.path), under.build, port)
    if not variant.progress:
        command = replace(command, env={})
    if under.cold:
        forget(under.path)
    began = time.perf_counter()
    with running(command, port, folder / "log") as server:
        ready = until_ready(server, began)
        processor = used(server.process.pid)
        first = first_token(port)
        told = tuple(answer(server, question) for question in QUESTIONS) if ask else ()
        server.end()
    return Start(ready, processor, first, told)


def until_ready(server: Server, began: float) -> float:
    while (reply := server.ask("/health")) is None or not ENGINE.is_ready(*reply):
        if server.process.poll() is not None:
            raise SystemExit(f"{' '.join(map(str, server.process.args))}\n{server.lines()[-5:]}")
        time.sleep(0.002)
    return time.perf_counter() - began


def used(pid: int) -> float:
    """Seconds of processor time of a process so far: fields 14 and 15 of /proc/PID/stat (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request(question: str, tokens: int, **more: object) -> bytes:
    message = [{"role": "user", "content": question}]
    return json.dumps(
        {"messages": message, "max_tokens": tokens, "temperature": 0, "cache_prompt": False, **more}
    ).encode()


def first_token(port: int) -> float:
    """Seconds to the first event of a streamed answer to a short question."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", request(QUESTIONS[0], 1, stream=True))
    reply = connection.getresponse()
    while not reply.readline().startswith(b"data:"):
        pass
    found = time.perf_counter() - began
    reply.read()
    connection.close()
    return found


def answer(server: Server, question: str) -> dict:
    reply = server.ask("/v1/chat/completions", request(question, 48, logprobs=True))
    assert reply is not None
    assert reply[0] == 200, reply
    found: dict = json.loads(reply[1])
    return found


def forget(path: Path) -> None:
    """Drops a file's pages from the page cache, as far as nobody has them mapped (posix_fadvise(2))."""
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def row(variant: Variant, starts: dict[str, list[Start]]) -> dict:
    mine, base = starts[variant.name], starts[BASE.name]
    pairs = list(zip(mine, base, strict=True))
    shown = {name: figure([getattr(one, name) for one in mine]) for name in TIMES}
    more = {f"{name}_more": middle(getattr(m, name) - getattr(b, name) for m, b in pairs) for name in TIMES}
    asked = [(m, b) for m, b in pairs if m.answers]
    speeds = {name: middle(getattr(m, name) / getattr(b, name) for m, b in asked) for name in ("speed", "prompt_speed")}
    return {"name": variant.name, **shown, **more, **speeds, "answers": alike(mine[0].tokens, base[0].tokens)}


def middle(values: Iterable[float]) -> float:
    return round(statistics.median(values), 4)


def figure(values: list[float]) -> dict[str, float]:
    return {"median": middle(values), "min": round(min(values), 4)}


def alike(mine: list[tuple[str, float]], base: list[tuple[str, float]]) -> str:
    """Whether greedy answers and their log probabilities are the same."""
    if mine == base:
        return "same, to the bit"
    if [token for token, _ in mine] == [token for token, _ in base]:
        apart = max(abs(m - b) for (_, m), (_, b) in zip(mine, base, strict=True))
        return f"same; log probabilities differ by up to {apart:.1g}"
    first = next(
        (i for i, (m, b) in enumerate(zip(mine, base, strict=False)) if m[0] != b[0]), min(len(mine), len(base))
    )
    return f"other from token {first + 1} of {len(base)}"


def table(model: str, rows: list[dict]) -> str:
    head = "| ready, median (min) | against balanced | processor time | against balanced | first token after that |"
    lines = [f"| {model} {head} answers, prompts per second | greedy answers |", "|---|---|---|---|---|---|---|---|"]
    for one in rows:
        cells = [
            f"{one['ready']['median'] * 1000:.0f} ({one['ready']['min'] * 1000:.0f}) ms",
            f"{one['ready_more'] * 1000:+.0f} ms",
            f"{one['processor']['median'] * 1000:.0f} ({one['processor']['min'] * 1000:.0f}) ms",
            f"{one['processor_more'] * 1000:+.0f} ms",
            f"{one['first']['median'] * 1000:.0f} ({one['first']['min'] * 1000:.0f}) ms",
            f"x {one['speed']:.2f}, x {one['prompt_speed']:.2f}",
            one["answers"],
        ]
        lines.append(f"| {one['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
