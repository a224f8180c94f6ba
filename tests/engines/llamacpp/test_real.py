"""The description against a real llama-server."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from roundhouse.demo.run import default_cache
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.formats import gguf
from roundhouse.ports import ModelFacts, Served
from tests.engines.models import MIB, model
from tests.support.gguf_files import SENTENCE, write_tiny_chat, write_tiny_embedding
from tests.support.real_engine import Server, free_port, outcome, real_build, running

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig

pytestmark = pytest.mark.real
ONE_THREAD = ("-t", "1")  # threads of llama.cpp wait for one another by spinning, which busy cores make very slow
ENGINE = LlamaCpp()


def facts_of(path: Path) -> ModelFacts:
    with path.open("rb") as stream:
        return gguf.read(stream, path.stat().st_size)


def until_ready(server: Server, wanted: ModelConfig) -> list[int]:
    """Polls as the runtime does; returns the statuses seen."""
    seen, deadline = [], time.monotonic() + 60
    while time.monotonic() < deadline:
        reply = server.ask(ENGINE.ready_paths(wanted)[0])
        if reply is not None:
            seen.append(reply[0])
            if ENGINE.is_ready(*reply):
                return seen
        assert server.process.poll() is None, server.lines()
        time.sleep(0.01)
    raise AssertionError(server.lines())


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_chat(tmp_path / "tiny.gguf", "alpha")


def test_c2_c4_a_model_is_served_as_described(tiny: Path, tmp_path: Path):
    wanted = model(id="tiny", path=tiny, context=1024, slots=3, args=ONE_THREAD)
    port = free_port()
    command = ENGINE.command(wanted, facts_of(tiny), real_build(), port)
    with running(command, port, tmp_path / "log") as server:
        assert set(until_ready(server, wanted)) <= {200, 503}
        reply = server.ask("/props")
        assert reply is not None
        served = ENGINE.served({"/props": reply[1]})
        assert served == Served(slots=3, context=1024, build=served.build)
        assert served.build
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "Who are you?"}]}).encode()
        reply = server.ask("/v1/chat/completions", body)
        assert reply is not None
        assert json.loads(reply[1])["choices"][0]["message"]["content"].strip() == SENTENCE
        resident = _resident(server.process.pid)
        server.end()
    estimate = ENGINE.footprint(wanted, facts_of(tiny))
    assert estimate is not None
    assert abs(resident - estimate) < 40 * MIB  # programs differ by 25 MiB, one with GPU libraries by more


def real_or_tiny(folder: Path) -> Path:
    """The demo's SmolLM2 where it was fetched: its weights have types that kernels differ for."""
    return next(default_cache(os.environ).rglob("SmolLM2*.gguf"), None) or write_tiny_chat(folder / "t.gguf", "alpha")


@pytest.mark.parametrize("profile", ["fast-start", "fast-answers"])
def test_no_profile_changes_an_answer(profile: str, tmp_path: Path):
    """Greedy tokens and their log probabilities, to the bit."""
    path = real_or_tiny(tmp_path)
    assert greedy(path, tmp_path, profile) == greedy(path, tmp_path, "balanced")


def greedy(path: Path, folder: Path, profile: str) -> list[tuple[str, float]]:
    wanted = model(path=path, context=512, profile=profile, args=ONE_THREAD)
    question = {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0, "max_tokens": 16}
    port = free_port()
    with running(ENGINE.command(wanted, None, real_build(), port), port, folder / profile) as server:
        until_ready(server, wanted)
        reply = server.ask("/v1/chat/completions", json.dumps({**question, "logprobs": True}).encode())
        assert reply is not None
        server.end()
    found = [(token["token"], token["logprob"]) for token in json.loads(reply[1])["choices"][0]["logprobs"]["content"]]
    assert len(found) > 5
    return found


def test_c5_progress_mode_reports_the_load(tiny: Path, tmp_path: Path):
    wanted = model(path=tiny, context=512, args=ONE_THREAD)
    port = free_port()
    with running(ENGINE.command(wanted, None, real_build(), port), port, tmp_path / "log") as server:
        until_ready(server, wanted)
        server.end()
        seen = [found for line in server.lines() if (found := ENGINE.progress(line))]
    assert 1.0 in [found.fraction for found in seen]
    assert "reading weights" in [found.stage for found in seen]


def test_an_engine_in_progress_mode_ends_with_its_stdin(tiny: Path, tmp_path: Path):
    wanted = model(path=tiny, context=512, args=ONE_THREAD)
    port = free_port()
    with running(ENGINE.command(wanted, None, real_build(), port), port, tmp_path / "log") as server:
        until_ready(server, wanted)
        assert server.process.stdin is not None
        server.process.stdin.close()
        server.process.wait(10)


def test_inputs_as_long_as_the_context_are_embedded(tmp_path: Path):
    path = write_tiny_embedding(tmp_path / "tiny-embedding.gguf")
    facts = facts_of(path)
    wanted = model(path=path, kind="embedding", args=ONE_THREAD)
    port = free_port()
    with running(ENGINE.command(wanted, facts, real_build(), port), port, tmp_path / "log") as server:
        until_ready(server, wanted)
        reply = server.ask("/v1/embeddings", json.dumps({"input": ["one", "two"]}).encode())
        assert reply is not None
        assert reply[0] == 200
        assert len(json.loads(reply[1])["data"]) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the file {path} does not exist"),
        (b"this is no model at all", "{path} is not a GGUF file"),
        (b"", "{path} is not a GGUF file"),
        ("half", "{path} is incomplete: download it again"),
    ],
)
def test_c2_reasons_of_failed_loads(tiny: Path, tmp_path: Path, content, reason: str):
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(tiny.read_bytes()[: tiny.stat().st_size // 2] if content == "half" else content)
    code, lines = outcome(ENGINE.command(model(path=path), None, real_build(), free_port()).argv)
    assert code == 1
    assert ENGINE.failure(lines) == reason.format(path=path)


def test_c2_the_reason_is_a_taken_port(tiny: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, lines = outcome(ENGINE.command(model(path=tiny), None, real_build(), port).argv)
    assert code == 1
    assert ENGINE.failure(lines) == f"port {port} is taken by another program"


def test_c2_the_reason_is_a_flag_that_the_build_does_not_know(tiny: Path):
    code, lines = outcome(ENGINE.command(model(path=tiny, args=("--frobnicate",)), None, real_build(), 1).argv)
    assert code == 1
    assert "--frobnicate" in ENGINE.failure(lines)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
