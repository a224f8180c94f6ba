"""Names of models in every shape that a configuration and a client can give them (spec A5, A6)."""

from __future__ import annotations

import json
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from roundhouse.api.auth import hash_key
from tests.support.house import Place, Running, Scripted
from tests.support.wire import Api

UNICODE = "größe/模型 🚂:v1"


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    one = Scripted(
        place.folder,
        "org/one",
        preload=True,
        aliases={"thinker": {"temperature": 0.6, "top_p": 0.9}, "plain/one": {}},
        set={"seed": 1},
        strip=["top_k", "top_p"],
        served_name="the-engines-own-name",
    )
    two = Scripted(place.folder, "two", aliases=["2", "zwei"])
    named = Scripted(place.folder, "unicode", preload=True, aliases=["模型"])
    named.name = UNICODE
    hidden = Scripted(place.folder, "org/one/hidden", unlisted=True)
    models = {model.name: model.config for model in (one, two, named, hidden)} | {
        "best": {
            "any_of": ["two", "org/one"],
            "aliases": {"any/first": {"min_p": 0.1}, "auto": {}},
            "set": {"seed": 2},
            "strip": ["stop"],
        }
    }
    place.write(models)
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, one=one, two=two, named=named, hidden=hidden)


async def asked(house, name: str, engine: str = "one", **more: object) -> dict[str, object]:
    """What the engine got when this name was asked for."""
    reply = await house.api.chat(name, **more)
    assert reply.status == 200, reply.body
    assert reply.json()["model"] == name
    got: dict[str, object] = getattr(house, engine).last()["json"]
    return got


async def test_a5_a6_an_alias_fills_in_set_forces_and_strip_removes(house):
    sent = {"temperature": 1, "top_k": 5, "seed": 7, "max_tokens": 3}
    got = await asked(house, "org/one", **sent)
    assert {key: got.get(key) for key in ("model", *sent)} == {
        "model": "the-engines-own-name",
        "temperature": 1,
        "top_k": None,
        "seed": 1,
        "max_tokens": 3,
    }
    got = await asked(house, "thinker")
    assert (got["temperature"], got["top_p"], got["seed"]) == (0.6, 0.9, 1)
    got = await asked(house, "thinker", temperature=0.2, top_p=0.1)
    assert (got["temperature"], got["top_p"]) == (0.2, 0.9)  # stripped, then the alias's own
    assert "temperature" not in await asked(house, "plain/one")


@pytest.mark.parametrize("name", ["2", "zwei"])
async def test_a6_aliases_as_a_list(house, name):
    assert (await asked(house, name, "two"))["model"] == "two"
    await house.api.post("/models/unload", {"model": name})
    await house.api.until("two", "unloaded")


@pytest.mark.parametrize("name", ["best", "any/first", "auto"])
async def test_a6_any_of_and_its_aliases_take_the_first_that_is_loaded(house, name):
    got = await asked(house, name, stop="x", top_k=3)
    assert (got["model"], got["seed"]) == ("the-engines-own-name", 2)  # its own `set` goes before the model's
    assert "stop" not in got
    assert "top_k" not in got
    assert got.get("min_p") == (0.1 if name == "any/first" else None)


async def test_a6_any_of_takes_the_first_of_all_when_none_is_loaded(house):
    await house.api.post("/models/unload", {"model": "org/one"})
    await house.api.until("org/one", "unloaded")
    reply = await house.api.chat("auto")
    assert reply.headers["x-roundhouse-model"] == "two"
    await house.api.post("/models/unload", {"model": "two"})
    await house.api.until("two", "unloaded")
    assert (await house.api.chat("org/one")).status == 200


@pytest.mark.parametrize("name", [UNICODE, "模型"])
async def test_a5_any_script_and_signs(house, name):
    assert (await asked(house, name, "named"))["model"] == UNICODE
    escaped = json.dumps({"model": name, "messages": []}).encode()  # as \uXXXX
    reply = await house.api.post("/v1/chat/completions", escaped)
    assert reply.json()["model"] == name
    path = f"/upstream/{quote(name, safe='')}/v1/chat/completions"
    assert (await house.api.post(path, {"messages": [], "model": "m"})).status == 200
    assert (await house.api.get(f"/slots?model={quote(name)}")).status == 200


@pytest.mark.parametrize("root", ["/v1/models/", "/models/"])
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("org/one", "org/one"),
        ("plain/one", "org/one"),
        ("org/one/hidden", "org/one/hidden"),
        (UNICODE, UNICODE),
        ("any/first", "best"),
        ("2", "two"),
    ],
)
async def test_a1_a5_one_model_by_any_of_its_names_encoded_or_not(house, root, name, found):
    for safe in ("", "/:"):
        reply = await house.api.get(root + quote(name, safe=safe))
        assert (reply.status, reply.json()["id"]) == (200, found)
    assert (await house.api.get(root + quote(name + "x", safe=""))).status == 404


async def test_a6_what_is_unlisted_answers_but_is_not_told(house):
    listed = [model["id"] for model in (await house.api.get("/v1/models")).json()["data"]]
    assert listed == ["org/one", "two", UNICODE, "best"]
    message = (await house.api.chat("org/one/hiddenn")).error()["message"]
    assert "'org/one/hidden'" not in message
    assert (await asked(house, "org/one/hidden", "hidden"))["model"] == "org/one/hidden"


async def test_a5_the_longest_name_counts_in_paths(house):
    assert (await house.api.get("/upstream/org/one/health")).status == 200
    body = {"messages": [], "model": "m"}
    assert (await house.api.post("/upstream/org/one/hidden/x", body)).status == 200
    assert house.hidden.last()["path"] == "/x"
    assert (await house.api.post("/upstream/org/one/other/x", body)).status == 200
    assert house.one.last()["path"] == "/other/x"


async def test_a6_the_admin_api_and_the_router_api_take_aliases(house):
    reply = await house.api.post(f"/api/v1/models/{quote('plain/one', safe='')}/load")
    assert (reply.status, reply.json()["model"]) == (200, "org/one")
    assert (await house.api.post("/models/load", {"model": "auto"})).status == 200


async def test_a6_f2_a_key_for_one_name_may_use_it_whatever_it_leads_to():
    place = Place()
    keys = [
        {"name": "alias", "hash": hash_key("sk-alias"), "models": ["thinker"], "manage": True},
        {"name": "any", "hash": hash_key("sk-any"), "models": ["best"]},
        {"name": "none", "hash": hash_key("sk-none"), "models": ["nothing"]},
    ]
    one = Scripted(place.folder, "one", preload=True, aliases=["thinker"])
    place.write({"one": one.config, "best": {"any_of": ["one"], "aliases": ["auto"]}}, keys=keys)
    with Running(place):
        alias, any_of, nobody = (Api(place.port, {"authorization": f"Bearer sk-{k['name']}"}) for k in keys)
        assert (await alias.chat("thinker")).status == 200
        assert (await alias.chat("one")).status == 403
        assert (await any_of.chat("best")).status == 200
        assert (await any_of.chat("auto")).status == 200  # an alias of what it may use
        assert (await any_of.chat("one")).status == 403
        assert (await nobody.chat("best")).status == 403
        lists = [[m["id"] for m in (await api.get("/v1/models")).json()["data"]] for api in (alias, any_of, nobody)]
        assert lists == [["thinker"], ["best"], []]
        assert (await alias.get("/v1/models/thinker")).status == 200
        assert (await alias.get("/v1/models/one")).status == 404
        assert (await alias.post("/models/load", {"model": "thinker"})).status == 200
        assert (await alias.post("/models/load", {"model": "one"})).status == 404
