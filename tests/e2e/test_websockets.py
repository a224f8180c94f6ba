"""WebSockets under /upstream (spec A7), with a small engine that speaks them."""

from __future__ import annotations

import asyncio
import shlex
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from roundhouse.api.auth import hash_key
from roundhouse.api.router import Router
from tests.support import ws_engine
from tests.support.house import Place, Running, Scripted, inside
from tests.support.wire import LIMIT, Api


class Talker(Scripted):
    """A model run by the WebSocket engine."""

    def __init__(self, folder, name, *flags, **settings):
        super().__init__(folder, name, **settings)
        words = [sys.executable, ws_engine.__file__, "--port", "${PORT}", "--record", str(self.record), *flags]
        self.config["command"] = " ".join(word if word == "${PORT}" else shlex.quote(word) for word in words)


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    warm = Talker(place.folder, "org/talker", preload=True, api_key="sk-of-the-engine")
    cold = Talker(place.folder, "cold", "--gate", str(place.gate("cold")), memory="900MiB")
    place.write([warm, cold])
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, place=place, warm=warm, cold=cold, running=running)


@asynccontextmanager
async def opened(house, path="/upstream/org/talker/ws", **more):
    async with asyncio.timeout(LIMIT), connect(f"ws://127.0.0.1:{house.place.port}{path}", proxy=None, **more) as one:
        yield one


async def idle(house, model="org/talker"):
    """Waits until nobody holds a place: the end of a WebSocket is noticed by both sides in turn."""
    async with asyncio.timeout(LIMIT):
        while (await house.api.model(model))["active"]:
            await asyncio.sleep(0.02)


async def refused(house, path, **more):
    with pytest.raises(InvalidStatus) as caught:
        async with opened(house, path, **more):
            pass
    return caught.value.response


async def test_a7_messages_pass_both_ways(house):
    async with opened(house) as socket:
        for message in ("hello", "wörld 🚂", b"\x00\xff" * 1000, "", b""):
            await socket.send(message)
            assert await socket.recv() == message
        assert (await house.api.model("org/talker"))["active"] == 1
    await idle(house)


async def test_a7_the_engine_gets_its_own_key_and_never_the_clients(house):
    headers = {"authorization": "Bearer sk-of-the-client", "cookie": "a=b", "x-of-the-client": "yes"}
    path = "/upstream/org%2Ftalker/a%20b/ws?x=%2F&autoload=1"
    async with opened(house, path, additional_headers=headers, subprotocols=["first", "second"]) as socket:
        assert socket.subprotocol == "second"
    note = house.warm.notes("open")[-1]
    got = dict(note["headers"])
    assert note["path"] == "/a%20b/ws?x=%2F"
    assert got["authorization"] == "Bearer sk-of-the-engine"
    assert got["x-of-the-client"] == "yes"
    assert "cookie" not in got
    assert "sk-of-the-client" not in str(note)
    assert "x=%2F" not in house.running.log()  # what queries hold is nobody's business


async def test_a7_the_engines_close_reaches_the_client(house):
    async with opened(house) as socket:
        await socket.send("close 4001 enough of it")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough of it")
    await idle(house)


async def test_a7_and_the_clients_the_engine(house):
    async with opened(house) as socket:
        await socket.close(4002, "bye")
    async with asyncio.timeout(30):  # the note of a socket before it may come in between
        while (4002, "bye") not in {(note["code"], note["reason"]) for note in house.warm.notes("closed")}:
            await asyncio.sleep(0.01)
    await idle(house)


async def test_a8_a_client_that_vanishes_gives_its_place_back(house):
    before = len(house.warm.notes("closed"))
    async with opened(house) as socket:
        await socket.send("hello")
        await socket.recv()
        socket.transport.abort()
        await house.warm.until("closed", before + 1)
    await idle(house)


async def test_h_a_cancelled_one_is_closed_with_the_reason_and_its_engine_hears_of_it(house):
    before = len(house.warm.notes("closed"))
    async with opened(house, additional_headers={"x-request-id": "open"}) as socket:
        await socket.send("hello")
        await socket.recv()
        assert (await house.api.post("/api/v1/requests/open/cancel")).json()["cancelled"] == "answering"
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "This request was cancelled by an operator.")
    await house.warm.until("closed", before + 1)
    await idle(house)


async def test_h_one_that_waits_is_refused(house):
    async def open_it():
        async with opened(house, "/upstream/cold/ws", additional_headers={"x-request-id": "waits"}):
            pass

    opening = asyncio.get_running_loop().create_task(open_it())
    async with asyncio.timeout(LIMIT):
        while (await house.api.get("/api/v1/requests/waits")).json().get("state") != "waiting":
            await asyncio.sleep(0.01)
    assert (await house.api.post("/api/v1/requests/waits/cancel")).json()["cancelled"] == "waiting"
    with pytest.raises(InvalidStatus) as caught:
        await opening
    assert caught.value.response.status_code == 499
    await idle(house, "cold")


async def test_e6_a_client_that_does_not_read_holds_the_engine_back(house):
    before = len(house.warm.notes("flooded"))
    async with opened(house, max_queue=1) as socket:
        await socket.send("flood 2000")  # 200 MB
        await house.warm.until("flooded", before + 1)
        steady = -1
        while steady != (steady := len(house.warm.notes("flooded")) - before):
            await asyncio.sleep(0.5)
        assert steady < 1000
        for _ in range(2000):
            assert len(await socket.recv()) == 100_000
    await idle(house)


async def test_e6_a_message_over_the_limit_ends_it(house):
    async with opened(house, max_size=None) as socket:
        await socket.send("big 1000000")
        assert len(await socket.recv()) == 1_000_000
        await socket.send(f"big {17 << 20}")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    await idle(house)


async def test_a7_what_the_engine_says_instead_of_a_handshake_passes(house):
    response = await refused(house, "/upstream/org/talker/refuse")
    assert (response.status_code, response.body) == (403, b"not here\n")


async def test_a4_an_unknown_model_is_a_404_in_json(house):
    response = await refused(house, "/upstream/nobody/ws")
    assert response.status_code == 404
    assert b"'nobody' does not exist" in response.body
    assert (await refused(house, "/api/v1/events")).status_code == 403


async def test_f3_pages_of_others_can_open_none(house):
    response = await refused(house, "/upstream/org/talker/ws", origin="https://evil.example")
    assert response.status_code == 403
    assert b"evil.example" in response.body
    async with opened(house, origin=f"http://127.0.0.1:{house.place.port}") as socket:
        await socket.send("ours")
        assert await socket.recv() == "ours"


async def test_a8_who_leaves_before_it_is_loaded_is_forgotten_and_who_stays_is_served(house):
    async with asyncio.timeout(LIMIT):
        with pytest.raises(TimeoutError):
            async with opened(house, "/upstream/cold/", open_timeout=0.5):
                pass
        await house.api.until("cold", "unloaded")
        house.place.gate("cold").touch()
        async with opened(house, "/upstream/cold/", open_timeout=LIMIT) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
        await idle(house, "cold")


async def test_a9_an_engine_that_dies_is_told_and_the_next_has_it_loaded_again(house):
    starts = house.warm.starts
    async with opened(house) as socket:
        await socket.send("die")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd.code == 1011
    assert caught.value.rcvd.reason == "The engine of 'org/talker' has ended."
    async with opened(house, open_timeout=LIMIT) as socket:
        await socket.send("again")
        assert await socket.recv() == "again"
    assert house.warm.starts == starts + 1
    assert "Traceback" not in house.running.log()


async def test_d3_a_quiet_one_makes_way_and_a_busy_one_does_not(place):
    one, other = (Talker(place.folder, name, memory="600MiB") for name in ("one", "other"))
    place.write([one, other])
    async with asyncio.timeout(LIMIT), inside(place) as house, asyncio.TaskGroup() as tasks:
        assert isinstance(house.app, Router)
        house.app._sockets._quiet = 0.4
        found = SimpleNamespace(api=Api(place.port), place=place)
        async with opened(found, "/upstream/one/ws", open_timeout=LIMIT) as socket:
            asking = tasks.create_task(refused(found, "/upstream/other/refuse", open_timeout=LIMIT))
            await found.api.until("one", "draining")
            for _ in range(10):
                await socket.send("still here")
                await socket.recv()
                await asyncio.sleep(0.1)
            assert not asking.done()
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1012, "The model is unloaded.")
            assert (await asking).status_code == 403


async def test_e5_an_open_one_does_not_hold_up_the_end():
    place = Place()
    talker = Talker(place.folder, "talker", preload=True)
    place.write([talker])
    with Running(place) as running:
        async with opened(SimpleNamespace(place=place), "/upstream/talker/ws") as socket:
            running.terminate()
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
            assert caught.value.rcvd.code in {1001, 1012}
        assert await asyncio.to_thread(running.wait) == 0


async def test_f2_keys_are_asked_for():
    place = Place()
    keys = [{"name": n, "hash": hash_key(f"sk-{n}"), "admin": n == "boss"} for n in ("user", "boss")]
    place.write([Talker(place.folder, "talker", preload=True)], keys=keys)
    with Running(place):
        house = SimpleNamespace(place=place)
        assert (await refused(house, "/upstream/talker/ws")).status_code == 401
        user, boss = ({"authorization": f"Bearer sk-{name}"} for name in ("user", "boss"))
        async with opened(house, "/upstream/talker/ws", additional_headers=user) as socket:
            await socket.send("mine")
            assert await socket.recv() == "mine"
        assert (await refused(house, "/upstream/talker/tools", additional_headers=user)).status_code == 403
        async with opened(house, "/upstream/talker/tools", additional_headers=boss):
            pass
