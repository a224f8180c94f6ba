"""What operators see and do: health, state, events, logs, load and unload (spec H, G1)."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.support.house import Running, Scripted

MODEL_KEYS = {"state", "engine", "device", "since", "active", "waiting", "error"}


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    one, two = Scripted(place.folder, "one", memory="600MiB"), Scripted(place.folder, "org/two", memory="600MiB")
    place.write([one, two])
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, one=one, place=place)


async def load(house, name):
    reply = await house.api.post(f"/api/v1/models/{name}/load")
    assert reply.status == 200
    return reply.json()


def messages(raw: bytes) -> list[tuple[str, str, dict]]:
    """Id, kind and data of each message of the feed."""
    found = []
    for block in raw.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


async def test_h_health_has_its_shape(house):
    await load(house, "one")
    await house.api.chat("one")
    health = await house.api.health()
    assert health["status"] == "healthy"
    assert health["version"]
    assert health["uptime_s"] > 0
    assert health["current_model"] == "one"
    assert health["queue"] == 0
    assert list(health["models"]) == ["one", "org/two"]
    assert set(health["models"]["one"]) >= MODEL_KEYS
    assert health["models"]["one"]["state"] == "ready"
    assert health["models"]["one"]["engine"] == "openai"
    assert health["models"]["one"]["device"] == {"ram": 600 << 20}
    assert health["models"]["org/two"]["state"] == "unloaded"
    assert set(health["devices"]["ram"]) == {"total", "used", "ours", "foreign"}
    assert health["devices"]["ram"]["total"] == 1 << 30
    assert health["backends"]["openai"]["state"] == "ready"
    assert health["backends"]["openai"]["url"].endswith(str(house.one.notes("start")[-1]["port"]))
    assert (await house.api.get("/api/v1/state")).json().keys() == health.keys()


async def test_h_load_makes_room_and_unload_ends_it(house):
    assert (await load(house, "one"))["state"] == "ready"
    found = await load(house, "org/two")
    assert (found["model"], found["state"]) == ("org/two", "ready")
    assert (await house.api.model("one"))["state"] == "unloaded"
    reply = await house.api.post("/api/v1/models/org%2Ftwo/unload")
    assert reply.json()["state"] == "unloaded"
    assert (await house.api.post("/api/v1/models/org/two/unload")).status == 200  # again


async def test_h_events_begin_with_a_snapshot_and_resume(house):
    await house.api.post("/api/v1/models/one/unload")
    async with house.api.open("GET", "/api/v1/events") as feed:
        await feed.until("event: snapshot")
        await load(house, "one")
        found = messages(await feed.until("event: ready"))
    kinds = [kind for _, kind, data in found if data.get("model", "one") == "one"]
    assert kinds[0] == "snapshot"
    assert found[0][2]["models"]["one"]["state"] == "unloaded"
    changes = [kind for kind in kinds if kind in {"loading", "started", "ready"}]
    assert changes == ["loading", "started", "ready"]
    seen = next(number for number, kind, _ in found if kind == "loading")
    async with house.api.open("GET", "/api/v1/events", None, {"last-event-id": seen}) as feed:
        again = messages(await feed.until("event: ready"))
    assert [kind for _, kind, _ in again if kind in {"snapshot", "started", "ready"}] == ["started", "ready"]
    async with house.api.open("GET", "/api/v1/events", None, {"last-event-id": "other-7"}) as feed:
        await feed.until("event: snapshot")


async def test_h_log_is_followed(house):
    await load(house, "one")
    reply = await house.api.get("/api/v1/models/one/log")
    assert reply.body.decode().splitlines()[-2:] == ["loading the weights", "ready"]
    async with house.api.open("GET", "/api/v1/models/one/log?follow=1") as log:
        await log.until("ready\n")
        await house.api.post("/api/v1/models/one/unload")
        await log.rest()  # ends with the engine
    assert "ready" in (await house.api.get("/api/v1/models/one/log")).body.decode()  # of the one that was


async def test_h_the_admin_api_is_described(house):
    described = (await house.api.get("/openapi.json")).json()["paths"]
    assert {"/health", "/metrics", "/v1/models", "/api/v1/state", "/api/v1/events"} <= set(described)
    assert (await house.api.get("/docs")).status == 200


async def test_g1_metrics_are_prometheus_text(house):
    reply = await house.api.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    names = {line.split("{")[0].split(" ")[0] for line in reply.body.decode().splitlines() if not line.startswith("#")}
    assert len([name for name in names if name.startswith("roundhouse_")]) > 10
