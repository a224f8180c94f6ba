"""What the dashboard asks beyond state and feed (spec G2, H)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.support.house import Running, Scripted

SECRET = "hf_very-secret-token"


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    one = Scripted(place.folder, "one", memory="600MiB", env={"HF_TOKEN": SECRET})
    slow = Scripted(place.folder, "org/slow", "--load-gate", str(place.gate("slow")), memory="600MiB")
    broken = Scripted(place.folder, "broken", "--die-at-start", "no such flag", memory="64MiB")
    place.write([one, slow, broken])
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, place=place)


async def until(found):
    async with asyncio.timeout(30):
        while not (value := await found()):
            await asyncio.sleep(0.02)
        return value


async def test_who_waits_is_told_with_place_and_reason(house):
    api = house.api

    async def waiting(count):
        told = (await api.get("/api/v1/queue")).json()
        return told if len(told["waiting"]) == count and told["loads"] else None

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(api.chat("org/slow"))]
        await until(lambda: waiting(1))
        asked.append(tasks.create_task(api.chat("one")))
        told = await until(lambda: waiting(2))
        house.place.gate("slow").touch()
    assert [task.result().status for task in asked] == [200, 200]
    first, second = told["waiting"]
    assert (first["model"], first["place"], first["task"], told["total"]) == ("org/slow", 1, False, 2)
    assert first["waited_s"] >= second["waited_s"] >= 0
    assert (second["model"], second["place"]) == ("one", 1)
    assert "org/slow is being loaded first" in second["why"]
    assert told["loads"]["org/slow"]["expected_s"] > 0
    empty = (await api.get("/api/v1/queue")).json()
    assert (empty["waiting"], empty["total"], empty["loads"]) == ([], 0, {})
    assert empty["answering"] == []


async def test_memory_as_reckoned_and_as_measured(house):
    api = house.api
    assert (await api.chat("one")).status == 200
    told = await until(lambda: with_measure(api))
    assert told["estimate"] == {"ram": 600 << 20}
    assert 0 < told["measured"]["ram"] < 600 << 20
    assert set((await api.get("/api/v1/queue")).json()["holders"]) <= {"ram"}


async def with_measure(api):
    told = (await api.get("/api/v1/state")).json()["models"]["one"]
    return told if told["measured"].get("ram") else None


async def test_past_requests_are_filtered_and_continued(house):
    api = house.api
    for _ in range(3):
        assert (await api.chat("one")).status == 200
    assert (await api.chat("broken")).status >= 500

    async def of(query):
        return (await api.get(f"/api/v1/requests?{query}")).json()["requests"]

    async def written():
        return len(await of("model=one")) >= 3 and await of("outcome=failed&model=broken")

    await until(written)
    mine = await of("model=one")
    assert [r["at"] for r in mine] == sorted((r["at"] for r in mine), reverse=True)
    assert {r["model"] for r in mine} == {"one"}
    assert await of("model=one&outcome=failed") == []
    assert all(r["status"] < 400 for r in await of("outcome=ok"))
    first = await of("model=one&limit=1")
    rest = await of(f"model=one&before={first[0]['at']!r}")
    assert [r["id"] for r in first + rest] == [r["id"] for r in mine]
    assert await of("key=nobody") == []
    assert await of("waited=0&model=one&limit=1") == first
    assert await of("waited=3600") == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "outcome=maybe", "before=yesterday", "waited=-1"]
)
async def test_bad_filters_are_told(house, query):
    reply = await house.api.get(f"/api/v1/requests?{query}")
    assert reply.status == 400
    assert reply.json()["error"]["param"] == query.partition("=")[0]


async def test_pins_are_set_and_taken_back(house):
    api = house.api

    async def pinned():
        return (await api.get("/api/v1/queue")).json()["pinned"]

    assert (await api.post("/api/v1/models/org/slow/load")).status == 200
    told = (await api.post("/api/v1/models/org/slow/pin")).json()
    assert (told["model"], told["pinned"]) == ("org/slow", True)
    assert await pinned() == ["org/slow"]
    refused = await api.chat("one")
    assert refused.status >= 500
    assert "pinned" in refused.json()["error"]["message"]
    assert (await api.post("/api/v1/models/org/slow/unpin")).status == 200
    assert await pinned() == []
    assert (await api.chat("one")).status == 200
    assert (await api.post("/api/v1/models/nobody/pin")).status == 404
    assert (await api.get("/api/v1/models/one/pin")).status == 405


async def test_a_model_in_full_without_secrets(house):
    api = house.api
    assert (await api.chat("one")).status == 200
    reply = await api.get("/api/v1/models/one/details")
    told = reply.json()
    assert told["settings"]["engine"] == "openai"
    assert told["settings"]["env"] == {"HF_TOKEN": "[hidden]"}
    assert "--record" in told["command"]
    assert told["claim"]["ram"] > 0
    assert SECRET not in str(told)
    assert (await api.get("/api/v1/models/org/slow/details")).json()["id"] == "org/slow"
    assert (await api.get("/api/v1/models/nobody/details")).status == 404


async def test_settings_as_resolved(house):
    told = (await house.api.get("/api/v1/config")).json()
    assert told["state_dir"] == str(house.place.state)
    assert "models" not in told


async def test_browsers_find_the_page_and_programs_the_text(house):
    page = await house.api.get("/", {"accept": "text/html"})
    assert page.status == 307
    text = await house.api.get("/")
    assert text.status == 200
    assert (await house.api.get("/ui")).status == 200


async def test_another_sites_page_pins_nothing(house):
    reply = await house.api.post("/api/v1/models/one/pin", headers={"origin": "https://evil.example"})
    assert reply.status == 403
