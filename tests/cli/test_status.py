import pytest

from roundhouse.cli.status import note
from tests.cli.commands import Terminal, error, run, stub

MODEL = {
    "state": "unloaded",
    "engine": "llamacpp",
    "device": {"ram": 440 << 20},
    "active": 0,
    "waiting": 0,
    "error": None,
}
STATE = {
    "status": "degraded",
    "version": "9.9.9",
    "uptime_s": 200.0,
    "models": {
        "busy": MODEL | {"state": "ready", "active": 2, "slots": 4, "waiting": 1},
        "coming": MODEL | {"state": "loading", "progress": {"fraction": 0.43, "stage": "reading weights"}},
        "bad": MODEL | {"state": "failed", "error": "no [such] file\x1b[31m", "retry_in": 5.2},
    },
    "devices": {"ram": {"total": 8 << 30, "used": 5 << 30, "ours": 2 << 30, "foreign": 3 << 30}},
    "queue": 1,
}


def test_the_table_shows_states_memory_figures_and_reasons():
    with stub({"GET /api/v1/state": (200, STATE)}) as there:
        shown = run("status", ROUNDHOUSE_URL=there.url)
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["busy", "ready", "440", "MiB", "2/4", "1"] in lines
    assert ["coming", "loading", "440", "MiB", "0", "0", "43", "%;", "reading", "weights"] in lines
    assert "no [such] file[31m; tried again in 5 s at the earliest" in shown.out
    assert ["ram", "8.0", "GiB", "5.0", "GiB", "2.0", "GiB", "3.0", "GiB"] in lines
    assert f"9.9.9 at {there.url}: degraded, up 3 min, 1 waiting" in shown.out


def test_json_is_what_the_api_says():
    with stub({"GET /api/v1/state": (200, STATE)}) as there:
        assert run("status", "--json", "--url", there.url).json == STATE


def test_a_refusal_is_4():
    with stub({"GET /api/v1/state": (401, error("An API key is needed."))}) as there:
        shown = run("status", "--url", there.url)
    assert shown.code == 4
    assert shown.err.startswith("roundhouse: An API key is needed.")


def test_the_key_comes_from_the_environment():
    with stub({"GET /api/v1/state": (200, STATE)}) as there:
        run("status", "--url", there.url, ROUNDHOUSE_API_KEY="k1")
    assert there.asked[0].headers["authorization"] == "Bearer k1"


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_on_a_terminal_unless_it_is_not_wanted(env, coloured):
    with stub({"GET /api/v1/state": (200, STATE)}) as there:
        terminal = Terminal("status", "--url", there.url, **env)
        assert terminal.end() == 0
    assert "\x1b[31mfailed" in terminal.shown or not coloured
    assert "\x1b[3" not in terminal.shown or coloured


def test_a_quiet_model_has_no_note():
    assert note(MODEL) == ""
    assert note(MODEL | {"leaving": "room for x"}) == "room for x"
