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
    place.write([warm, cold, endless], limits={"body": "8MiB"})
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


@pytest.mark.parametrize("mode", ["navigate", "cors", "no-cors"])
async def test_a7_a_browser_gets_the_page_and_its_parts(house, mode):
    headers = {"sec-fetch-site": "same-origin", "sec-fetch-mode": mode, "cookie": "a=b", "host": "localhost:1"}
    for path in ("/", "/props", "/v1/models"):
        assert (await house.api.get(f"/upstream/org/warm{path}", headers)).status == 200


async def test_f3_a_link_elsewhere_leads_to_the_page_and_a_page_elsewhere_reads_nothing(house):
    foreign = {"sec-fetch-site": "cross-site"}
    link = foreign | {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert (await house.api.get("/upstream/org/warm/", link)).status == 200
    assert (await house.api.get("/upstream/org/warm/flush_cache", link)).status == 403
    assert (await house.api.get("/upstream/org/warm/", link | {"host": "evil.example"})).status == 403
    assert (await house.api.get("/upstream/org/warm/props", foreign | {"sec-fetch-mode": "cors"})).status == 403
    assert (await house.api.get("/upstream/org/warm/props", {"origin": "https://evil.example"})).status == 403


async def test_f2_f3_what_an_engine_says_of_cookies_and_origins_stays_here(house):
    told = [
        ["Access-Control-Allow-Origin", "*"],
        ["Set-Cookie", "a=b"],
        ["X-Of-Its-Own", "yes"],
        ["Connection", "close"],
    ]
    reply = await house.api.post("/upstream/org/warm/x", {"fake": {"status": 404, "headers": told}})
    assert reply.headers["x-of-its-own"] == "yes"
    assert reply.headers["x-roundhouse-model"] == "org/warm"
    assert not {"access-control-allow-origin", "set-cookie", "connection"} & set(reply.headers)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("/docs/?a=b", "/upstream/org%2Fwarm/docs/?a=b"),
        ("http://127.0.0.1:{port}/docs/", "/upstream/org%2Fwarm/docs/"),
        ("docs/", "docs/"),
        ("https://example.org/", "https://example.org/"),
        ("//example.org/x", "//example.org/x"),
    ],
)
async def test_a7_an_engine_that_leads_on_leads_to_itself(house, said, heard):
    said = said.format(port=house.warm.notes("start")[-1]["port"])
    body = {"fake": {"status": 307, "headers": [["Location", said]]}}
    assert (await house.api.post("/upstream/org%2Fwarm/docs", body)).headers["location"] == heard


async def test_e6_a_long_body_is_handed_on_in_pieces(house):
    body = {"messages": HI, "pad": "x" * (3 << 20), "fake": {"tokens": 1}}
    assert (await house.api.post("/upstream/org/warm/v1/chat/completions", body)).status == 200
    got = house.warm.last()
    assert got["json"] == body
    assert got["headers"]["transfer-encoding"] == "chunked"
    assert (await house.api.post("/upstream/org/warm/x", body | {"pad": "x" * (9 << 20)})).status == 413


async def test_f2_nothing_climbs_up(house):
    assert (await house.api.get("/upstream/org/warm/%2e%2e/x")).status == 400


@pytest.mark.parametrize("rest", ["/\xff\xfe", "/%ff%00", "/%", "/%zz?%&&=&autoload", "//x", "/a b"])
async def test_no_path_makes_us_fail(house, rest):
    try:
        reply = await house.api.post(f"/upstream/org/warm{rest}", {"fake": {"status": 404}})
    except asyncio.IncompleteReadError:
        pytest.fail("the connection was closed without an answer")
    assert reply.status in {400, 404}
    assert "Traceback" not in house.running.log()


async def test_a2_what_is_asked_of_a_model_by_query(house):
    for path in ("/props", "/slots", "/lora-adapters"):
        assert (await house.api.get(f"{path}?model=org%2Fwarm")).status == 200
        assert (await house.api.get(f"{path}?model=w")).status == 200
        assert (await house.api.get(f"{path}?model=cold")).error()["code"] == "model_not_loaded"
        assert (await house.api.get(f"{path}?model=nobody")).status == 404
    assert (await house.api.get("/slots")).error()["param"] == "model"
    assert (await house.api.get("/props")).json()["role"] == "router"


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
    reply = await house.api.get("/upstream/org%2Fwarm?a=b")
    assert (reply.status, reply.headers["location"]) == (308, "/upstream/org%2Fwarm/?a=b")


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
    reply = await house.api.get("/upstream/org/cold/health")
    assert reply.status == 404
    assert "/upstream/MODEL/PATH" in reply.error()["message"]


async def test_a9_an_engine_that_is_gone_is_loaded_again_for_whoever_asks(house):
    starts = house.warm.starts
    body = {"model": "m", "messages": HI, "stream": True, "fake": {"die_after": 1}}
    async with house.api.open("POST", "/upstream/org/warm/v1/chat/completions", body) as answer:
        with pytest.raises((ValueError, asyncio.IncompleteReadError)):
            await answer.rest()
    body = {"messages": HI, "fake": {"tokens": 1}}
    assert (await house.api.post("/upstream/org/warm/v1/chat/completions", body)).status == 200
    assert house.warm.starts == starts + 1


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
        await house.api.until("cold", "ready")
        listed = {model["id"]: model for model in (await house.api.get("/models")).json()["data"]}
        assert listed["cold"]["status"]["value"] == "loaded"
        assert listed["cold"]["architecture"] == {"input_modalities": ["text"], "output_modalities": ["text"]}
        unloaded = await house.api.post("/models/unload", {"model": "cold"})
        assert unloaded.json() == {"success": True}
        await feed.until('"model":"cold","event":"status_change","data":{"status":"unloaded"')
    told = [
        json.loads(line.removeprefix("data: ")) for line in feed.raw.decode().split("\n\n") if line.startswith("data")
    ]
    events = [(one["event"], one["data"]["status"]) for one in told if one["model"] == "cold"]
    assert events[0] == ("model_status", "loading")
    assert ("status_change", "loaded") in events
    assert next(one["data"]["info"]["id"] for one in told if one["data"]["status"] == "loaded") == "cold"
    assert events[-1] == ("status_change", "unloaded")


async def test_the_router_api_tells_how_a_load_failed():
    place = Place()
    broken = Scripted(place.folder, "broken", "--die-load", "CUDA error: out of memory")
    place.write([broken])
    with Running(place) as running:
        async with running.api.open("GET", "/models/sse") as feed:
            await running.api.post("/models/load", {"model": "broken"})
            await feed.until('"status":"unloaded","exit_code":1')
        await running.api.until("broken", "failed")
        listed = (await running.api.get("/models")).json()["data"][0]["status"]
        assert (listed["value"], listed["failed"], listed["exit_code"]) == ("failed", True, 1)
        assert "out of memory" in listed["error"]


async def test_an_unload_does_not_wait_for_a_long_answer(house):
    async with house.api.open(
        "POST", "/v1/chat/completions", {"model": "endless", "messages": HI, "stream": True}
    ) as answer:
        await answer.until("xxxx")
        assert (await house.api.post("/models/unload", {"model": "endless"})).json() == {"success": True}
        assert (await house.api.model("endless"))["state"] == "draining"
    await house.api.until("endless", "unloaded")


@pytest.mark.parametrize("body", [b"{}", b"[", {"model": 7}])
async def test_the_router_api_wants_a_model(house, body):
    assert (await house.api.post("/models/load", body)).status == 400


async def test_f2_f3_keys_say_who_may():
    place = Place()
    names = ("user", "keeper", "other", "boss")
    keys = [{"name": n, "hash": hash_key(f"sk-{n}"), "manage": n == "keeper", "admin": n == "boss"} for n in names]
    keys[2]["models"] = ["nothing"]
    warm = Scripted(place.folder, "warm", preload=True)
    place.write([warm], keys=keys)
    with Running(place):
        user, keeper, other, boss = (Api(place.port, {"authorization": f"Bearer sk-{name}"}) for name in names)
        chat = {"messages": HI}
        assert (await user.post("/upstream/warm/v1/chat/completions", chat)).status == 200
        assert (await other.post("/upstream/warm/v1/chat/completions", chat)).status in {403, 404}
        assert (await Api(place.port).post("/upstream/warm/v1/chat/completions", chat)).status == 401
        for path in ("/slots/0?action=save", "/update_weights_from_disk", "/v1/model/unload", "/sleep"):
            assert (await user.post(f"/upstream/warm{path}", {})).status == 403, path
            assert (await keeper.post(f"/upstream/warm{path}", {})).status == 403, path
            assert (await boss.post(f"/upstream/warm{path}", {})).status == 200, path
        assert (await user.get("/upstream/warm/slots")).status == 403  # other users' prompts are seen there
        assert "admin key" in (await user.get("/slots?model=warm")).error()["message"]
        assert (await user.post("/models/unload", {"model": "warm"})).status == 403
        assert (await user.get("/models/sse", {"authorization": "Bearer sk-nobody"})).status == 401
        assert [model["id"] for model in (await other.get("/models")).json()["data"]] == []
        evil = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        assert (await keeper.post("/models/unload", {"model": "warm"}, evil)).status == 403
        assert (await user.post("/upstream/warm/v1/chat/completions", chat, evil)).status == 403
