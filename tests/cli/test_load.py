import os
import signal
import subprocess
import time

from tests.cli.commands import LIMIT, Terminal, argv, environ, error, run, stub


def test_load_and_unload_wait_until_it_is_done(real):
    loaded = run("load", "uno", "--url", real.url)
    assert (loaded.code, loaded.out) == (0, "one is ready (40 MiB on ram).\n")
    again = run("load", "one", "--json", "--url", real.url)
    assert again.json["state"] == "ready"
    gone = run("unload", "one", "--url", real.url)
    assert (gone.code, gone.out) == (0, "one is unloaded.\n")
    assert run("unload", "one", "--json", "--url", real.url).json["state"] == "unloaded"


def test_a_load_makes_room(real):
    assert run("load", "one", "--url", real.url).code == 0
    assert run("load", "two", "--url", real.url).code == 0
    models = run("status", "--json", "--url", real.url).json["models"]
    assert (models["one"]["state"], models["two"]["state"]) == ("unloaded", "ready")


def test_a_pinned_model_stays(real):
    assert run("load", "one", "--url", real.url).code == 0
    pinned = run("pin", "uno", "--url", real.url)
    assert (pinned.code, pinned.out) == (0, "one is pinned: it stays.\n")
    assert "pinned" in run("status", "--url", real.url).out
    refused = run("load", "two", "--url", real.url)
    assert refused.code == 1
    assert "unpin or unload" in refused.err
    assert run("unpin", "one", "--json", "--url", real.url).json["pinned"] is False
    assert run("load", "two", "--url", real.url).code == 0
    assert "it stays once it is loaded: roundhouse load one" in run("pin", "one", "--url", real.url).out
    assert run("unpin", "one", "--url", real.url).out == "one is not pinned.\n"
    assert run("pin", "none", "--url", real.url).code == 4


def test_a_failed_load_exits_1_with_the_engines_last_words(real):
    shown = run("load", "bad", "--url", real.url)
    assert shown.code == 1
    assert "these were my last words" in shown.err
    assert "these were my last words" in run("status", "--url", real.url).out


def test_an_unknown_model_exits_4_with_the_nearest_names(real):
    shown = run("load", "onne", "--url", real.url)
    assert shown.code == 4
    assert "one" in shown.err.replace("onne", "")


def test_forbidden_is_4():
    with stub({"POST /api/v1/models/x/load": (403, error("The key 'k' may not load"))}) as there:
        shown = run("load", "x", "--url", there.url)
    assert shown.code == 4
    assert shown.err == "roundhouse: The key 'k' may not load\n"


def test_a_terminal_shows_percent_and_stage():
    model = {"model": "m", "state": "ready", "device": {}}
    feed = [
        b'id: 1\nevent: snapshot\ndata: {"models": {"m": {"progress": {"fraction": 0.25, "stage": "begun"}}}}\n\n',
        b'id: 2\nevent: progress\ndata: {"model": "m", "fraction": 0.5, "stage": "reading weights"}\n\n',
    ]
    with stub({}) as there:
        shown_by = {"GET /v1/models/m": (200, {"id": "m"}), "GET /api/v1/events": (200, feed)}

        def answer(asked, usual=there.answer):
            if asked.method == "POST":  # the answer comes when the bar has been seen
                terminal.until("reading weights")
            return usual(asked)

        there.answers |= shown_by | {"POST /api/v1/models/m/load": (200, model)}
        there.answer = answer
        terminal = Terminal("load", "m", "--url", there.url)
        wait_for(lambda: any(asked.method == "POST" for asked in there.asked))
        assert terminal.end() == 0
    assert "m is ready." in terminal.shown


def wait_for(true):
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_stops_the_waiting_and_says_that_the_load_goes_on(real):
    with subprocess.Popen(
        argv("load", "gated", "--url", real.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ(),
    ) as loading:
        wait_for(lambda: state_of(real, "gated") == "loading")
        os.kill(loading.pid, signal.SIGINT)
        _, told = loading.communicate(timeout=LIMIT)
    assert loading.returncode == 130
    assert "the load goes on (`roundhouse unload gated` ends it)" in told
    assert "Traceback" not in told
    assert state_of(real, "gated") == "loading"
    real.gate.touch()
    assert run("load", "gated", "--url", real.url).code == 0


def state_of(real, model):
    return run("status", "--json", "--url", real.url).json["models"][model]["state"]
