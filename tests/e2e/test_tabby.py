"""TabbyAPI through the whole product: one process, models in and out by its admin API, or by its config.yml (C6)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from roundhouse.runtime import effects
from tests.support import fake_engine
from tests.support.house import Running, free_port, inside
from tests.support.processes import Watched
from tests.support.tabby_checkout import ADMIN, make_checkout, make_model, notes
from tests.support.wire import Api

NEW, OLD = "e632af4", "79126f9"


def lay_out(place, version: str = NEW, *, mode: str = "api", methods: tuple[str, ...] = ("exl3", "exl3"), **behaviour):
    """A checkout with models one, two, ...; the configuration that runs them."""
    port = free_port()
    checkout = make_checkout(place.folder / "tabby", version, port=port, **behaviour)
    models = {}
    for name, method in zip(("one", "two"), methods, strict=True):
        make_model(place.folder / "exl", f"{name}-4bpw", method)
        tabby = {"dir": str(checkout), "model_dir": str(place.folder / "exl"), "model_name": f"{name}-4bpw"}
        tabby |= {"mode": mode, "max_seq_len": 4096, "cache_mode": "Q8"}
        models[name] = {"engine": "tabbyapi", "tabby": tabby, "port": port, "memory": "64MiB"}
    place.write(models)
    return checkout


def told(checkout, what: str) -> list[dict]:
    return [note for note in notes(checkout) if note["what"] == what]


def names(checkout, what: str) -> list[str]:
    return [note["folder"].rpartition("/")[2] for note in told(checkout, what)]


@pytest.mark.parametrize("version", [NEW, OLD])
async def test_c6_models_go_in_and_out_of_one_process(place, version):
    checkout = lay_out(place, version)
    with Running(place) as running:
        for model in ("one", "two", "one"):
            events = await running.api.events(model, headers={"X-Roundhouse-Status": "event"})
            assert events.text_of_answer.startswith("Hello")
            assert events.done
            assert not events.errors
            assert {chunk["model"] for chunk in events.chunks if "model" in chunk} == {model}
        assert names(checkout, "loaded") == ["one-4bpw", "two-4bpw", "one-4bpw"]
        assert len(told(checkout, "start")) == 1
        settings = told(checkout, "loading")[0]["asked"]
        assert (settings["max_seq_len"], settings["cache_mode"]) == (4096, "Q8")
        process = Watched(told(checkout, "start")[0]["pid"])
        assert running.end() == 0
        assert process.gone()
        process.close()
        assert ADMIN not in running.log()


async def test_c5_its_load_has_exact_percent(place):
    checkout = lay_out(place)
    gate = place.gate("half")
    config = place.folder / "exl/one-4bpw/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"double": {"gate": str(gate), "gate_after": 4}}))
    with Running(place) as running:
        async with running.api.stream("one") as answer:
            await answer.until("⏳")
            while (await running.api.model("one")).get("progress", {}).get("fraction") != 0.5:
                assert not told(checkout, "loaded")
            gate.touch()
            assert (await answer.events()).done


async def test_e1_a_killed_roundhouse_finds_the_process_and_what_is_loaded_in_it(place):
    checkout = lay_out(place)
    with Running(place) as running:
        assert (await running.api.chat("two")).status == 200
        running.kill()
        running.start()
        assert (await running.api.model("two"))["state"] == "ready"
        assert (await running.api.chat("two")).status == 200
        assert (await running.api.chat("one")).status == 200
        assert len(told(checkout, "start")) == 1
        assert names(checkout, "loaded") == ["two-4bpw", "one-4bpw"]


async def test_a9_a_process_that_dies_is_started_again_for_the_next_request(place):
    checkout = lay_out(place)
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        os.kill(told(checkout, "start")[0]["pid"], signal.SIGKILL)
        assert (await running.api.until("one", "failed"))["error"]
        assert (await running.api.chat("one")).status == 200
        assert len(told(checkout, "start")) == 2


async def test_exl2_on_a_version_that_dropped_it_is_refused_before_anything_is_unloaded(place):
    checkout = lay_out(place, NEW, methods=("exl3", "exl2"))
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        reply = await running.api.chat("two")
        assert reply.status == 503
        assert "exl2" in reply.error()["message"].lower()
        assert (await running.api.model("one"))["state"] == "ready"
        assert told(checkout, "unloaded") == []


async def test_a_model_that_somebody_else_unloads_is_loaded_again(place):
    checkout = lay_out(place)
    port = json.loads(place.file.read_text())["models"]["one"]["port"]
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        theirs = Api(port, {"authorization": f"Bearer {ADMIN}"})
        assert (await theirs.post("/v1/model/unload")).status == 200
        assert (await running.api.chat("one")).status >= 500
        await running.api.until("one", "unloaded")
        assert (await running.api.chat("one")).status == 200
        assert len(told(checkout, "start")) == 1
        assert "somebody else" in running.log()


async def reconfigure(running, place, change) -> dict:
    """Changes models in the file and applies it."""
    config = json.loads(place.file.read_text())
    change(config["models"])
    place.file.write_text(json.dumps(config | {"reload": {"watch": False}}))
    return (await running.api.post("/api/v1/reload")).json()


async def test_e4_a_changed_model_is_loaded_anew_in_the_process_that_stays(place):
    checkout = lay_out(place)
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        applied = await reconfigure(running, place, lambda models: models["one"]["tabby"].update(cache_mode="Q4"))
        assert applied["restarts"] == ["one"]
        assert (await running.api.chat("one")).status == 200
        assert [note["asked"]["cache_mode"] for note in told(checkout, "loading")] == ["Q8", "Q4"]
        assert len(told(checkout, "start")) == 1
        applied = await reconfigure(running, place, lambda models: models["two"].update(description="the other"))
        assert applied["restarts"] == []
        assert len(told(checkout, "loading")) == 2


@pytest.mark.parametrize("loaded", [True, False])
async def test_e4_a_process_that_is_configured_otherwise_ends_and_the_new_one_comes_after_it(place, loaded):
    checkout = lay_out(place)
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        if not loaded:
            assert (await running.api.post("/api/v1/models/one/unload")).status == 200
        first = Watched(told(checkout, "start")[0]["pid"])
        applied = await reconfigure(
            running, place, lambda models: [model.update(env={"X": "1"}) for model in models.values()]
        )
        assert applied["restarts"] == (["one"] if loaded else [])
        reply = await running.api.chat("two")
        assert reply.status == 200, running.log()
        assert first.gone(within=5.0)
        first.close()
        assert len(told(checkout, "start")) == 2
        second = Watched(told(checkout, "start")[1]["pid"])
        assert (await reconfigure(running, place, lambda models: models.clear()))["applied"]
        assert second.gone(within=20.0), running.log()
        second.close()
        assert "Traceback" not in running.log()


async def test_an_unload_that_hangs_ends_the_process(place, monkeypatch):
    monkeypatch.setattr(effects, "UNLOAD_LIMIT", 0.3)
    checkout = lay_out(place, hang_unload=True)
    async with inside(place):
        api = Api(place.port)
        assert (await api.chat("one")).status == 200
        process = Watched(told(checkout, "start")[0]["pid"])
        assert (await api.chat("two")).status == 200
        assert process.gone()
        process.close()
        assert len(told(checkout, "start")) == 2


async def test_f2_keys_are_made_where_there_are_none_and_never_logged(place):
    checkout = lay_out(place, keys=False)
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        file = checkout / "api_tokens.yml"
        assert file.stat().st_mode & 0o777 == 0o600
        keys = [line.split('"')[1] for line in file.read_text().splitlines() if '"' in line]
        log = (await running.api.get("/api/v1/models/one/log")).body.decode()
        assert len(keys) == 2
        assert not any(key in running.log() or key in log for key in keys)


async def test_f4_a_key_in_the_engines_last_words_is_hidden(place):
    """TabbyAPI prints its keys at each start; the reason of a failure is taken from what it printed."""
    checkout = lay_out(place)
    program = checkout / "main.py"
    program.write_text(f"print('ERROR: can not go on with {ADMIN}', flush=True)\nraise SystemExit(3)\n")
    with Running(place) as running:
        refused = await running.api.chat("one")
        assert refused.status == 503
        assert "can not go on with [hidden]" in refused.error()["message"]
        log = (await running.api.get("/api/v1/models/one/log")).body.decode()
        assert "can not go on with" in log
        assert "model failed to load" in running.log()
        assert ADMIN not in log
        assert ADMIN not in running.log()


async def test_c6_config_mode_rewrites_the_file_and_restarts(place):
    checkout = lay_out(place, mode="config")
    before = (checkout / "config.yml").read_text()
    with Running(place) as running:
        for model in ("one", "two"):
            assert (await running.api.chat(model)).status == 200
        assert len(told(checkout, "start")) == 2
        assert names(checkout, "loaded") == ["one-4bpw", "two-4bpw"]
        after = (checkout / "config.yml").read_text()
        assert "two-4bpw" in after
        assert "# never on a LAN" in after
        assert (checkout / "config.yml.bak").read_text() == before


async def test_c3_a_tabbyapi_that_others_run_is_asked_to_load_and_left_running(place):
    checkout = lay_out(place)
    config = json.loads(place.file.read_text())
    for model in config["models"].values():
        model["launcher"] = "attached"
    place.file.write_text(json.dumps(config))
    port = str(config["models"]["one"]["port"])
    settings = (checkout / "config.yml").read_text()
    (checkout / "config.yml").write_text(settings.replace("model_dir: models", f"model_dir: {place.folder}/exl"))
    argv = [str(checkout / "venv/bin/python"), "main.py"]
    process = subprocess.Popen(argv, cwd=checkout, env={**os.environ, "TABBY_NETWORK_PORT": port})
    try:
        with Running(place) as running:
            for model in ("one", "two"):
                assert (await running.api.chat(model)).status == 200
            assert names(checkout, "loaded") == ["one-4bpw", "two-4bpw"]
            assert running.end() == 0
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()


async def test_c3_an_engine_that_others_run_on_a_port(place):
    """Not by `url:`, but as a model of ours whose engine is there already."""
    port = free_port()
    model = {"engine": "openai", "command": "never run", "launcher": "attached", "port": port}
    place.write({"theirs": model})
    words = [sys.executable, "-S", fake_engine.__file__, "--port", str(port)]
    with subprocess.Popen(words) as process, Running(place) as running:
        try:
            assert (await running.api.chat("theirs")).status == 200
            assert running.end() == 0
            assert process.poll() is None
        finally:
            process.kill()
