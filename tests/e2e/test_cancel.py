"""Requests that an operator looks at and cancels, in the real program (spec H)."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import anthropic
import openai
import pytest

from roundhouse.api.auth import hash_key
from tests.cli.commands import run_here
from tests.support.house import Running, Scripted
from tests.support.wire import chat, link

SAID = "This request was cancelled by an operator"


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    one = Scripted(place.folder, "one", memory="300MiB", preload=True)
    slow = Scripted(place.folder, "slow", "--load-gate", str(place.gate("never")), memory="600MiB")
    endless = {"endless": True, "delay": 0.01}
    talks = Scripted(
        place.folder, "talks", memory="64MiB", preload=True, set={"fake": endless}
    )  # APIs that are translated drop a request's
    place.write([one, slow, talks], status={"every": "100ms"})
    with Running(place) as running:
        url = f"http://127.0.0.1:{place.port}"
        yield SimpleNamespace(api=running.api, place=place, one=one, url=url, endless=endless)


def named(name):
    return {"x-request-id": name}


async def request(api, name, state):
    """A request once it is in a state; books are closed after the answer has gone."""
    async with asyncio.timeout(30):
        while (told := (await api.get(f"/api/v1/requests/{name}")).json()).get("state") != state:
            await asyncio.sleep(0.01)
    return told


async def cancel(api, name):
    return await api.post(f"/api/v1/requests/{name}/cancel")


@pytest.mark.parametrize("stream", [True, False])
async def test_one_that_waits_gets_the_error_in_the_way_in_which_it_can_be_told(house, stream):
    api, name = house.api, f"waits-{stream}"
    asking = asyncio.get_running_loop().create_task(api.chat("slow", stream=stream, headers=named(name)))
    told = await request(api, name, "waiting")
    assert (told["id"], told["model"], told["place"], told["key"]) == (name, "slow", 1, "")
    assert told["why"] == []  # nothing but the load, of which nothing is known
    assert told["waited_s"] >= 0
    reply = await cancel(api, name)
    assert (reply.status, reply.json()) == (200, {"id": name, "cancelled": "waiting", "model": "slow"})
    answer = await asking
    if answer.status != 200:  # before the head of a stream went out, or it is none
        assert answer.status == 499
        assert answer.json()["error"]["code"] == "request_cancelled"
    assert SAID in answer.body.decode()
    ended = await request(api, name, "ended")
    assert (ended["outcome"], ended["status"], ended["wanted"]) == ("cancelled", 499, "slow")
    assert ended["error"] == f"{SAID}."
    why = (await api.get(f"/api/v1/requests/{name}/why")).json()["lines"]
    assert "It was refused after" in why[-2]["text"]
    assert f"with status 499: {SAID}" in why[-1]["text"]


async def test_one_whose_stream_has_begun_gets_an_event_and_the_end(house):
    api = house.api
    async with api.stream("slow", headers=named("begun")) as answer:
        await answer.until("slow")  # a status line
        assert (await cancel(api, "begun")).status == 200
        events = await answer.events()
    assert [error["code"] for error in events.errors] == ["request_cancelled"]
    assert events.done


async def test_one_that_is_answered_ends_with_an_event_and_its_engine_is_left(house):
    api = house.api
    async with api.stream("one", fake=house.endless, headers=named("answered")) as answer:
        await answer.until("xxxx")
        told = await request(api, "answered", "answering")
        assert (told["model"], told["wanted"]) == ("one", "one")
        (row,) = (await api.get("/api/v1/queue")).json()["answering"]
        assert (row["request"], row["model"]) == ("answered", "one")
        assert (await cancel(api, "answered")).json()["cancelled"] == "answering"
        events = await answer.events()
    assert events.errors[0]["message"] == f"{SAID}."
    assert events.done
    await house.one.until("left")  # the engine saw its client leave
    ended = await request(api, "answered", "ended")
    assert (ended["outcome"], ended["error"]) == ("cancelled", f"{SAID}.")
    assert (await api.get("/api/v1/queue")).json()["answering"] == []
    again = await cancel(api, "answered")
    assert (again.status, again.json()["error"]["code"]) == (409, "conflict")
    assert (await api.chat("one")).status == 200


async def test_all_of_an_id_that_was_used_twice(house):
    api = house.api
    async with (
        api.stream("one", fake=house.endless, headers=named("twice")) as first,
        api.stream("one", fake=house.endless, headers=named("twice")) as second,
    ):
        for answer in (first, second):
            await answer.until("xxxx")
        assert (await cancel(api, "twice")).status == 200
        assert [(await answer.events()).done for answer in (first, second)] == [True, True]


async def test_what_is_not_known_and_what_a_page_of_others_asks(house):
    api = house.api
    for reply in (await cancel(api, "nobodys"), await api.get("/api/v1/requests/nobodys")):
        assert reply.status == 404
        assert "no request 'nobodys'" in reply.json()["error"]["message"]
    strange = await api.post("/api/v1/requests/nobodys/cancel", headers={"origin": "https://evil.example"})
    assert strange.status == 403
    assert (await api.get("/api/v1/requests/nobodys/cancel")).status in {404, 405}
    assert (await api.chat("one", headers=named("a/b c"))).status == 200
    assert (await request(api, "a/b%20c", "ended"))["outcome"] == "ok"


@pytest.mark.parametrize("name", ["%00", "%ff%fe", "..%2f..", "x" * 5000, "%F0%9F%9A%82", "'; DROP TABLE requests"])
async def test_ids_that_nobody_has_are_not_found(house, name):
    path = f"/api/v1/requests/{name.replace(' ', '%20')}"
    assert (await house.api.get(path)).status == 404
    assert (await house.api.post(f"{path}/cancel")).status == 404


async def test_a_client_that_does_not_read_holds_nothing_up(house):
    """Its answer waits for it in the sockets' buffers; its slot must not."""
    api = house.api
    raw = json.dumps(chat("one", stream=True, fake={"endless": True, "size": 65536})).encode()
    async with link(house.place.port, limit=1024) as one:
        one.send("POST", "/v1/chat/completions", raw, named("stuck"))
        answer = await one.head()
        await answer.until("xxxx")
        left = len(house.one.notes("left"))
        assert (await cancel(api, "stuck")).status == 200
        await house.one.until("left", left + 1)
        async with asyncio.timeout(30):
            while (await api.model("one"))["active"]:
                await asyncio.sleep(0.01)
        assert "request_cancelled" in (await answer.rest()).decode()[-1000:]
    assert (await request(api, "stuck", "ended"))["outcome"] == "cancelled"


async def test_official_clients_raise_and_do_not_ask_again(house):
    """Their usual retries would bring a cancelled request back."""
    ours = openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="any", default_headers=named("sdk"))
    theirs = anthropic.AsyncAnthropic(base_url=house.url, api_key="any", default_headers=named("sdk"))
    hi = [{"role": "user", "content": "hi"}]
    async with ours, theirs:
        for asking, error in (
            (lambda: ours.chat.completions.create(model="slow", messages=hi), openai.APIStatusError),
            (lambda: theirs.messages.create(model="slow", messages=hi, max_tokens=5), anthropic.APIStatusError),
        ):
            task = asyncio.get_running_loop().create_task(asking())
            await request(house.api, "sdk", "waiting")
            assert (await cancel(house.api, "sdk")).status == 200
            with pytest.raises(error, match=SAID) as raised:
                await task
            assert raised.value.status_code == 499


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"max_tokens": 9}),
        ("/api/chat", {}),
        ("/v1/responses", {"input": "hi"}),
        ("/upstream/one/v1/chat/completions", {"fake": {"endless": True, "delay": 0.01}}),
    ],
)
async def test_other_apis_are_told_in_their_shapes(house, path, body):
    api, name = house.api, f"of{path}"
    asked = {"model": "talks", "messages": [{"role": "user", "content": "hi"}], "stream": True, **body}
    async with api.open("POST", path, asked, named(name)) as answer:
        await answer.until("xxxx")
        assert (await request(api, name, "answering"))["request"] == name
        assert (await cancel(api, name)).status == 200
        if "upstream" in path:  # in the middle of somebody else's format nothing can be told: it breaks off
            with pytest.raises((EOFError, OSError, ValueError)):
                await answer.rest()
        else:
            assert SAID in (await answer.rest()).decode()
    assert (await request(api, name, "ended"))["outcome"] == "cancelled"


async def test_the_command(house):
    api = house.api
    async with api.stream("one", fake=house.endless, headers=named("mine")) as answer:
        await answer.until("xxxx")
        shown = await asyncio.to_thread(run_here, "cancel", "mine", ROUNDHOUSE_URL=house.url)
        assert (shown.code, shown.out) == (0, "mine is cancelled; it was being answered by one.\n")
        await answer.events()
    async with api.stream("slow", headers=named("mine2")) as answer:
        await request(api, "mine2", "waiting")
        shown = await asyncio.to_thread(run_here, "cancel", "mine2", "--json", ROUNDHOUSE_URL=house.url)
        assert json.loads(shown.out) == {"id": "mine2", "cancelled": "waiting", "model": "slow"}
    await request(api, "mine", "ended")
    refused = await asyncio.to_thread(run_here, "cancel", "mine", ROUNDHOUSE_URL=house.url)
    assert refused.code == 4
    assert "has ended already, with status 499" in refused.err


async def test_f_it_takes_an_admin_key_which_the_history_names(place):
    names = {"boss": {"admin": True}, "helper": {"manage": True}, "ann": {}}
    keys = [{"name": name, "hash": hash_key(f"{name}-key-123456"), **may} for name, may in names.items()]
    place.write([Scripted(place.folder, "one")], keys=keys)
    with Running(place) as running:
        api = running.api
        boss, helper, ann = ({"authorization": f"Bearer {name}-key-123456"} for name in names)
        fake = {"endless": True, "delay": 0.01}
        async with api.stream("one", fake=fake, headers={**ann, **named("hers")}) as answer:
            await answer.until("xxxx")
            refused = [
                (await api.post("/api/v1/requests/hers/cancel", headers=who)).status for who in (ann, helper, {})
            ]
            assert refused == [403, 403, 401]
            assert [(await api.get("/api/v1/requests/hers", headers=who)).status for who in (ann, helper)] == [403, 200]
            assert (await api.post("/api/v1/requests/hers/cancel", headers=boss)).status == 200
            events = await answer.events()
        assert events.errors[0]["message"] == f"{SAID} (key 'boss')."
        async with asyncio.timeout(30):
            while (told := (await api.get("/api/v1/requests/hers", headers=boss)).json())["state"] != "ended":
                await asyncio.sleep(0.01)
        assert (told["key"], told["error"]) == ("ann", f"{SAID} (key 'boss').")
