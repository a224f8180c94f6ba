"""The swap report of the running program, with scripted engines: parts, feed, history, status (spec G5, issue: switching)."""

from __future__ import annotations

import json

import pytest

from roundhouse.core.switching import PARTS
from tests.support.house import Running, Scripted


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    models = [Scripted(place.folder, name, memory="700MiB") for name in ("alpha", "beta")]
    place.write(models)
    with Running(place) as running:
        yield running.api


async def switches(api, **query: object) -> list[dict]:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return (await api.get(f"/api/v1/switches?{asked}")).json()["switches"]


async def test_a_switch_is_taken_apart_and_its_parts_add_up(house):
    for model in ("alpha", "beta"):
        assert (await house.chat(model)).status == 200
    async with house.open("GET", "/api/v1/events") as feed:
        await feed.until("snapshot")
        await house.events("alpha")
        await feed.until("event: switch\n")
        data = feed.raw.decode().split("event: switch\ndata: ")[1]
        while "\n\n" not in data:
            await feed.part()
            data = feed.raw.decode().split("event: switch\ndata: ")[1]
    told = json.loads(data.split("\n")[0])
    assert (told["model"], told["left"]) == ("alpha", ["beta"])
    assert set(told["parts"]) == set(PARTS)
    assert all(seconds >= 0 for seconds in told["parts"].values())
    assert sum(told["parts"].values()) + told["load_s"] == pytest.approx(told["total_s"], abs=0.01)
    assert told["load_s"] == pytest.approx(sum(told["stages"].values()), abs=0.01)
    assert told["first_token_s"] is not None
    assert told["parts"]["stop"] > 0
    latest, *before = await switches(house)
    assert latest == told
    assert [switch["model"] for switch in before][:2] == ["beta", "alpha"]
    assert {switch["model"] for switch in await switches(house, model="beta")} == {"beta"}
    assert len(await switches(house, limit=1)) == 1
    assert (await house.model("alpha"))["switch"] == told


async def test_a_load_that_an_operator_asked_for_has_no_first_token(house):
    await house.post("/api/v1/models/alpha/unload")
    await house.post("/api/v1/models/alpha/load")
    async with house.open("GET", "/api/v1/events"):
        latest = (await switches(house, model="alpha"))[0]
    while latest["left"]:
        latest = (await switches(house, model="alpha"))[0]
    assert latest["first_token_s"] is None


async def test_metrics_say_where_the_time_went(house):
    text = (await house.get("/metrics")).body.decode()
    assert 'roundhouse_switch_seconds_total{part="load"}' in text
    assert 'roundhouse_switch_seconds_total{part="drain"}' in text
