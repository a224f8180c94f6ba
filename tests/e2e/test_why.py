"""Why requests waited and models came and went, asked of the real program (spec G5, H)."""

from __future__ import annotations

import asyncio
import json

import pytest

from roundhouse.api.auth import hash_key
from tests.cli.commands import run
from tests.support.fake_engine import EMOJI
from tests.support.house import Running, Scripted

BIG = "600MiB"  # of the 1 GiB that there is


def texts(told: dict) -> str:
    return "\n".join(line["text"] for line in told["lines"])


async def why(api, request: str) -> dict:
    """Once it is written that it has ended: books are closed after the answer has gone."""
    async with asyncio.timeout(30):
        while not (told := (await api.get(f"/api/v1/requests/{request}/why")).json()).get("ended"):
            await asyncio.sleep(0.01)
    return told


async def test_g5_a_request_that_waited_tells_of_what_while_it_waits_and_when_it_has_ended(place):
    one, two = (Scripted(place.folder, name, memory=BIG) for name in ("one", "two"))
    place.write([one, two], scheduling={"max_wait": "1s"}, status={"every": "100ms"})
    gate = place.gate("long")
    with Running(place) as running:
        api = running.api
        async with api.stream("one", fake={"gate": str(gate), "gate_after": 1}) as first:
            await first.until(EMOJI[0])
            async with api.stream("two", headers={"x-request-id": "mine"}) as second:
                await second.until("one answers until about")
                live = (await api.get("/api/v1/requests/mine/why")).json()
                assert (live["id"], live["model"], live["ended"]) == ("mine", "two", False)
                assert live["lines"][0]["text"] == (
                    "A request came for two. Loaded then: one (answering 1 of at most 64)."
                )
                assert live["lines"][-1]["text"].startswith("It waits now: one has its turn for at most")
                await second.until("one finishes 1 answer first")
                gate.touch()
                await first.events()
                await second.events()
        told = await why(api, "mine")
        story = texts(told)
        assert [line["at"] for line in told["lines"]] == sorted(line["at"] for line in told["lines"])
        for part in (
            "two waited: one has its turn for at most",
            "one had to leave for two (while it gave 1 answer, which it finishes first). It was missed least",
            "two waited: one finishes 1 answer, then its place is free.",
            "one was gone and its memory back (room for two).",
            "two began to load (1 request waited).",
            "two was loaded in",
            "two took it after",
            "with status 200.",
        ):
            assert part in story, story
        assert (await api.chat("two", headers={"x-request-id": "quick"})).status == 200
        assert "it was answered at once" in texts(await why(api, "quick"))
        left = (await api.get("/api/v1/models/one/why")).json()
        assert left["now"] == "one is not loaded, and nobody waits for it."
        assert "one had to leave for two" in texts(left)
        missing = await api.get("/api/v1/requests/nobodys/why")
        assert missing.status == 404
        assert "no request 'nobodys'" in missing.json()["error"]["message"]
        assert (await api.get("/api/v1/models/nobodys/why")).status == 404
        shown = run("why", "mine", ROUNDHOUSE_URL=f"http://127.0.0.1:{place.port}")
        assert shown.code == 0, shown.err
        assert "one had to leave for two" in shown.out
        assert "one is not loaded" in run("why", "one", ROUNDHOUSE_URL=f"http://127.0.0.1:{place.port}").out
        running.terminate()
        running.wait()  # not running: the history is read
        config = str(place.file)
        gone = {"ROUNDHOUSE_URL": f"http://127.0.0.1:{place.port}"}
        assert "one had to leave for two" in run("why", "mine", "--config", config, **gone).out
        assert json.loads(run("why", "mine", "--config", config, "--json", **gone).out)["lines"] == told["lines"]
        assert "two was loaded in" in run("why", "two", "--config", config, **gone).out
        refused = run("why", "nobodys", "--config", config, **gone)
        assert (refused.code, "knows no request and no model 'nobodys'" in refused.err) == (4, True)


@pytest.mark.parametrize("stream", [True, False])
async def test_g5_a_refusal_and_a_moved_task_say_why(place, stream):
    bad, good = Scripted(place.folder, "bad", "--die-load", "1"), Scripted(place.folder, "good")
    place.write([bad, good])
    with Running(place) as running:
        api = running.api
        assert (await api.chat("good")).status == 200
        await api.chat("bad", stream=stream, headers={"x-request-id": "refused"})
        told = texts(await why(api, "refused"))
        assert "bad could not be loaded" in told
        assert "It was refused after" in told
        await api.chat("bad")  # the second load after one that failed
        assert 'roundhouse_engine_restarts_total{model="bad"} 1.0' in (await api.get("/metrics")).body.decode()
        await api.chat("bad", stream=stream, headers={"x-request-id": "task", "x-roundhouse-task": "title"})
        assert "it went to good, which was" in texts(await why(api, "task"))


async def test_f_a_key_sees_the_stories_of_its_own_requests_only(place):
    place.write(
        [Scripted(place.folder, "one")], keys=[{"name": n, "hash": hash_key(f"{n}-key-123456")} for n in ("ann", "bob")]
    )
    with Running(place) as running:
        ann, bob = ({"authorization": f"Bearer {name}-key-123456"} for name in ("ann", "bob"))
        api = running.api
        assert (await api.chat("one", headers={**ann, "x-request-id": "hers"})).status == 200
        async with asyncio.timeout(30):
            while (await api.get("/api/v1/requests/hers/why", headers=ann)).status != 200:
                await asyncio.sleep(0.01)
        assert (await api.get("/api/v1/requests/hers/why", headers=bob)).status == 404
        assert (await api.get("/api/v1/requests/hers/why")).status == 401


async def test_g5_what_was_decided_can_be_played_again(place):
    one, two = (Scripted(place.folder, name, memory=BIG) for name in ("one", "two"))
    place.write([one, two])
    with Running(place) as running:
        for model in ("one", "two", "one"):
            assert (await running.api.chat(model)).status == 200
        fake = {"endless": True, "delay": 0.01}
        async with running.api.stream("one", fake=fake, headers={"x-request-id": "mine"}) as answer:
            await answer.until("xxxx")
            assert (await running.api.post("/api/v1/requests/mine/cancel")).status == 200
            await answer.events()
        running.terminate()
        running.wait()
        shown = run("replay", "--config", str(place.file), "--json")
        assert shown.code == 0, shown.out
        told = json.loads(shown.out)
        assert told["difference"] is None
        assert told["decisions"] >= 10  # three starts, two stops, four grants, and one answer that was cut


async def test_f2_strangers_do_not_learn_which_models_there_are(place):
    place.write([Scripted(place.folder, "one")], keys=[{"name": "boss", "hash": hash_key("boss"), "admin": True}])
    with Running(place) as running:
        statuses = [(await running.api.get(f"/api/v1/models/{name}/why")).status for name in ("one", "none")]
    assert statuses == [401, 401]
