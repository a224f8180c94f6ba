import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from roundhouse.cli.top import _next, pressed
from tests.cli.commands import error, run, run_here, stub
from tests.cli.test_board import entry, model, state
from tests.support.tmux import PROMPT, needs_tmux, terminal

METRICS = b'roundhouse_requests_total{status="200"} 10\n'
FEED = [b'id: 1\nevent: ready\ndata: {"model": "big", "seconds": 3.2}\n\n']
TOP = f"{shlex.quote(sys.executable)} -m roundhouse top --url "


def answers(models=None, queue=()):
    return {
        "GET /api/v1/state": (200, state(models) if models else state()),
        "GET /api/v1/queue": (200, {"waiting": list(queue)}),
        "GET /metrics": (200, METRICS),
        "GET /api/v1/events": (200, FEED),
    }


@pytest.fixture
def tty():
    """A terminal; its socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="rh-", dir="/tmp") as folder:
        yield lambda **size: terminal(Path(folder), {"PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}, **size)


def filled(lines, height):
    return len(lines) == height and lines[0].startswith("Roundhouse 1") and lines[-1].startswith("q quit")


def test_without_a_terminal_it_prints_once():
    with stub(answers(queue=[entry()])) as there:
        shown = run_here("top", "--url", there.url)
    assert shown.code == 0, shown.err
    assert "\x1b" not in shown.out
    assert "  next" in shown.out
    assert "     3 s  next: 1 request ahead" in shown.out.splitlines()


def test_it_reads_what_a_real_roundhouse_tells(real):
    run("load", "one", "--url", real.url)
    shown = run("top", "--url", real.url)
    assert shown.code == 0, shown.err
    (line,) = (line for line in shown.out.splitlines() if line.startswith("  one"))
    assert line.split()[1:4] == ["ready", "40", "MiB"]
    assert run("top", "--json", "--url", real.url).json["queue"] == []


def test_as_json():
    with stub(answers(queue=[entry()])) as there:
        shown = run_here("top", "--json", "--url", there.url)
    assert shown.json == {"state": state(), "queue": [entry()]}


def test_nobody_there_is_3_and_forbidden_4():
    with stub({}) as gone:
        pass
    assert run_here("top", "--url", gone.url).code == 3
    with stub({"GET /api/v1/state": (401, error("Which key?"))}) as there:
        assert run_here("top", "--url", there.url).code == 4


@needs_tmux
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_it_fills_the_terminal_and_leaves_it_as_it_was(tty, width, height):
    with stub(answers(queue=[entry()])) as there, tty(width=width, height=height) as shown:
        shown.enter("echo before; stty -a > /dev/null")
        shown.until("before")
        shown.enter(TOP + there.url)
        shown.until("q quit", "big", "big: ready after 3.2 s")
        shown.until_it(lambda lines: filled(lines, height), f"{width}x{height}")
        shown.type("q")
        shown.until("before", PROMPT.strip())
        assert "q quit" not in "\n".join(shown.screen())
        shown.enter("stty -a | grep -o '[-]*icanon\\|[-]*echo ' | tr '\\n' '.'; echo code $?")
        assert "-icanon" not in "\n".join(shown.until("icanon", "code 0"))


@needs_tmux
def test_a_resize_is_followed(tty):
    with stub(answers()) as there, tty(width=80, height=24) as shown:
        shown.enter(TOP + there.url)
        shown.until("q quit")
        for width, height in ((60, 12), (150, 40), (41, 6)):
            shown.resize(width, height)
            shown.until_it(lambda lines, height=height: filled(lines, height), f"{width}x{height}")
        shown.type("q")
        shown.until(PROMPT.strip())


@needs_tmux
def test_ctrl_c_and_a_signal_leave_the_terminal_as_it_was(tty):
    with stub(answers()) as there, tty() as shown:
        shown.enter(TOP + there.url + "; echo code $?")
        shown.until("q quit")
        shown.type("C-c")
        shown.until("code 130")
        shown.enter("clear")
        shown.enter(TOP + there.url + "; echo code $?")
        shown.until("q quit")
        pid = shown.run("list-panes", "-F", "#{pane_pid}").strip()
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        lines = shown.until("code 143")
        assert "q quit" not in "\n".join(lines)


@needs_tmux
def test_keys_choose_load_and_unload(tty):
    made = answers() | {
        "POST /api/v1/models/next/unload": (200, {"state": "unloaded"}),
        "POST /api/v1/models/big/load": (409, error("big may not\nbe loaded")),
    }
    with stub(made) as there, tty() as shown:
        shown.enter(TOP + there.url)
        shown.until("q quit")
        shown.type("l")
        shown.until("choose a model first")
        shown.type("Down")
        shown.until("▸ next")
        shown.type("u")
        shown.until("next is unloaded")
        shown.type("j", "l")
        shown.until("▸ big", "big may not")
        shown.type("Up", "Up")
        shown.until("▸ small", "q quit")
        shown.type("q")
        shown.until(PROMPT.strip())


@needs_tmux
def test_it_goes_on_when_roundhouse_comes_back(tty):
    with tty() as shown:
        with stub(answers()) as there:
            shown.enter(TOP + there.url)
            shown.until("q quit", "healthy")
        shown.until("Nothing answers at")
        port = int(there.url.rpartition(":")[2])
        with stub(answers({"fresh": model("ready")}), port=port):
            shown.until("healthy", "fresh")
        shown.type("q")
        shown.until(PROMPT.strip())


@needs_tmux
def test_another_program_there_is_told_and_waited_out(tty):
    with tty() as shown, stub(answers()) as there:
        shown.enter(TOP + there.url)
        shown.until("healthy")
        there.answers["GET /api/v1/queue"] = (200, {})
        shown.until("is no Roundhouse of this version")
        there.answers |= answers()
        shown.until("healthy")
        shown.type("q")
        shown.until(PROMPT.strip())


def test_keys_that_come_together_are_told_apart():
    assert pressed("\x1b[A\x1bOBjq\x1b[Dl") == ["up", "down", "down", "q", "\x1b[D", "l"]


def test_the_choice_goes_round():
    assert [_next(["a", "b"], at, step) for at, step in ((None, 1), (None, -1), ("b", 1), ("a", -1), ("x", 1))] == [
        "a",
        "b",
        "a",
        "b",
        "a",
    ]
