"""The engine of `make bench-switching`: a real llama-server that is slowed notes its load, and answers as it always does."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from bench import slow
from roundhouse.ports import Command
from tests.support import real_engine

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]


def start(build, path, preload, log):
    port = real_engine.free_port()
    words = ("-m", str(path), "-c", "512", "-np", "1", "-t", "1", "-fit", "off", "--port", str(port))
    command = Command((*build.argv, *words), {"LD_PRELOAD": str(preload)})
    return real_engine.running(command, port, log)


def until_ready(server):
    while (reply := server.ask("/health")) is None or reply[0] != 200:
        assert server.process.poll() is None, server.lines()[-5:]
        time.sleep(0.01)


def test_each_process_notes_one_load_and_answers_with_its_sentence(tmp_path):
    build = real_engine.real_build()
    if len(build.argv) != 1 or not Path(build.argv[0]).resolve().with_name("libllama.so").exists():
        pytest.skip("needs a llama-server program that is linked with libllama.so")
    preload, path = slow.library(tmp_path), slow.chat(tmp_path, "alpha")
    slow.set_pace(path, 0.05, 0.001)
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    for loads in (1, 2):
        with start(build, path, preload, tmp_path / "log") as server:
            until_ready(server)
            status, answer = server.ask("/v1/chat/completions", body)
            assert status == 200
            assert slow.SENTENCE.format(name="alpha") in json.loads(answer)["choices"][0]["message"]["content"]
        assert slow.loads(path) == loads
    assert "slow.so" not in (tmp_path / "log").read_text()


def test_without_a_compiler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(SystemExit, match="install gcc"):
        slow.library(tmp_path)
