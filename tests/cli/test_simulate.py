from __future__ import annotations

import asyncio
import json

import pytest

from roundhouse.observe.store import Request, Store
from tests.cli.commands import Terminal, run

NOW = 1_800_000_000.0
CONFIG = """
state_dir: {state}
devices: {{gpu0: 24GiB}}
models:
  alpha: {{command: "serve --port ${{PORT}}", memory: {{gpu0: 20GiB}}, slots: 2}}
  beta: {{command: "serve --port ${{PORT}}", memory: {{gpu0: 20GiB}}, slots: 2}}
"""
BOX = {
    "devices": {"gpu0": 10},
    "models": {name: {"load": 20, "claim": {"gpu0": 8}, "slots": 2} for name in ("a", "b")},
}


@pytest.fixture
def trace(tmp_path):
    """Ten requests for two models in turn, on the box that excludes one of them."""
    lines = [{"box": BOX}]
    lines += [{"at": 30.0 * n, "model": "ab"[n % 2], "seconds": 3.0, "session": f"s{n % 2}"} for n in range(10)]
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


@pytest.fixture
def config(tmp_path):
    """A configuration whose history has two models asked in turn."""
    file = tmp_path / "roundhouse.yaml"
    file.write_text(CONFIG.format(state=tmp_path / "state"))

    async def serve():
        async with Store(tmp_path / "state" / "roundhouse.db", clock=lambda: NOW) as store:
            for number in range(8):
                name = ("alpha", "beta")[number % 2]
                asked = Request(f"r{number}", NOW + 40.0 * number, name, "me", "", 200, 1.0, 20.0, 0.2, 26.0)
                store.record_request(asked._replace(wanted=name, service_s=5.0, session=f"5e55{number % 2}"))

    asyncio.run(serve())
    return file


def by_policy(shown, box="as it is"):
    return {result["policy"]: result for result in shown.json["results"] if result["box"] == box}


def test_made_up_traffic_under_all_policies():
    shown = run("simulate", "agents", "--seeds", "1", "--time", "30m", "--json")
    assert shown.code == 0
    assert shown.err == ""
    found = by_policy(shown)
    assert list(found) == ["turns", "fifo", "run-first"]
    for figures in found.values():
        assert figures["done"] > 20
        assert figures["refused"] == 0
        assert figures["worst_wait"] >= 20
        assert set(figures["models"]) == {"A", "B", "C"}
    assert len(shown.json["sentences"]) == 2


def test_the_same_seeds_give_the_same_figures():
    arguments = ("simulate", "agents", "--seeds", "2", "--time", "10m", "--policy", "fifo", "--json")
    assert run(*arguments).out == run(*arguments).out


def test_tables_and_sentences_for_people():
    shown = run(
        "simulate", "agents", "--seeds", "1", "--time", "20m", "-p", "turns", "-p", "fifo", "--device", "gpu0=48GiB"
    )
    assert shown.code == 0
    heads = [line for line in shown.out.splitlines() if line.startswith("POLICY")]
    assert len(heads) == 2
    assert heads[0].split("  ")[0] == "POLICY"
    assert "WORST WAIT FOR" in shown.out
    assert "with gpu0 of 48.0 GiB:" in shown.out
    assert "\nWith gpu0 of 48.0 GiB: " in shown.out
    assert "less waiting" in shown.out
    assert "run-first" not in shown.out


def test_a_trace_is_replayed_on_its_box(trace):
    shown = run("simulate", str(trace), "--policy", "fifo", "--json")
    assert shown.code == 0
    figures = by_policy(shown)["fifo"]
    assert (figures["done"], figures["loads"], figures["switches"]) == (10, 10, 9)
    assert figures["mean"] == pytest.approx(23.0)
    assert figures["waiting"] == pytest.approx(200.0)


def test_what_if_the_device_were_larger_or_loads_quicker(trace):
    shown = run("simulate", str(trace), "--policy", "fifo", "--device", "gpu0=20B", "--json")
    larger = by_policy(shown, "with gpu0 of 20 B")["fifo"]
    assert (larger["switches"], larger["waiting"]) == (0, pytest.approx(40.0))
    assert shown.json["sentences"][-1].startswith("With gpu0 of 20 B: 160 s less waiting (40 s in all, not 200 s)")
    quicker = run("simulate", str(trace), "--policy", "fifo", "--load", "a=1s", "--open-loop", "--json")
    assert by_policy(quicker)["fifo"]["waiting"] == pytest.approx(5 * 1 + 5 * 20)
    assert by_policy(run("simulate", str(trace), "-p", "fifo", "--load", "2s", "--json"))["fifo"][
        "waiting"
    ] == pytest.approx(20)


def test_sessions_keep_their_pauses_unless_told_otherwise(tmp_path):
    file = tmp_path / "trace.jsonl"
    first = {"at": 0, "model": "a", "seconds": 10, "waited": 100, "session": "s"}
    file.write_text("\n".join(json.dumps(line) for line in ({"box": BOX}, first, {**first, "at": 200, "waited": 0})))
    closed = run("simulate", str(file), "-p", "fifo", "--json").json
    opened = run("simulate", str(file), "-p", "fifo", "--open-loop", "--json").json
    assert "sessions keep their pauses" in closed["about"]
    assert closed["results"][0]["loading"] == pytest.approx(20 / (20 + 10 + 90 + 10))
    assert opened["results"][0]["loading"] == pytest.approx(20 / 210)


def test_limits_refuse_only_where_asked(tmp_path):
    file = tmp_path / "trace.jsonl"
    asked = [{"at": 0, "model": "a", "seconds": 2000}] * 3
    file.write_text("\n".join(json.dumps(line) for line in ({"box": BOX}, *asked)))
    assert by_policy(run("simulate", str(file), "-p", "fifo", "--json"))["fifo"]["refused"] == 0
    assert by_policy(run("simulate", str(file), "-p", "fifo", "--limits", "--json"))["fifo"]["refused"] == 1


def test_slower_answers_take_longer(tmp_path):
    file = tmp_path / "trace.jsonl"
    file.write_text(
        "\n".join(json.dumps(line) for line in ({"box": BOX}, *[{"at": 0, "model": "a", "seconds": 10}] * 2))
    )
    assert by_policy(run("simulate", str(file), "-p", "fifo", "--json"))["fifo"]["mean"] == 30
    assert by_policy(run("simulate", str(file), "-p", "fifo", "--slowdown", "1", "--json"))["fifo"]["mean"] == 40


def test_the_history_is_replayed(config):
    shown = run("simulate", "-c", str(config), "--policy", "fifo", "--load", "20s", "--json")
    assert shown.code == 0, shown.err
    figures = by_policy(shown)["fifo"]
    assert (figures["done"], figures["loads"]) == (8, 8)
    assert set(figures["models"]) == {"alpha", "beta"}
    assert "8 requests" in shown.json["about"]


def test_only_the_last_part_of_the_history(config):
    shown = run("simulate", "history", "-c", str(config), "--policy", "fifo", "--last", "90s", "--json")
    assert by_policy(shown)["fifo"]["done"] == 3


def test_load_times_that_had_to_be_assumed_are_told(config):
    shown = run("simulate", "history", "-c", str(config), "--policy", "fifo")
    assert "note: never loaded here, so a load is taken to need 20 s (--load): alpha, beta" in shown.out


def test_the_history_as_a_trace_says_nothing_that_was_asked_and_comes_to_the_same(config, tmp_path):
    file = tmp_path / "yesterday.jsonl"
    shown = run("simulate", "history", "-c", str(config), "--write", str(file))
    assert shown.code == 0, shown.err
    assert "wrote 8 requests" in shown.err
    assert file.stat().st_mode & 0o777 == 0o600
    again = run("simulate", str(file), "--policy", "fifo", "--json", cwd=tmp_path / "state")
    here = run("simulate", "history", "-c", str(config), "--policy", "fifo", "--json")
    assert by_policy(again)["fifo"] == by_policy(here)["fifo"]
    before = file.read_bytes()
    assert run("simulate", "history", "-c", str(config), "--write", str(file)).code == 4
    assert file.read_bytes() == before


def test_a_trace_without_a_box_is_played_on_the_configured_one(config, tmp_path):
    file = tmp_path / "trace.jsonl"
    file.write_text('{"at": 0, "model": "alpha", "seconds": 5}\n{"at": 1, "model": "other", "seconds": 5}\n')
    shown = run("simulate", str(file), "-c", str(config), "--policy", "fifo", "--json")
    assert by_policy(shown)["fifo"]["done"] == 1
    assert "1 requests left out, for models that the box does not have: other" in shown.json["notes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.jsonl"], "No such file"),
        (["nothing.jsonl"], "agents-6"),
        (["agents", "--policy", "lifo"], "run-first"),
        (["agents", "--device", "gpu0"], "gpu1=24GiB"),
        (["agents", "--device", "gpu0=24"], "unit"),
        (["agents", "--device", "=24GiB"], "gpu1=24GiB"),
        (["agents", "--load", "Z=2s"], "A, B, C"),
        (["agents", "--load", "A=2"], "--load"),
        (["agents", "--max-wait", "soon"], "--max-wait"),
        (["agents", "--linger", "long"], "--linger"),
        (["agents", "--time", "4"], "--time"),
        (["agents", "--seeds", "0"], "--seeds"),
        (["agents", "--write", "x.jsonl"], "Only the history"),
        (["history"], "roundhouse init"),
    ],
)
def test_what_can_not_be_used_is_said_with_exit_2(arguments, words, tmp_path):
    shown = run("simulate", *arguments, cwd=tmp_path, HOME=str(tmp_path), XDG_CONFIG_HOME="")
    assert shown.code == 2
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_line_of_a_trace_is_named(trace):
    with trace.open("a") as file:
        file.write('{"at": 1, "model": "a"}\n')
    shown = run("simulate", str(trace))
    assert shown.code == 2
    assert f"{trace}: line 12: seconds: " in shown.err


def test_a_history_that_is_not_there_or_can_not_be_replayed(config, tmp_path):
    assert run("simulate", "-c", str(config), "--last", "0").code == 2
    other = tmp_path / "other.yaml"
    other.write_text(config.read_text().replace("/state", "/nowhere"))
    shown = run("simulate", "-c", str(other))
    assert shown.code == 2
    assert "no history yet" in shown.err
    other.write_text(config.read_text().replace("alpha", "gone").replace("beta", "away"))
    shown = run("simulate", "-c", str(other))
    assert shown.code == 2
    assert "no request that could be replayed" in shown.err


def test_settings_of_turns_are_taken(trace):
    for arguments in (["--max-wait", "2m", "--linger", "off"], ["--max-wait", "auto", "--linger", "5s"]):
        assert run("simulate", str(trace), "--policy", "turns", *arguments).code == 0


def test_a_terminal_sees_how_far_it_is():
    terminal = Terminal("simulate", "agents", "--time", "1h")
    terminal.until("simulating")
    terminal.until("POLICY")
    assert terminal.end() == 0
    assert "run-first" in terminal.shown
