"""llama-server's own API and page behind the running program, with a real llama.cpp (spec A2, A7, A8)."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace

import pytest

from tests.support.gguf_files import SENTENCE, write_tiny_chat
from tests.support.house import Running
from tests.support.real_engine import real_build

pytestmark = pytest.mark.real

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def house(shared_place):
    llama = real_build()
    place = shared_place
    write_tiny_chat(place.folder / "alpha.gguf", "alpha")
    write_tiny_chat(place.folder / "endless.gguf", "endless", n_ctx=65536)
    small = {"context": 512, "slots": 2, "memory": "400MiB", "args": ["--threads", 1]}
    models = {
        "org/alpha": {"path": str(place.folder / "alpha.gguf"), "preload": True, **small},
        "cold": {"path": str(place.folder / "alpha.gguf"), **small},
        "endless": {"path": str(place.folder / "endless.gguf"), **small, "context": 65536, "slots": 1},
    }
    settings = {"engines": {"llamacpp": {"binary": llama.argv[0]}}} if len(llama.argv) == 1 else {}
    place.write(models, devices={"ram": "1300MiB"}, **settings)
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, llama=llama)


async def test_a7_the_engines_page_and_all_that_it_is_drawn_from(house):
    browser = {"accept-encoding": "gzip, br", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
    page = await house.api.get("/upstream/org/alpha/", browser)
    if page.status == 404:
        pytest.skip("this build has no page")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    if page.headers.get("content-encoding"):
        return  # one packed file
    parts = re.findall(rb'(?:src|href)="(\./[^"]+|/[^"]+)"', page.body)
    assert [part for part in parts if part.startswith(b"/")] == []  # nothing would be found outside the folder
    for part in parts:
        assert (await house.api.get(f"/upstream/org/alpha/{part.decode()[2:]}", browser)).status == 200


async def test_a7_what_the_page_asks(house):
    props = (await house.api.get("/upstream/org/alpha/props")).json()
    assert props["total_slots"] == 2
    assert (await house.api.get("/props?model=org%2Falpha")).json() == props
    assert len((await house.api.get("/slots?model=org/alpha")).json()) == 2
    assert (await house.api.get("/upstream/org/alpha/v1/models")).json()["data"]
    body = {"messages": HI, "stream": True}
    reply = await house.api.post("/upstream/org/alpha/v1/chat/completions", body)
    assert reply.status == 200
    assert b"[DONE]" in reply.body


async def test_a7_looking_at_a_cold_one_loads_nothing(house):
    assert (await house.api.get("/props?model=cold")).error()["code"] == "model_not_loaded"
    assert (await house.api.model("cold"))["state"] == "unloaded"
    assert (await house.api.get("/props?model=cold&autoload=true")).json()["total_slots"] == 2
    await house.api.post("/models/unload", {"model": "cold"})


@pytest.mark.parametrize("where", ["body", "query"])
async def test_a2_native_completions_whole_and_streamed(house, where):
    named, query = ({"model": "org/alpha"}, "") if where == "body" else ({}, "?model=org%2Falpha")
    asked = {"prompt": "This is", "n_predict": 6, "temperature": 0, **named}
    whole = await house.api.post(f"/completion{query}", asked)
    assert whole.status == 200
    assert whole.headers["x-roundhouse-model"] == "org/alpha"
    found = whole.json()
    assert (found["model"], found["stop"], found["tokens_predicted"]) == ("org/alpha", True, 6)
    assert found["content"]
    async with house.api.open("POST", f"/completion{query}", asked | {"stream": True}) as answer:
        events = await answer.events()
    assert "".join(chunk["content"] for chunk in events.chunks) == found["content"]
    assert events.chunks[-1]["model"] == "org/alpha"
    assert not events.done
    several = await house.api.post(f"/completion{query}", asked | {"prompt": ["This is", "That is"]})
    assert [one["index"] for one in several.json()] == [0, 1]


async def test_a4_infill_has_its_engines_error(house):
    reply = await house.api.post("/infill", {"model": "org/alpha", "input_prefix": "a", "input_suffix": "b"})
    assert reply.status == 501
    assert "Infill is not supported" in reply.error()["message"]


async def test_a2_tokens_and_templates(house):
    tokens = (await house.api.post("/tokenize?model=org/alpha", {"content": SENTENCE})).json()["tokens"]
    text = (await house.api.post("/detokenize", {"model": "org/alpha", "tokens": tokens})).json()["content"]
    assert text.replace("▁", " ").strip() == SENTENCE
    assert "hi" in (await house.api.post("/apply-template", {"model": "org/alpha", "messages": HI})).json()["prompt"]
    assert (await house.api.post("/tokenize", {"content": "x"})).error()["param"] == "model"


@pytest.mark.parametrize("path", ["/completion", "/upstream/endless/completion"])
async def test_a8_who_leaves_stops_the_engine(house, path):
    asked = {"model": "endless", "prompt": "This", "n_predict": 60000, "ignore_eos": True}
    stream = {"stream": path.startswith("/upstream")}  # a whole answer that is passed as it is can't be ended
    await house.api.post("/models/load", {"model": "endless"})
    await house.api.until("endless", "ready")

    async def busy() -> bool:
        return (await house.api.get("/slots?model=endless")).json()[0]["is_processing"]

    async def ask() -> None:
        await house.api.post(path, asked | stream)

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask())
        while not (await house.api.model("endless"))["active"]:
            await asyncio.sleep(0.02)
        asking.cancel()
    async with asyncio.timeout(10):
        while await busy():
            await asyncio.sleep(0.05)
