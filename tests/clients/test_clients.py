"""Clients of others while a model is loaded and while it is loading, with every status channel; writes the table of it.

Each client is a program of its own (`programs`), in the environment that scripts/clients.sh makes. SmolLM2 answers, a real
llama.cpp makes its structures by grammar, MiniLM embeds; a double calls tools (`tool_engine`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from roundhouse.demo.run import default_cache, prepare
from tests.clients import tool_engine
from tests.support.house import Place, Running
from tests.support.wire import Api

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".cache/clients"
PROGRAMS = ROOT / "tests/clients/programs"
PAGE = ROOT / "docs/compatibility-clients.md"
FEATURES = ["stream", "chat", "structured output", "tools", "embeddings", "responses", "unknown model"]
COLD = ["stream", "chat"]
"""Those whose model is unloaded before each."""
CHANNELS = ["event", "reasoning", "comment", "off"]
"""`content` puts text into the answer: that is for terminals, and these are none."""
CLIENTS = {
    "LangChain (langchain-openai)": ("langchain_openai_case.py", "langchain-openai"),
    "litellm": ("litellm_case.py", "litellm"),
    "llm": ("llm_case.py", "llm"),
    "openai for Node": ("openai_node.mjs", "openai"),
    "AI SDK": ("ai_sdk.mjs", "ai"),
}
MEANWHILE = ["loading", "loaded"]

pytestmark = pytest.mark.skipif("ROUNDHOUSE_CLIENTS" not in os.environ, reason="run it with `make test-clients`")


@pytest.fixture(scope="module")
def house():
    assets = prepare(default_cache(os.environ), Console(stderr=True), os.environ)
    place = Place()
    smol = {"path": str(assets.smollm2), "context": 2048, "slots": 1, "memory": "400MiB", "aliases": []}
    models = {"smol": smol, "mini": {"path": str(assets.minilm), "kind": "embedding", "memory": "120MiB"}}
    models |= {f"smol-{channel}": {**smol, "status": {"channel": channel}} for channel in CHANNELS}
    command = f"{sys.executable} -S {tool_engine.__file__} --port ${{PORT}}"
    models["caller"] = {"engine": "openai", "command": command, "memory": "10MiB", "health": "/health"}
    engines = {"llamacpp": {"binary": str(assets.engine.program)}}
    place.write(models, engines=engines, devices={"ram": "600MiB"})
    with Running(place):
        yield SimpleNamespace(url=f"http://127.0.0.1:{place.port}/v1", api=Api(place.port))
    place.remove()


@pytest.fixture(scope="module")
def matrix():
    found: dict[tuple[str, str, str], bool] = {}
    yield found
    PAGE.write_text(page(found))


def command(program: str) -> list[str]:
    if program.endswith(".py"):
        return [str(HOME / "python/bin/python"), str(PROGRAMS / program)]
    if not (HOME / "node").is_dir():
        pytest.skip("Node's packages are not there (scripts/clients.sh says why)")
    for file in (program, "common.mjs"):
        shutil.copy(PROGRAMS / file, HOME / "node" / file)
    return ["node", str(HOME / "node" / program)]


def tried(house, program: str, model: str, *only: str) -> dict[str, dict]:
    words = [*command(program), house.url, model, "mini", *only]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"NO_COLOR": "1"}
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr[-2000:]
    assert told, done.stderr[-2000:]
    return {one["feature"]: one for one in told}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("client", CLIENTS)
async def test_every_feature(house, matrix, client, meanwhile):
    """While it loads: each feature finds the model unloaded."""
    program, _ = CLIENTS[client]
    told: dict[str, dict] = {}
    if meanwhile == "loaded":
        await house.api.post("/api/v1/models/smol/load")
        told = tried(house, program, "smol", *(feature for feature in FEATURES if feature != "tools"))
    else:
        for feature in COLD:
            await house.api.post("/api/v1/models/smol/unload")
            await house.api.post("/api/v1/models/mini/unload")
            told |= tried(house, program, "smol", feature)
    await house.api.post(f"/api/v1/models/caller/{'load' if meanwhile == 'loaded' else 'unload'}")
    if program != "llm_case.py":
        told |= tried(house, program, "caller", "tools")
    for feature, one in told.items():
        matrix[client, feature, meanwhile] = one["ok"]
        print(f"{client} · {feature} · {meanwhile}: {one['ok']} {one['said']!r}")
    assert {feature: one["said"] for feature, one in told.items() if not one["ok"]} == {}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_b2_a_stream_while_its_model_loads_with_every_status_channel(house, matrix, client, channel):
    model = f"smol-{channel}"
    await house.api.post(f"/api/v1/models/{model}/unload")
    told = tried(house, CLIENTS[client][0], model, "stream")["stream"]
    matrix[client, f"stream, status by {channel}", "loading"] = told["ok"]
    assert told["ok"], told["said"]


def versions() -> dict[str, str]:
    pinned = dict(
        line.split(" ")[0].split("==")
        for line in (ROOT / "requirements/clients.txt").read_text().splitlines()
        if "==" in line
    )
    node = json.loads((PROGRAMS / "package.json").read_text())["dependencies"]
    return {
        client: pinned[package] if program.endswith(".py") else node[package]
        for client, (program, package) in CLIENTS.items()
    }


def page(found: dict[tuple[str, str, str], bool]) -> str:
    lines = [
        "<!-- Written by `make test-clients`: run that instead of changing it. -->",
        "",
        "# Clients that were tried",
        "",
        f"On {time.strftime('%Y-%m-%d', time.gmtime())}, by `make test-clients`, with a real llama.cpp: SmolLM2, MiniLM; tools by a double that calls one.",
        "Two marks: while the model is loaded · asked for while it is not. `–`: the client has no such thing, or it was not tried.",
        "",
    ]
    told = versions()
    columns = [f"{client} {told[client]}" for client in CLIENTS]
    lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for feature in [*FEATURES, *(f"stream, status by {channel}" for channel in CHANNELS)]:
        cells = []
        for client in CLIENTS:
            marks = [found.get((client, feature, meanwhile)) for meanwhile in reversed(MEANWHILE)]
            cells.append(" · ".join("–" if mark is None else "yes" if mark else "**no**" for mark in marks))
        lines.append(f"| {feature} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
