"""The programs that `make bench-switching` compares, each with the same engine, the same models and the same memory."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench import programs, slow
from bench.workloads import SCALE, Workload
from roundhouse.demo.config import CHAT_TEMPLATE
from roundhouse.ports import Build


@dataclass(frozen=True, slots=True)
class Engine:
    """The llama-server that all use, what is preloaded into it, and where the workload's models are."""

    build: Build
    preload: Path | None
    files: Mapping[str, Path]

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.preload)} if self.preload else {}


@dataclass(frozen=True, slots=True)
class Settings:
    """How one model is run, the same by all programs. `memory` in MiB is what it needs, from measurement."""

    context: int
    slots: int
    memory: int
    args: tuple[str, ...]


Start = Callable[[Engine, Workload, Path], AbstractContextManager[int]]

SAME = ("--device", "none", "--cache-ram", "0")
TINY = Settings(slow.CONTEXT, slow.SLOTS, 310, ("-t", "1", *SAME))
EMBED = Settings(512, slow.SLOTS, 60, ("-t", "1", *SAME))
SMOLLM2 = Settings(4096, 2, 440, SAME)
GEMMA3 = Settings(4096, 2, 600, SAME)


def settings(workload: Workload, name: str, folder: Path) -> Settings:
    played = workload.models[name]
    if played.kind == "embedding":
        return EMBED
    if played.load is not None:
        return TINY
    if name == "smollm2":
        return SMOLLM2
    template = folder / "gemma3-questions.jinja"
    template.write_text(CHAT_TEMPLATE)
    return Settings(
        GEMMA3.context, GEMMA3.slots, GEMMA3.memory, (*SAME, "--jinja", "--chat-template-file", str(template))
    )


def budget(workload: Workload) -> int:
    """MiB: the largest chat model beside the embedding model, with something to spare, and no two chat models."""
    return 450 if all(played.load is not None for played in workload.models.values()) else 800


def scheduling(policy: str, workload: Workload) -> str:
    turns = f"max_wait: {workload.max_wait / SCALE:g}s"
    rules = {"turns": turns, "fifo": "max_wait: 0s, linger: off", "run-first": "max_wait: 1000d, linger: off"}
    return f"{{{rules[policy]}, queue: {{limit: 10000, per_key: 10000, timeout: 1h}}, orphan_grace: 5s}}"


def config(policy: str, engine: Engine, workload: Workload, folder: Path, port: int) -> str:
    """Roundhouse's configuration. Without status lines: the first token is to be the first thing that comes."""
    text = [
        f"listen: 127.0.0.1:{port}",
        f"state_dir: {json.dumps(str(folder / 'state'))}",
        "status: {channel: off}",
        "performance: 'off'",
        "shutdown: {drain: 1s}",
        f"devices: {{ram: {budget(workload)}MiB}}",
        f"engines: {{llamacpp: {{binary: {json.dumps(engine.build.argv[0])}}}}}",
        f"scheduling: {scheduling(policy, workload)}",
        "models:",
    ]
    for name, path in engine.files.items():
        run = settings(workload, name, folder)
        model = {
            "path": str(path),
            "kind": workload.models[name].kind,
            "context": run.context,
            "slots": run.slots,
            "memory": f"{run.memory}MiB",
            "args": run.args,
            "env": engine.environment(),
        }
        text.append(f"  {name}: {json.dumps(model)}")
    return "\n".join(text) + "\n"


def roundhouse(policy: str) -> Start:
    @contextlib.contextmanager
    def start(engine: Engine, workload: Workload, folder: Path) -> Iterator[int]:
        port, file, log = programs.free_port(), folder / "roundhouse.yaml", folder / "roundhouse.log"
        file.write_text(config(policy, engine, workload, folder, port))
        with programs.process([sys.executable, "-m", "roundhouse", "serve", "-c", str(file)], log) as running:
            programs.wait_answer(f"http://127.0.0.1:{port}/health", running, log)
            yield port

    return start


@contextlib.contextmanager
def router_mode(engine: Engine, workload: Workload, folder: Path) -> Iterator[int]:
    """llama-server's own router. It counts models, not memory: one at a time is all that is sure to fit."""
    port, preset, log = programs.free_port(), folder / "models.ini", folder / "router.log"
    preset.write_text("".join(section(name, path, workload, folder) for name, path in engine.files.items()))
    argv = [*engine.build.argv, "--models-preset", str(preset), "--models-max", "1", "-fit", "off"]
    argv += ["--host", "127.0.0.1", "--port", str(port)]
    with programs.process(argv, log, **engine.environment()) as running:
        programs.wait_answer(f"http://127.0.0.1:{port}/models", running, log)
        yield port


def section(name: str, path: Path, workload: Workload, folder: Path) -> str:
    """A model in the router's preset file: flags without dashes."""
    run = settings(workload, name, folder)
    lines = [f"[{name}]", f"model = {path}", f"ctx-size = {run.context * run.slots}", f"parallel = {run.slots}"]
    words = iter(run.args)
    for word in words:
        lines.append(f"{word.lstrip('-')} = {'true' if word == '--jinja' else next(words)}")
    if workload.models[name].kind == "embedding":
        lines += ["embeddings = true", f"batch-size = {run.context}", f"ubatch-size = {run.context}"]
    return "\n".join(lines) + "\n\n"


CONTESTANTS: dict[str, tuple[str, Start]] = {
    "turns": ("Roundhouse", roundhouse("turns")),
    "run-first": ("Roundhouse, run-first", roundhouse("run-first")),
    "fifo": ("Roundhouse, FIFO", roundhouse("fifo")),
    "router": ("llama-server's router mode", router_mode),
}
