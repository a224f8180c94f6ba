"""Another configuration while Roundhouse serves (spec E4): by the API, SIGHUP and the file itself."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys

import pytest

from tests.support.fake_engine import EMOJI
from tests.support.gguf_files import write_tiny_chat
from tests.support.house import Running, Scripted
from tests.support.processes import Watched

ANSWER = "".join(EMOJI)
BAD = "models:\n  one:\n    pth: /nowhere\n"
HELD = {"reload": {"watch": False}}


@pytest.fixture
def one(place):
    return Scripted(place.folder, "one")


@pytest.fixture
def two(place):
    return Scripted(place.folder, "two")


@pytest.fixture
def llama_file(place):
    file = place.folder / "tiny.gguf"
    write_tiny_chat(file, "tiny")
    return file


def changed(model: Scripted, **settings: object) -> Scripted:
    """The same model with other settings, writing into the same record."""
    again = object.__new__(Scripted)
    again.name, again.record, again.config = model.name, model.record, {**model.config, **settings}
    return again


async def post(running: Running, path: str = "/api/v1/reload", body: object = None, **more):
    return await running.api.ask("POST", path, body, **more)


async def until(running: Running, true) -> dict:
    """The state once that is so."""
    async with asyncio.timeout(30):
        while not true(state := (await running.api.ask("GET", "/api/v1/state")).json()):
            await asyncio.sleep(0.02)
    return state


async def test_e4_only_what_changed_restarts_and_no_stream_breaks(place, one, two):
    place.write([one, two], **HELD)
    gates = [place.gate("one"), place.gate("two")]
    with Running(place) as running:
        api = running.api
        async with (
            api.stream("one", fake={"gate": str(gates[0]), "gate_after": 1}) as first,
            api.stream("two", fake={"gate": str(gates[1]), "gate_after": 1}) as second,
        ):
            await first.until(EMOJI[0])
            await second.until(EMOJI[0])
            pids = one.pid, two.pid
            place.write([changed(one, env={"X": "1"}), changed(two, description="the other")], **HELD)
            plan = (await api.ask("GET", "/api/v1/plan")).json()
            assert plan["restarts"] == ["one"]
            effects = {change["name"]: change["effect"] for change in plan["changes"]}
            assert effects == {"one": "restart", "two": "at once"}
            told = await post(running)
            assert (told.status, told.json()["applied"], told.json()["restarts"]) == (200, True, ["one"])
            state = (await api.ask("GET", "/api/v1/state")).json()["models"]
            assert (state["one"]["state"], state["one"]["leaving"]) == ("draining", "its settings have changed")
            assert state["two"]["state"] == "ready"
            later = asyncio.get_running_loop().create_task(api.chat("one"))
            for gate in gates:
                gate.touch()
            for stream in (first, second):
                events = await stream.events()
                assert (events.text_of_answer, events.done, events.errors) == (ANSWER, True, [])
        assert (await later).status == 200
        assert (one.starts, two.starts) == (2, 1)
        assert (one.pid == pids[0], two.pid == pids[1]) == (False, True)
        again = (await post(running)).json()
        assert (again["applied"], again["changes"]) == (True, [])
        assert 'roundhouse_reloads_total{outcome="applied"} 1.0' in (await api.ask("GET", "/metrics")).body.decode()


async def test_e4_models_come_and_go(place, one, two):
    gate = place.gate("one")
    place.write([one], **HELD)
    with Running(place) as running:
        api = running.api
        async with api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as stream:
            await stream.until(EMOJI[0])
            engine = Watched(one.pid)
            place.write([two], **HELD)
            assert (await post(running)).json()["applied"]
            refused = await api.chat("one")
            assert (refused.status, refused.error()["code"]) == (404, "model_not_found")
            assert (await api.chat("two")).status == 200
            assert [m["id"] for m in (await api.ask("GET", "/v1/models")).json()["data"]] == ["two"]
            gate.touch()
            events = await stream.events()
            assert (events.text_of_answer, events.errors) == (ANSWER, [])
        await until(running, lambda state: "one" not in state["models"])
        assert engine.gone()
        engine.close()


async def test_e4_those_who_wait_for_a_removed_model_are_told(place, one, two):
    gate = place.gate("load")
    place.write([Scripted(place.folder, "one", "--load-gate", str(gate)), two], **HELD)
    with Running(place) as running:
        waiting = asyncio.get_running_loop().create_task(running.api.chat("one"))
        async with running.api.stream("one") as stream:
            await stream.until("⏳")
            place.write([two], **HELD)
            assert (await post(running)).json()["applied"]
            refused = await waiting
            assert (refused.status, refused.error()["code"]) == (404, "model_not_found")
            assert (await stream.events()).errors[0]["code"] == "model_not_found"
        await until(running, lambda state: "one" not in state["models"])


async def test_e4_a_bad_file_changes_nothing_and_is_told_everywhere(place, one):
    place.write([one], **HELD)
    with Running(place) as running:
        api = running.api
        assert (await api.chat("one")).status == 200
        good = place.file.read_text()
        place.file.write_text(BAD)
        plan = (await api.ask("GET", "/api/v1/plan")).json()
        assert plan["error"]["line"] == 3
        assert "models.one.pth" in plan["error"]["message"]
        assert (await api.ask("GET", "/health")).json()["status"] == "healthy"
        told = await post(running)
        assert (told.status, told.json()["applied"], told.json()["error"]) == (422, False, plan["error"])
        health = (await api.ask("GET", "/health")).json()
        assert (health["status"], health["configuration"]["error"]["line"]) == ("degraded", 3)
        assert (await api.chat("one")).status == 200
        assert one.starts == 1
        place.file.unlink()
        assert "can't be read" in (await post(running)).json()["error"]["message"]
        place.file.write_text(good)
        assert (await post(running)).json()["applied"]
        assert (await api.ask("GET", "/health")).json()["status"] == "healthy"
        assert "Traceback" not in running.log()


async def test_e4_the_file_is_applied_when_it_changes(place, one, two):
    place.write([one])
    with Running(place) as running:
        place.file.write_text(BAD)
        await until(running, lambda state: state["status"] == "degraded")
        place.write([one, two])
        state = await until(running, lambda state: "two" in state["models"])
        assert state["status"] == "healthy"


async def test_e4_sighup_applies_the_file(place, one, two):
    place.write([one], **HELD)
    with Running(place) as running:
        place.write([one, two], **HELD)
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        await until(running, lambda state: "two" in state["models"])
        assert any(line.get("why") == "SIGHUP" for line in running.log_lines())


async def test_e4_a_text_is_planned_in_the_files_place(place, one, two):
    place.write([one], **HELD)
    with Running(place) as running:
        place.write([one, two], **HELD)
        text = place.file.read_text()
        place.write([one], **HELD)
        told = (await post(running, "/api/v1/plan", {"text": text})).json()
        assert [(c["name"], c["change"]) for c in told["changes"]] == [("two", "added")]
        assert (await post(running, "/api/v1/plan", {"text": 3})).error()["param"] == "text"
        assert "two" not in (await running.api.ask("GET", "/api/v1/state")).json()["models"]


async def test_e4_what_needs_a_restart_of_roundhouse_is_said_and_stays(place, one):
    place.write([one], **HELD)
    with Running(place) as running:
        place.write([one], limits={"body": "1KiB"}, status={"every": "1s"}, **HELD)
        for effects in ({"limits.body": "needs a restart of Roundhouse", "status.every": "at once"}, None):
            told = (await post(running)).json()
            found = {change["name"]: change["effect"] for change in told["changes"]}
            assert found == (effects or {"limits.body": "needs a restart of Roundhouse"})
        assert (await running.api.chat("one", messages=[{"role": "user", "content": "x" * 5000}])).status == 200


async def test_f2_keys_hold_at_once_and_who_may_not_is_refused(place, one):
    def key(name: str, **more: object) -> dict[str, object]:
        return {"name": name, "hash": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}", **more}

    place.write([one], **HELD)
    with Running(place) as running:
        place.write([one], keys=[key("boss", admin=True), key("guest")], **HELD)
        assert (await post(running)).json()["applied"]
        assert (await running.api.chat("one")).status == 401
        guest, boss = ({"authorization": f"Bearer {name}"} for name in ("guest", "boss"))
        assert (await running.api.chat("one", headers=guest)).status == 200
        assert (await post(running, headers=guest)).status == 403
        assert (await running.api.ask("GET", "/api/v1/plan", headers=guest)).status == 403
        foreign = boss | {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        assert (await post(running, headers=foreign)).status == 403
        place.write([one], keys=[key("boss", admin=True)], **HELD)
        assert (await post(running, headers=boss)).json()["applied"]
        assert (await running.api.chat("one", headers=guest)).status == 401


async def test_f1_keys_can_not_be_taken_away_while_others_reach_it(place, one):
    """The file alone is good: it also says another address. But that one counts only after a restart."""
    digest = hashlib.sha256(b"boss").hexdigest()
    keys = [{"name": "boss", "hash": f"sha256:{digest}", "admin": True}]
    place.write([one], listen=f"0.0.0.0:{place.port}", keys=keys, **HELD)
    with Running(place) as running:
        place.write([one], listen=f"127.0.0.1:{place.port}", **HELD)
        told = await post(running, headers={"authorization": "Bearer boss"})
        assert told.status == 422
        assert "can be reached from other machines" in told.json()["error"]["message"]
        assert (await running.api.chat("one")).status == 401


async def test_e4_preload_pins_and_budgets_hold_at_once(place, one, two):
    place.write([one, two], **HELD)
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        place.write([changed(one, pinned=True), changed(two, preload=True)], devices={"ram": "2GiB"}, **HELD)
        assert (await post(running)).json()["restarts"] == []
        state = await until(running, lambda state: state["models"]["two"]["state"] == "ready")
        assert state["models"]["one"]["pinned"]
        assert state["devices"]["ram"]["total"] == 2 << 30
        assert (one.starts, two.starts) == (1, 1)


async def test_e4_many_at_once_are_one_after_another(place, one, two):
    place.write([one], **HELD)
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        place.write([changed(one, env={"X": "1"}), two], **HELD)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(post(running)) for _ in range(5)]
        assert sorted(len(answer.result().json()["changes"]) for answer in asked) == [0, 0, 0, 0, 2]
        await until(running, lambda state: state["models"]["one"]["state"] == "ready")
        assert one.starts == 2


async def test_e1_engines_are_found_again_after_a_reload(place, one):
    place.write([one], shutdown={"engines": "leave"}, **HELD)
    with Running(place) as running:
        assert (await running.api.chat("one")).status == 200
        place.write([changed(one, env={"X": "1"})], shutdown={"engines": "leave"}, **HELD)
        assert (await post(running)).json()["applied"]
        await until(running, lambda state: state["models"]["one"]["state"] == "ready" and one.starts == 2)
        pid = one.pid
        running.end()
        running.start()
        assert (await running.api.chat("one")).status == 200
        assert (one.pid, one.starts) == (pid, 2)
        place.write([one], **HELD)
        assert (await post(running)).json()["applied"]


async def test_e4_a_key_that_can_not_be_compared_changes_nothing(place, one, two):
    """Its form is right, its hash is none: that is found before anything is taken over, not half way."""
    place.write([one], **HELD)
    with Running(place) as running:
        place.write([two], keys=[{"name": "me", "hash": "sha256:...", "admin": True}], **HELD)
        told = await post(running)
        assert (told.status, told.json()["applied"]) == (422, False)
        assert "hash of 'me'" in told.json()["error"]["message"]
        assert (await running.api.chat("one")).status == 200
        assert (await running.api.chat("two")).status == 404


async def test_e4_what_needs_a_restart_restarts_no_model(place, llama_file):
    """`sessions` is resolved into each model; a model is resolved with what holds, not with what the file says."""
    model = {"path": str(llama_file), "context": 512, "memory": "100MiB"}
    place.write({"tiny": model}, **HELD)
    with Running(place) as running:
        place.write({"tiny": model}, sessions={"store": "off"}, **HELD)
        told = (await running.api.get("/api/v1/plan")).json()
        assert [change["name"] for change in told["changes"]] == ["sessions.store"]


async def test_g3_the_file_is_told_by_its_whole_path(place, one):
    """Who edits it elsewhere compares it with the file that was edited."""
    place.write([one], **HELD)
    start = f"cd {place.folder} && exec {sys.executable} -m roundhouse serve --config roundhouse.yaml"
    with Running(place, wrapper=["/bin/sh", "-c", start]) as running:
        assert (await running.api.get("/api/v1/plan")).json()["file"] == str(place.file)
