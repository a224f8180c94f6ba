"""Commands in a real terminal, as a person sees them: what is shown meanwhile, and that nothing of it is left."""

from __future__ import annotations

import shlex
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.cli.commands import chunk, stub
from tests.support.tmux import PROMPT, needs_tmux, terminal

pytestmark = needs_tmux
PROGRAM = f"{shlex.quote(sys.executable)} -m roundhouse"
FEED = [b'id: 1\nevent: progress\ndata: {"model": "m", "fraction": 0.5, "stage": "reading weights"}\n\n']


@pytest.fixture
def shown():
    with (
        tempfile.TemporaryDirectory(prefix="rh-", dir="/tmp") as folder,
        terminal(Path(folder), {"LC_ALL": "C.UTF-8"}) as made,
    ):
        yield made


def test_a_load_shows_a_bar_and_leaves_one_line(shown):
    seen = threading.Event()
    with stub({"GET /v1/models/m": (200, {"id": "m"}), "GET /api/v1/events": (200, FEED)}) as there:
        there.answers["POST /api/v1/models/m/load"] = (200, {"model": "m", "state": "ready", "device": {}})
        usual = there.answer

        def answer(asked):
            if asked.method == "POST":
                assert seen.wait(30)
            return usual(asked)

        there.answer = answer
        shown.enter("clear")
        shown.enter(f"{PROGRAM} load m --url {there.url}; echo code $?")
        lines = shown.until("loading m", "50%", "reading weights")
        assert any("━" in line for line in lines)
        seen.set()
        lines = shown.until("m is ready.", "code 0")
    assert "reading weights" not in "\n".join(lines)


def test_ctrl_c_in_a_chat_stops_the_answer_then_leaves(shown):
    go_on = threading.Event()

    with stub({"GET /v1/models/m": (200, {"id": "m"})}) as there:
        usual = there.answer

        def answer(asked):
            if asked.method != "POST":
                return usual(asked)
            there.asked.append(asked)
            return 200, endless(go_on)

        there.answer = answer
        shown.enter("clear")
        shown.enter(f"{PROGRAM} chat m --url {there.url}; echo code $?")
        shown.until("Ctrl-C stops an answer")
        shown.enter("hello")
        shown.until("one two")
        shown.type("C-c")
        shown.until("stopped")
        shown.until_it(lambda lines: [line for line in lines if line.strip()][-1].strip() == ">", "a new question")
        shown.type("C-c")
        shown.until("code 0", PROMPT.strip())
        shown.enter("stty -a | grep -o ' -*icanon'")
        assert "-icanon" not in "\n".join(shown.until("icanon"))
        go_on.set()


class endless(list):
    """An answer that begins and does not end before it may."""

    def __init__(self, go_on):
        super().__init__()
        self.go_on = go_on

    def __iter__(self):
        yield chunk(content="one two")
        self.go_on.wait(60)
