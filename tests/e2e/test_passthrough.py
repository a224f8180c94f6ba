"""Engines' own paths under /upstream (spec A7), and llama-server's router API, with scripted engines."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from roundhouse.api.auth import hash_key
from tests.support.house import Place, Running, Scripted
from tests.support.wire import Api

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    warm = Scripted(place.folder, "org/warm", preload=True, aliases=["w"], api_key="sk-of-the-engine")
    cold = Scripted(place.folder, "cold", memory="900MiB")
    endless = Scripted(place.folder, "endless", set={"fake": {"endless": True}})
    place.write([warm, cold, endless])
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, warm=warm, cold=cold, endless=endless, running=running)


@pytest.mark.parametrize("name", ["org/warm", "org%2Fwarm", "w"])
async def test_a7_any_path_goes_to_the_engine_as_it_is(house, name):
    body = {"model": "whatever", "messages": HI, "fake": {"tokens": 2}}
    headers = {"x-of-the-client": "yes", "authorization": "Bearer sk-of-the-client", "cookie": "c=1"}
    reply = await house.api.post(f"/upstream/{name}/v1/chat/completions?a=b%20c", body, headers)
    assert reply.status == 200
    assert reply.json()["object"] == "chat.completion"
    got = house.warm.last()
    assert got["json"] == body
    assert got["path"] == "/v1/chat/completions?a=b%20c"
    assert got["headers"]["x-of-the-client"] == "yes"
    assert got["headers"]["authorization"] == "Bearer sk-of-the-engine"
    assert "cookie" not in got["headers"]


async def test_a7_a_stream_passes_untouched(house):
    body = {"model": "m", "messages": HI, "stream": True, "fake": {"tokens": 3}}
    reply = await house.api.post("/upstream/org/warm/v1/chat/completions", body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b"Performance" not in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_a7_an_engines_own_errors_pass(house):
    body = {"fake": {"status": 418, "body": "I am a teapot", "kind": "text/plain"}}
    reply = await house.api.post("/upstream/org/warm/brew", body)
    assert (reply.status, reply.body, reply.headers["content-type"]) == (418, b"I am a teapot", "text/plain")


async def test_a7_an_answer_that_breaks_off_is_cut_and_not_ended(house):
    body = {"model": "m", "messages": HI, "stream": True, "fake": {"tokens": 3, "close": True}}
    async with house.api.open("POST", "/upstream/org/warm/v1/chat/completions", body) as answer:
        with pytest.raises((ValueError, asyncio.IncompleteReadError)):
            await answer.rest()
    assert "Traceback" not in house.running.log()


async def test_a7_a_page_is_reached_by_its_folder(house):
    reply = await house.api.get("/upstream/org/warm")
    assert (reply.status, reply.headers["location"]) == (308, "/upstream/org/warm/")


@pytest.mark.parametrize("path", ["/", "/props", "/slots", "/health", "/metrics", "/static/app.js", "/favicon.ico"])
async def test_a7_looking_at_a_model_does_not_load_it(house, path):
    reply = await house.api.get(f"/upstream/cold{path}")
    assert reply.status == 503
    assert "autoload=1" in reply.error()["message"]
    assert (await house.api.model("cold"))["state"] == "unloaded"


async def test_a7_but_asking_does_and_so_does_autoload(house):
    reply = await house.api.post("/upstream/cold/v1/chat/completions", {"messages": HI})
    assert reply.status == 200
    await house.api.post("/api/v1/models/cold/unload")
    assert (await house.api.get("/upstream/cold/health?autoload=1")).status == 200
    assert (await house.api.model("cold"))["state"] == "ready"
    await house.api.post("/api/v1/models/cold/unload")


async def test_a7_an_unknown_model_is_a_404(house):
    assert (await house.api.get("/upstream/nobody/health")).status == 404


async def test_a8_a_client_that_leaves_stops_the_engine(house):
    body = {"model": "m", "messages": HI, "stream": True, "fake": {"endless": True}}
    async with house.api.open("POST", "/upstream/endless/v1/chat/completions", body) as answer:
        await answer.part()
    assert await house.endless.until("left")
    assert (await house.api.model("endless"))["active"] in {0, 1}


async def test_the_router_api_loads_unloads_and_tells(house):
    async with house.api.open("GET", "/models/sse") as feed:
        loaded = await house.api.post("/models/load", {"model": "cold"})
        assert (loaded.status, loaded.json()) == (200, {"success": True})
        await feed.until('"status":"loaded"')
        listed = {model["id"]: model for model in (await house.api.get("/models")).json()["data"]}
        assert listed["cold"]["status"]["value"] == "loaded"
        unloaded = await house.api.post("/models/unload", {"model": "cold"})
        assert unloaded.json() == {"success": True}
        await feed.until('"model":"cold","event":"status_change","data":{"status":"unloaded"')
    told = [
        json.loads(line.removeprefix("data: ")) for line in feed.raw.decode().split("\n\n") if line.startswith("data")
    ]
    events = [(one["event"], one["data"]["status"]) for one in told if one["model"] == "cold"]
    assert events[0] == ("model_status", "loading")
    assert ("status_change", "loaded") in events
    assert events[-1] == ("status_change", "unloaded")


@pytest.mark.parametrize("body", [b"{}", b"[", {"model": 7}])
async def test_the_router_api_wants_a_model(house, body):
    assert (await house.api.post("/models/load", body)).status == 400


async def test_f2_f3_keys_say_who_may():
    place = Place()
    names = ("user", "keeper", "other")
    keys = [{"name": n, "hash": hash_key(f"sk-{n}"), "manage": n == "keeper"} for n in names]
    keys[2]["models"] = ["nothing"]
    warm = Scripted(place.folder, "warm", preload=True)
    place.write([warm], keys=keys)
    with Running(place):
        user, keeper, other = (Api(place.port, {"authorization": f"Bearer sk-{name}"}) for name in names)
        chat = {"messages": HI}
        assert (await user.post("/upstream/warm/v1/chat/completions", chat)).status == 200
        assert (await other.post("/upstream/warm/v1/chat/completions", chat)).status in {403, 404}
        assert (await Api(place.port).post("/upstream/warm/v1/chat/completions", chat)).status == 401
        for path in ("/slots/0?action=save", "/update_weights_from_disk", "/v1/model/unload", "/sleep"):
            assert (await user.post(f"/upstream/warm{path}", {})).status == 403, path
            assert (await keeper.post(f"/upstream/warm{path}", {})).status != 403, path
        assert (await user.get("/upstream/warm/slots")).status == 403  # other users' prompts are seen there
        assert (await user.post("/models/unload", {"model": "warm"})).status == 403
        evil = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        assert (await keeper.post("/models/unload", {"model": "warm"}, evil)).status == 403
        assert (await user.post("/upstream/warm/v1/chat/completions", chat, evil)).status == 403
