"""Models and engines that fail, and configurations that can't be served: the reason is always told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from roundhouse.engines.openai import OpenAICompatible
from tests.support.gguf_files import write_tiny_chat
from tests.support.house import Running, Scripted, inside
from tests.support.processes import Watched
from tests.support.wire import Api


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    (place.folder / "text.gguf").write_text("this is no model\n" * 100)
    whole = write_tiny_chat(place.folder / "whole.gguf", "whole").read_bytes()
    (place.folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (place.folder / "head.gguf").write_bytes(whole[:1000])
    taken = socket.create_server(("127.0.0.1", 0))
    stalled = {"load_timeout": {"stalled": "600ms"}}
    scripted = [
        Scripted(place.folder, "dies-at-start", "--die-at-start", "fatal: no such device"),
        Scripted(place.folder, "dies-in-load", "--die-load", "fatal: out of memory"),
        Scripted(place.folder, "never-ready", "--never", **stalled),
        Scripted(place.folder, "port-taken", port=taken.getsockname()[1]),
        Scripted(place.folder, "leaking", "--leak"),
    ]
    models = {model.name: model.config for model in scripted}
    for name in ("missing", "text", "cut", "head"):
        models[name] = {"engine": "llamacpp", "path": str(place.folder / f"{name}.gguf")}
    models["huge"] = {"engine": "llamacpp", "path": str(place.folder / "whole.gguf"), "context": 10_000_000, "slots": 4}
    models["no-program"] = {"engine": "openai", "command": "/nowhere/engine --port ${PORT}", "memory": "1MiB"}
    place.write(models)
    with taken, Running(place) as running:
        yield SimpleNamespace(api=running.api, models={m.name: m for m in scripted}, place=place)


FAULTS = [
    ("dies-at-start", "no such device"),
    ("dies-in-load", "out of memory"),
    ("never-ready", "did not move"),
    ("port-taken", "is taken"),
    ("no-program", "/nowhere/engine"),
    ("missing", "does not exist"),
    ("text", "GGUF"),
    ("head", "head.gguf"),
]


@pytest.mark.parametrize(("model", "reason"), FAULTS)
async def test_a4_the_reason_is_in_the_answer_and_in_health(house, model, reason):
    reply = await house.api.chat(model)
    assert reply.status == 503
    assert reply.error()["code"] == "model_load_failed"
    assert reason in reply.error()["message"]
    assert int(reply.headers["retry-after"]) >= 1
    found = await house.api.model(model)
    assert found["state"] == "failed"
    assert reason in found["error"]
    listed = (await house.api.get(f"/v1/models/{model}")).json()
    assert listed["status"]["value"] == "failed"


async def test_b1_failure_in_words_with_the_engines_last_line(house):
    gate = house.place.gate("unused")
    assert not gate.exists()
    events = await house.api.events("never-ready")
    assert events.statuses[0].startswith("⏳")
    assert "did not move" in events.statuses[-1]
    assert events.errors[0]["code"] == "model_load_failed"
    assert events.done


async def test_d1_a_model_that_can_never_fit_is_refused_at_once(house):
    reply = await house.api.chat("huge")
    assert reply.status == 503
    assert reply.error()["code"] == "not_enough_memory"
    assert "ram" in reply.error()["message"]


async def test_h_an_operators_load_that_fails_says_why(house):
    reply = await house.api.post("/api/v1/models/dies-in-load/load")
    assert reply.status == 503
    assert "out of memory" in reply.error()["message"]
    log = await house.api.get("/api/v1/models/dies-in-load/log")
    assert "fatal: out of memory" in log.body.decode()


async def test_e2_a_leaked_child_ends_with_its_engine(house):
    assert (await house.api.chat("leaking")).status == 200
    child = Watched(house.models["leaking"].notes("leaked")[0]["child"])
    assert not child.gone()
    await house.api.post("/api/v1/models/leaking/unload")
    assert child.gone(5)
    child.close()


async def test_e2_an_engine_that_ignores_sigterm(place, monkeypatch):
    monkeypatch.setattr(OpenAICompatible, "stop_grace", 0.2)
    model = Scripted(place.folder, "deaf", "--deaf")
    place.write([model])
    async with inside(place):
        assert (await Api(place.port).chat("deaf")).status == 200
        engine = Watched(model.pid)
        await Api(place.port).post("/api/v1/models/deaf/unload")
        assert model.notes("deaf")
        assert engine.gone()
        engine.close()


def serve(place, *arguments):
    """Runs `roundhouse serve` where it is expected to refuse."""
    argv = [sys.executable, "-m", "roundhouse", "serve", "--config", str(place.file), *arguments]
    return subprocess.run(argv, env=place.environ, capture_output=True, text=True, timeout=60, check=False)


def test_g4_a_taken_port_names_its_holder(place):
    place.write([Scripted(place.folder, "one")])
    with socket.create_server(("127.0.0.1", place.port)):
        done = serve(place)
    assert done.returncode == 1
    assert f"pid {os.getpid()}" in done.stderr
    assert str(place.port) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"listen": "0.0.0.0:1"}, "allow_anonymous"),
        ({"listne": "x"}, "listne"),
        ({"devices": {"ram": "1KiB"}}, "ram has"),
        (
            {"models": {"a": {"url": "http://h/", "aliases": ["x"]}, "b": {"url": "http://h/", "aliases": ["x"]}}},
            "alias",
        ),
    ],
    ids=["f1-open", "unknown-key", "memory", "alias"],
)
def test_f1_c1_a_bad_configuration_is_refused_with_exit_code_2(place, settings, says):
    models = settings.pop("models", None) or {"one": Scripted(place.folder, "one").config}
    place.write(models, **settings)
    done = serve(place)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_e1_two_on_one_state_folder(place):
    place.write([Scripted(place.folder, "one")])
    with Running(place) as running:
        place.write([Scripted(place.folder, "one")], listen="127.0.0.1:0")
        done = serve(place)
        assert done.returncode != 0
        assert f"pid {running.pid}" in done.stderr
        running.process.send_signal(signal.SIGINT)
        assert running.wait() == 0
