"""Memory of real models: what their headers say beforehand, what llama-server logs, and what its process occupies.

    python -m bench.memory [--llama-server PATH] [--json FILE]

Each model is started by the very command that Roundhouse runs. Occupied is PSS of the whole process, once when it is
ready and once after an answer. The models are the demo's (`make demo-smoke` fetches them) and a made one of 3 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.support.gguf_files import write_tiny_chat
from tests.support.real_engine import Server, free_port, running

from bench.switching import DEMO
from roundhouse.config.models import ModelConfig
from roundhouse.core.model import Kind
from roundhouse.engines.llamacpp import LlamaCpp, layout, log
from roundhouse.runtime import binaries, processor
from roundhouse.runtime.files import facts_of

MIB = 2**20
ENGINE = LlamaCpp()
LONG = "A long sentence about trains, rails, stations and those who wait there for somebody. " * 20

SETTINGS = {
    "SmolLM2*.gguf": ({}, {"context": 2048, "slots": 4}, {"context": 8192, "slots": 1, "args": ("--no-repack",)},
                      {"context": 8192, "slots": 1, "args": ("-ctk", "q8_0", "-ctv", "q8_0")}),
    "gemma-3-270m*.gguf": ({}, {"context": 4096, "slots": 1}, {"context": 8192, "slots": 2, "args": ("--swa-full",)},
                           {"context": 4096, "slots": 1, "args": ("--no-repack",)}),
    "all-MiniLM*.gguf": ({}, {"args": ("--no-repack",)}),
}  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--llama-server", help="another one than Roundhouse would find")
    words.add_argument("--json", type=Path, help="write the rows there too")
    said = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build = asyncio.run(binaries.find("llamacpp", ENGINE.binaries, said.llama_server))
        rows = [measure(build, path, settings, Path(folder)) for path, settings in cases(Path(folder))]
    print(f"{build.version}; {processor_words()}; MiB; errors against what is occupied when ready")
    print("| model | settings | estimated | logged | occupied, ready | after an answer | estimate off | log off |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            "| {model} | {settings} | {estimated} | {logged} | {ready} | {answered} | {off} | {log_off} |".format(**row)
        )
    if said.json:
        said.json.write_text(
            json.dumps({"build": build.version, "processor": processor_words(), "rows": rows}, indent=1)
        )


def cases(folder: Path) -> list[tuple[Path, dict]]:
    found = [(path, settings) for pattern in SETTINGS for path in DEMO.rglob(pattern) for settings in SETTINGS[pattern]]
    if not found:
        sys.exit("no models: run `make demo-smoke` first")
    return [*found, (write_tiny_chat(folder / "tiny.gguf", "alpha"), {"context": 1024, "slots": 1})]


def measure(build, path: Path, settings: dict, folder: Path) -> dict:
    model, facts = (
        ModelConfig(id=path.stem, path=path, engine="llamacpp", launcher="process", **settings),
        facts_of(path),
    )
    plan = layout.layout(model, facts)
    estimated = ENGINE.footprint(model, facts, processor.flags())
    port = free_port()
    with running(ENGINE.command(model, facts, build, port), port, folder / "log") as server:
        deadline = time.monotonic() + 120
        while (reply := server.ask("/health")) is None or not ENGINE.is_ready(*reply):
            assert server.process.poll() is None, server.lines()[-5:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ready, logged = occupied(server), ENGINE.held(server.lines())
        ask(server, layout.kind_of(model, facts), plan)
        answered = occupied(server)
        buffers = [
            float(found["mib"])
            for line in server.lines()
            if (found := log.BUFFER.search(line)) and found["what"] in {"KV", "RS"}
        ]
        server.end()
    return {
        "model": path.stem, "settings": f"{plan.context} x {plan.slots}{' ' * bool(model.args)}{' '.join(model.args)}",
        "estimated": mib(estimated), "logged": mib(logged), "ready": mib(ready), "answered": mib(answered),
        "off": off(estimated, ready), "log_off": off(logged, ready),
        "cache_estimated": round(layout.cache(plan, facts) / MIB, 2), "cache_logged": round(sum(buffers), 2),
    }  # fmt: skip


def ask(server: Server, kind: Kind, plan: layout.Layout) -> None:
    path, body = ("/v1/completions", {"prompt": LONG[: plan.context // 2], "max_tokens": 32})
    if kind is Kind.EMBEDDING:
        path, body = ("/v1/embeddings", {"input": LONG[: plan.context]})
    reply = server.ask(path, json.dumps(body).encode())
    assert reply is not None
    assert reply[0] == 200, reply


def occupied(server: Server) -> int:
    """PSS: what is shared with other processes counts in part."""
    text = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def mib(size: int | None) -> str:
    return f"{size / MIB:.0f}" if size is not None else "-"


def off(size: int | None, real: int) -> str:
    return f"{(size / real - 1) * 100:+.1f} %" if size is not None else "-"


def processor_words() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in processor.LIST.read_text().splitlines()
        if line.startswith("model name")
    ]
    known = " ".join(flag for flag in ("avx2", "avx512f", "amx_int8", "asimddp") if flag in processor.flags())
    return f"{len(names)} x {names[0] if names else 'unknown processor'} ({known})"


if __name__ == "__main__":
    main()
