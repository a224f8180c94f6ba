import json
import shutil
import subprocess
import time

import pytest

from tests.cli.commands import LIMIT, Terminal, argv, chunk, environ, error, run, stub

PATH = "POST /v1/chat/completions"
PERFORMANCE = "[Performance: 9.0 tok/s | 9 tokens in 1.00s]"
ANSWER = [
    chunk(line="⏳ Loading model... 0s / 5s"),
    chunk(line="✓ Model ready! (2s)", done=True),
    chunk(reasoning_content="let me see"),
    chunk(content="four\x1b[31m"),
    chunk(line=PERFORMANCE, done=True),
    b"data: [DONE]\n\n",
]


def test_a_pipe_gets_the_answer_alone():
    with stub({PATH: (200, ANSWER)}) as there:
        shown = run("chat", "m", "2+2?", "--system", "be brief", "--url", there.url)
    assert shown.code == 0
    assert shown.out == "four\x1b[31m\n"
    assert shown.err == f"⏳ Loading model... 0s / 5s\n✓ Model ready! (2s)\nlet me see\n{PERFORMANCE}\n"
    assert there.asked[0].json["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "2+2?"},
    ]


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_a_piped_message(arguments):
    with stub({PATH: (200, ANSWER)}) as there:
        assert run("chat", "m", *arguments, "--url", there.url, stdin="from a pipe\n").code == 0
    assert there.asked[0].json["messages"] == [{"role": "user", "content": "from a pipe\n"}]


def test_no_message_at_all_is_usage():
    shown = run("chat", "m", "--url", "http://127.0.0.1:9")
    assert shown.code == 2
    assert "no message" in shown.err


def test_json_is_the_raw_object_of_an_answer_without_stream():
    whole = {"id": "1", "choices": [{"message": {"content": "four"}}], "usage": {"response_token/s": 9.0}}
    with stub({PATH: (200, whole)}) as there:
        assert run("chat", "m", "2+2?", "--json", "--url", there.url).json == whole
    assert "stream" not in there.asked[0].json


@pytest.mark.parametrize(("status", "code"), [(404, 4), (429, 4), (503, 1), (400, 1)])
def test_refusals_and_failures(status, code):
    with stub({PATH: (status, error("the reason"))}) as there:
        shown = run("chat", "m", "hi", "--url", there.url)
    assert (shown.code, shown.out, shown.err) == (code, "", "roundhouse: the reason\n")


def test_a_failure_in_the_middle_keeps_the_text():
    broken = b"data: " + json.dumps(error("it died")).encode() + b"\n\n"
    with stub({PATH: (200, [chunk(content="half"), broken])}) as there:
        shown = run("chat", "m", "hi", "--url", there.url)
    assert (shown.code, shown.out, shown.err) == (1, "half\n", "roundhouse: it died\n")


def test_a_real_roundhouse_loads_tells_and_answers(real):
    shown = run("chat", "two", "hello", "--url", real.url)
    assert shown.code == 0, shown.err
    assert shown.out == "Hello 🚂 wörld 你好!\n"
    assert "[Performance: " in shown.err


def test_a_terminal_gets_no_control_characters_of_the_model():
    with stub({PATH: (200, ANSWER)}) as there:
        terminal = Terminal("chat", "m", "hi", "--url", there.url)
        terminal.until("let me see")
        assert terminal.end() == 0
    assert "four[31m" in terminal.shown
    assert "Loading" not in terminal.shown


def test_a_conversation_keeps_what_was_said_and_new_forgets_it():
    with stub({PATH: (200, ANSWER), "GET /v1/models/m": (200, {"id": "m"})}) as there:
        terminal = Terminal("chat", "m", "--url", there.url)
        for said in ("first", "second", "/new", "third"):
            terminal.until("> ")
            terminal.type(f"{said}\r")
            if not said.startswith("/"):
                terminal.until(PERFORMANCE)
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.end() == 0
    histories = [[m["content"] for m in asked.json["messages"]] for asked in there.asked[1:]]
    assert histories == [["first"], ["first", "four\x1b[31m", "second"], ["third"]]


def test_a_conversation_with_an_unknown_model_ends_at_once():
    with stub({"GET /v1/models/m": (404, error("Model 'm' does not exist"))}) as there:
        terminal = Terminal("chat", "m", "--url", there.url)
        assert terminal.end() == 4
    assert "Model 'm' does not exist" in terminal.shown


def test_a_conversation_goes_on_after_an_error():
    with stub({PATH: (503, error("too busy")), "GET /v1/models/m": (200, {"id": "m"})}) as there:
        terminal = Terminal("chat", "m", "--url", there.url)
        terminal.until("> ")
        terminal.type("hi\r")
        terminal.until("too busy")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.end() == 0


class Endless(list):
    """A text, then as many more as the reader stays for."""

    def __iter__(self):
        while True:
            yield chunk(content="on ")
            time.sleep(0.01)


def test_ctrl_c_stops_the_answer_and_a_second_one_leaves():
    with stub({PATH: (200, Endless()), "GET /v1/models/m": (200, {"id": "m"})}) as there:
        terminal = Terminal("chat", "m", "--url", there.url)
        terminal.until("> ")
        terminal.type("go\r")
        terminal.until("on on on")
        terminal.type("\x03")
        terminal.until("stopped")
        terminal.until("> ")
        assert terminal.leave("\x03") == 0
    assert "Traceback" not in terminal.shown


def test_ctrl_c_ends_a_single_answer_with_130():
    with stub({PATH: (200, Endless())}) as there:
        terminal = Terminal("chat", "m", "go", "--url", there.url)
        terminal.until("on on on")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_in_a_real_terminal_the_status_is_replaced_by_the_answer(real, tmp_path):
    def tmux(*words):
        command = ["tmux", "-u", "-f", "/dev/null", "-S", str(tmp_path / "tmux"), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environ(LC_ALL="C.UTF-8"), check=True).stdout

    def screen(*wanted):
        deadline = time.monotonic() + LIMIT
        while not all(word in (shown := tmux("capture-pane", "-p", "-t", "t")) for word in wanted):
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
        return shown

    command = [*argv("chat", "gated", "--url", real.url)]
    tmux("new-session", "-d", "-s", "t", "-x", "100", "-y", "24", *command)
    try:
        screen("\n>")
        tmux("send-keys", "-t", "t", "Say hello.", "Enter")
        assert "Hello" not in screen("⏳ Loading model...", "gated")
        real.gate.touch()
        shown = screen("[Performance: ")
        assert "⏳" not in shown
        assert "✓ Model ready! (" in shown
        assert "Hello 🚂 wörld 你好!" in shown.replace("  ", " ")
    finally:
        tmux("kill-server")
