"""The engines of the table: a Roundhouse with a model of each, and what their loads wait for."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from tests.compatibility.features import Subject
from tests.e2e.test_tabby import NEW
from tests.real.subject import CONTEXT, FLAGS, double
from tests.support import media_engine
from tests.support.double import CAPTURES
from tests.support.gguf_files import CAPABLE_TEMPLATE, write_tiny_chat, write_tiny_embedding
from tests.support.house import Place, Running, Scripted, free_port
from tests.support.real_engine import real_build
from tests.support.tabby_checkout import make_checkout, make_model
from tests.support.wire import Api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.ports import Build

ENGINES = {
    "llamacpp": "llama.cpp, real",
    "sglang": "SGLang 0.5.23, double",
    "vllm": "vLLM 0.32.0, double",
    "tabbyapi": f"TabbyAPI {NEW}, double",
    "openai": "any other server, double",
}
SMALL: dict[str, Any] = {"memory": "100MiB"}
PARSERS = {"sglang": "deepseek-r1", "vllm": "deepseek_r1"}


@contextmanager
def subjects() -> Iterator[dict[str, Subject]]:
    """All of them fit."""
    place, build = Place(), real_build()
    folder = place.folder
    gates = {name: place.gate(name) for name in ENGINES}
    for gate in gates.values():
        gate.touch()
    models, engines = llamacpp(folder, gates["llamacpp"], build)
    for name in ("sglang", "vllm"):
        models |= paged(folder, name, gates[name], engines)
    models |= tabby(folder, gates["tabbyapi"])
    models |= anything(folder, gates["openai"])
    place.write(models, engines=engines, devices={"ram": "4GiB"})
    api = Api(place.port)
    records = {name: folder / f"{name}.jsonl" for name in ("sglang", "vllm", "openai")}
    records["tabbyapi"] = folder / "tabby" / "record.jsonl"
    more = {
        "llamacpp": {"embed": "vectors", "rank": "ranker", "thinks": "muse"},
        "sglang": {"thinks": "sglang-thinks", "calls": "sglang-calls"},
        "vllm": {"thinks": "vllm-thinks", "calls": "vllm-calls"},
        "tabbyapi": {},
        "openai": {"embed": "openai-vectors", "rank": "openai-ranks", "media": "media", "calls": "openai-calls"},
    }
    with Running(place):
        yield {name: Subject(api, name, gates[name], records.get(name), **more[name]) for name in ENGINES}


def llamacpp(folder: Path, gate: Path, build: Build) -> tuple[dict[str, Any], dict[str, Any]]:
    """The real one, started by a script that waits for its gate."""
    write_tiny_chat(folder / "llamacpp.gguf", "llamacpp", n_ctx=65536, template=CAPABLE_TEMPLATE)
    write_tiny_chat(folder / "muse.gguf", "muse", "<think> I muse </think> well .", template=CAPABLE_TEMPLATE)
    write_tiny_embedding(folder / "vectors.gguf")
    write_tiny_embedding(folder / "ranker.gguf", ranks=True)
    program = folder / "llama-server"
    waits = f"case \" $* \" in *' --port '*) while [ ! -e {gate} ]; do sleep 0.01; done;; esac"
    program.write_text(f'#!/bin/sh\n{waits}\nexec {shlex.join(build.argv)} "$@"\n')
    program.chmod(0o755)
    slots = {"llamacpp": {"context": 65536, "slots": 2}, "muse": {"context": 1024}, "vectors": {}, "ranker": {}}
    models = {
        name: {"path": str(folder / f"{name}.gguf"), "args": ["--threads", 1], **SMALL, **its}
        for name, its in slots.items()
    }
    return models, {"llamacpp": {"binary": str(program)}}


def paged(folder: Path, engine: str, gate: Path, engines: dict[str, Any]) -> dict[str, Any]:
    """SGLang or vLLM: the model, and ones that think and that call tools as the real one was seen to."""
    subject = double(folder / engine, engine)
    engines[engine] = {"python": str(subject.python)}
    env = subject.environ(record=folder / f"{engine}.jsonl", token_delay=0.0, gates={"weights": str(gate)})
    model: dict[str, Any] = {"path": str(subject.model), "engine": engine, "context": CONTEXT, "slots": 4, **SMALL}
    model |= {"args": list(FLAGS[engine]), "env": {name: value.replace("$", "$$") for name, value in env.items()}}
    thinks = model | {"args": [*FLAGS[engine], "--reasoning-parser", PARSERS[engine]]}
    calls = model | {"set": {"fake": {"raw": two_calls(engine)}}}
    return {engine: model, f"{engine}-thinks": thinks, f"{engine}-calls": calls}


def two_calls(engine: str) -> list[str]:
    """The captured stream of one call, and the call once more at the next index, ended as one that is whole is ended."""
    text = (CAPTURES / engine / "toolparser_stream.sse").read_text()
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        choice["finish_reason"] = choice["finish_reason"] and "tool_calls"  # it had reached its limit
    again = [deepcopy(chunk) for chunk in chunks if calls_in(chunk)]
    for call in (call for chunk in again for call in calls_in(chunk)):
        call["index"] = 1
        call["id"] = call.get("id") and call["id"] + "2"
    last = max(number for number, chunk in enumerate(chunks) if calls_in(chunk))
    for choice in (choice for chunk in chunks[: last + 1] for choice in chunk["choices"]):
        choice["finish_reason"] = None  # vLLM's stands with the last piece of the call
    return [json.dumps(chunk) for chunk in (*chunks[: last + 1], *again, *chunks[last + 1 :])]


def calls_in(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for choice in chunk["choices"] for call in choice["delta"].get("tool_calls") or ()]


def tabby(folder: Path, gate: Path) -> dict[str, Any]:
    port = free_port()
    checkout = make_checkout(folder / "tabby", NEW, port=port)
    make_model(folder / "exl", "one-4bpw", "exl3", gate=str(gate))
    its = {"dir": str(checkout), "model_dir": str(folder / "exl"), "model_name": "one-4bpw"}
    return {"tabbyapi": {"engine": "tabbyapi", "tabby": its, "port": port, **SMALL}}


def anything(folder: Path, gate: Path) -> dict[str, Any]:
    """Servers that have OpenAI's API, all of whose notes are in one file."""
    flags = ("--load-gate", str(gate), "--record", str(folder / "openai.jsonl"))
    raw = [f"data: {payload}\n\n" for payload in (*two_calls("vllm"), "[DONE]")]
    chosen: dict[str, dict[str, Any]] = {
        "openai": {},
        "openai-vectors": {"kind": "embedding"},
        "openai-ranks": {"kind": "rerank"},
        "openai-calls": {"set": {"fake": {"tokens": 0, "raw": raw, "close": True}}},
    }
    models = {name: Scripted(folder, name, *flags, **its).config | SMALL for name, its in chosen.items()}
    command = f"{sys.executable} -S {media_engine.__file__} --port ${{PORT}} --record {folder / 'media.jsonl'}"
    return models | {"media": {"engine": "openai", "command": command, "health": "/health", **SMALL}}
