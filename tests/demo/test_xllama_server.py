"""The shim is forced here; on machines where a prebuilt llama-server runs it would not be chosen."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from roundhouse.demo import xllama_server
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.ports import Build
from roundhouse.runtime.binaries import flags_in
from tests.engines.models import model
from tests.support.gguf_files import SENTENCE, write_tiny_chat, write_tiny_embedding
from tests.support.real_engine import Server, free_port, outcome, running

if TYPE_CHECKING:
    from pathlib import Path

    from roundhouse.config.models import ModelConfig

ONE_THREAD = ("-t", "1")  # threads of llama.cpp wait for one another by spinning, which busy cores make very slow
SHIM = (sys.executable, "-m", "roundhouse.demo.xllama_server")
real = [
    pytest.mark.real,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="package xllamacpp is not installed"),
]


def build() -> Build:
    return Build(SHIM, "", flags_in(xllama_server.parser().format_help()))


def ready(server: Server) -> Server:
    deadline = time.monotonic() + 60
    while not LlamaCpp().is_ready(*(server.ask("/health") or (0, b""))):
        assert server.process.poll() is None, server.lines()
        assert time.monotonic() < deadline, server.lines()
        time.sleep(0.02)
    return server


@pytest.mark.parametrize(
    "settings",
    [{}, {"profile": "fast-start"}, {"profile": "fast-answers"}, {"kind": "embedding"}, {"kind": "rerank"}, {"mmproj": "/m/mmproj.gguf"},
     {"args": ("--chat-template", "{{ x }}", "-t", "2", "-ctk", "q8_0")}],
)  # fmt: skip
def test_it_takes_every_command_line_of_our_description(settings):
    argv = LlamaCpp().command(model(**settings), None, build(), 4711).argv[len(SHIM) :]
    wanted = xllama_server.parser().parse_args(argv)
    assert (wanted.model, wanted.host, wanted.port) == ("/models/m.gguf", "127.0.0.1", 4711)


def test_help_names_flags_as_llama_server_does():
    assert {"-m", "--model", "-fit", "--no-warmup", "--embeddings", "--cors-origins"} <= build().flags


def test_a_flag_it_does_not_know_is_said_as_llama_server_says_it(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        xllama_server.parser().parse_args(["-m", "x", "--frobnicate"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: unrecognized arguments: --frobnicate\n"


def test_version_needs_no_model(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        xllama_server.parser().parse_args(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("version: xllamacpp")


class TestReal:
    pytestmark = real

    def run(self, wanted: ModelConfig, tmp_path: Path):
        port = free_port()
        return running(LlamaCpp().command(wanted, None, build(), port), port, tmp_path / "log")

    def test_it_chats_and_ends_at_once(self, tmp_path: Path):
        path = write_tiny_chat(tmp_path / "tiny.gguf", "alpha")
        with self.run(
            model(id="tiny", path=path, context=1024, slots=2, launcher="attached", args=ONE_THREAD), tmp_path
        ) as server:
            ready(server)
            reply = server.ask("/props")
            assert reply is not None
            served = LlamaCpp().served({"/props": reply[1]})
            assert (served.slots, served.context) == (2, 1024)
            body = json.dumps({"messages": [{"role": "user", "content": "Who are you?"}]}).encode()
            reply = server.ask("/v1/chat/completions", body)
            assert reply is not None
            assert json.loads(reply[1])["choices"][0]["message"]["content"].strip() == SENTENCE
            assert json.loads(reply[1])["model"] == "tiny"
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(5) == 0

    def test_it_reports_progress_and_ends_with_its_stdin(self, tmp_path: Path):
        path = write_tiny_chat(tmp_path / "tiny.gguf", "alpha")
        with self.run(model(path=path, context=512, args=ONE_THREAD), tmp_path) as server:
            ready(server)
            server.end()
            fractions = [found.fraction for line in server.lines() if (found := LlamaCpp().progress(line))]
        assert 1.0 in fractions

    def test_it_embeds(self, tmp_path: Path):
        path = write_tiny_embedding(tmp_path / "e.gguf")
        with self.run(model(path=path, kind="embedding", args=ONE_THREAD), tmp_path) as server:
            ready(server)
            reply = server.ask("/v1/embeddings", b'{"input":"one"}')
            assert reply is not None
            assert reply[0] == 200

    def test_a_chat_template_of_ones_own(self, tmp_path: Path):
        path = write_tiny_chat(tmp_path / "tiny.gguf", "alpha")
        with self.run(
            model(path=path, context=512, args=("--chat-template", "A{{ 1 + 1 }}B", *ONE_THREAD)), tmp_path
        ) as server:
            ready(server)
            reply = server.ask("/apply-template", b'{"messages":[{"role":"user","content":"x"}]}')
            assert reply is not None
            assert json.loads(reply[1])["prompt"] == "A2B"

    def test_a_missing_model_is_told_as_llama_server_tells_it(self, tmp_path: Path):
        path = tmp_path / "missing.gguf"
        code, lines = outcome(LlamaCpp().command(model(path=path), None, build(), free_port()).argv)
        assert code == 1
        assert LlamaCpp().failure(lines) == f"the file {path} does not exist"

    def test_d11_a_slot_is_saved_into_its_folder_and_restored(self, tmp_path: Path):
        folder = tmp_path / "sessions"
        folder.mkdir()
        wanted = model(path=write_tiny_chat(tmp_path / "tiny.gguf", "alpha"), context=512, slots=1, args=ONE_THREAD)
        command = LlamaCpp().command(wanted, None, build(), port := free_port())
        argv = (*command.argv, "--slot-save-path", str(folder))
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
        with running(replace(command, argv=argv), port, tmp_path / "log") as server:
            ready(server).ask("/v1/chat/completions", body)
            said = [server.ask(f"/slots/0?action={what}", b'{"filename":"a"}') for what in ("save", "restore")]
            server.end()
        assert [reply[0] for reply in said if reply is not None] == [200, 200]
        assert (folder / "a").stat().st_size > 0
