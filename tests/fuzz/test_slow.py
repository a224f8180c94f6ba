"""Bodies that come slowly, are too large, or are no JSON by their head; orders from other sites; engines that say nonsense."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from roundhouse.api.auth import hash_key
from tests.fuzz.judging import Got, misshapen
from tests.support.house import Place, Running, Scripted
from tests.support.wire import Api, chat, link

ROUTES = (
    ("openai", "/v1/chat/completions"), ("openai", "/v1/responses"), ("anthropic", "/v1/messages"),
    ("ollama", "/api/chat"), ("openai", "/tokenize"),
)  # fmt: skip
ORDERS = (("ollama", "/api/show"), ("openai", "/models/load"))
SECRET = "sk-engine-2f9a7c51"


@pytest.fixture(scope="module")
def house():
    place = Place()
    warm = Scripted(place.folder, "warm", preload=True, api_key=SECRET)
    key = {"name": "admin", "hash": hash_key("sk-admin"), "admin": True}
    place.write([warm], limits={"body": "64KiB", "body_timeout": "300ms"}, keys=[key])
    with Running(place) as running:
        api = Api(place.port, {"authorization": "Bearer sk-admin"})
        yield SimpleNamespace(api=api, warm=warm, place=place, running=running)


def shaped(dialect: str, reply) -> str:
    return misshapen(dialect, Got(reply.status, reply.headers, reply.body))


@pytest.mark.parametrize(("dialect", "path"), ROUTES)
async def test_a_body_that_stops_coming(house, dialect, path):
    for framing in (b"content-length: 1000", b"transfer-encoding: chunked"):
        async with link(house.place.port) as one:
            head = b"POST %b HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-admin\r\n%b\r\n\r\n"
            one.writer.write(head % (path.encode(), framing) + b'3\r\n{"m' * (framing[:1] == b"t"))
            reply = await (await one.head()).reply()
        assert reply.status == 408
        assert b"limits.body_timeout" in reply.body
        assert shaped(dialect, reply) == ""


@pytest.mark.parametrize(("dialect", "path"), [*ROUTES, *ORDERS])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large(house, dialect, path, declared):
    size = 3 << 20
    async with link(house.place.port) as one:
        framing = b"content-length: %d" % size if declared else b"transfer-encoding: chunked"
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-admin\r\n%b\r\n\r\n"
        one.writer.write(head % (path.encode(), framing))
        one.writer.write(b"%x\r\n" % size * (not declared) + b" " * size)
        reply = await (await one.head()).reply()
    assert reply.status == 413
    assert shaped(dialect, reply) == ""


@pytest.mark.parametrize(("dialect", "path"), ROUTES)
@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-16", ""]
)
async def test_what_a_body_is_said_to_be_makes_no_difference(house, dialect, path, kind):
    async with link(house.place.port) as one:
        body = b"model=warm"
        head = [f"POST {path} HTTP/1.1", "host: x", "authorization: Bearer sk-admin", f"content-length: {len(body)}"]
        one.writer.write("\r\n".join([*head, *([f"content-type: {kind}"] if kind else ()), "", ""]).encode() + body)
        reply = await (await one.head()).reply()
    assert reply.status == 400
    assert shaped(dialect, reply) == ""


async def test_many_connections_that_say_little_hold_nobody_up(house):
    """Two hundred heads that never end, and as many bodies: a request beside them is answered."""
    links = [await asyncio.open_connection("127.0.0.1", house.place.port) for _ in range(400)]
    for number, (_, writer) in enumerate(links):
        begun = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-admin\r\n"
        writer.write(begun + (b"content-length: 100\r\n\r\n{" if number % 2 else b"x-a: "))
    async with asyncio.timeout(20):
        assert (await house.api.chat("warm")).status == 200
    for _, writer in links:
        writer.transport.abort()


NONSENSE = (
    "[]",
    "7",
    "null",
    '{"choices":7}',
    '{"choices":[7]}',
    '{"choices":[{"delta":7,"message":7}]}',
    '{"choices":[{}],"usage":7}',
    "{",
)


@pytest.mark.parametrize(("dialect", "path"), ROUTES[:4])
@pytest.mark.parametrize("said", NONSENSE)
async def test_an_engine_that_says_nonsense(house, dialect, path, said):
    """In the middle of a stream and, gathered from one, in one piece."""
    extra = {"max_tokens": 5, "input": "hi", "stream": True}
    fake = {"tokens": 1, "raw": [f"data: {said}\n\n"]}
    reply = await house.api.post(path, chat("warm", **extra, fake=fake))
    assert reply.status == 200
    assert b"mistake" not in reply.body
    reply = await house.api.post(path, chat("warm", **extra | {"stream": False}, fake=fake))
    assert b"mistake" not in reply.body


async def test_f3_orders_from_other_sites_are_refused():
    place = Place()
    place.write([Scripted(place.folder, "warm", preload=True)])
    with Running(place) as running:
        for path in ("/api/v1/models/warm/unload", "/api/v1/models/warm/load", "/models/unload"):
            for headers in (
                {"sec-fetch-site": "cross-site"},
                {"origin": "https://evil.example"},
                {"host": "evil.example"},
            ):
                reply = await running.api.post(path, {"model": "warm"}, headers)
                assert reply.status == 403, (path, headers)
                reply.error()
        assert (await running.api.model("warm"))["state"] == "ready"


async def test_f4_an_engines_key_is_in_no_answer_and_no_log(house):
    seen = b""
    for path in ("/health", "/metrics", "/v1/models", "/models", "/props", "/api/tags", "/api/ps", "/api/v1/state",
                 "/api/v1/switches", "/api/v1/models/warm/log", "/openapi.json", "/upstream/warm/health", "/props?model=warm"):  # fmt: skip
        seen += (await house.api.get(path)).body
    seen += (await house.api.post("/api/show", {"model": "warm"})).body
    refusal = {"status": 401, "body": json.dumps({"error": {"message": f"bad key {SECRET}"}})}
    for _, path in ROUTES[:4]:
        for stream in (True, False):
            seen += (
                await house.api.post(path, chat("warm", max_tokens=5, input="hi", stream=stream, fake=refusal))
            ).body
    assert list({dict(n["headers"]).get("authorization") for n in house.warm.notes("request")} - {None}) == [
        "Bearer " + SECRET
    ]
    assert SECRET.encode() not in seen
    assert SECRET not in house.running.log()


def test_nothing_of_it_was_a_surprise(house):
    assert "Traceback" not in house.running.log()
