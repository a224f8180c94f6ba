"""Requests in one piece, lists of models, and everything that is refused (spec A1, A2, A4, E6)."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import psutil
import pytest

from tests.support.house import Running, Scripted
from tests.support.wire import chat, link

BODY_LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    warm = Scripted(
        place.folder, "warm", preload=True, tags=["fast"], description="A fake.", context=4096, aliases=["w"]
    )
    vectors = Scripted(place.folder, "vectors", preload=True, kind="embedding")
    slow = Scripted(place.folder, "slow", "--load-gate", str(place.gate("slow")))
    other = {"engine": "sglang", "path": str(place.folder), "memory": "1MiB"}
    models = {m.name: m.config for m in (warm, vectors, slow)} | {
        "elsewhere": other,
        "hidden": {**warm.config, "unlisted": True, "preload": False, "aliases": []},
        "any": {"any_of": ["slow", "warm"], "set": {"temperature": 0.5}, "strip": ["top_k"]},
    }
    place.write(models, limits={"body": "64KiB", "headers": "8KiB", "header_timeout": "300ms"})
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, warm=warm, vectors=vectors, place=place, running=running)


async def sent(house, raw: bytes) -> str:
    """What the engine got for these bytes."""
    reply = await house.api.post("/v1/chat/completions", raw)
    assert reply.status == 200, reply.body
    return house.warm.notes("request")[-1]["body"]


# --- A1 ---


async def test_a1_every_model_at_once_with_all_fields(house):
    listed = (await house.api.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [m["id"] for m in listed["data"]] == ["warm", "vectors", "slow", "elsewhere", "any"]
    warm = listed["data"][0]
    assert warm["object"] == "model"
    assert warm["owned_by"] == "openai"
    assert warm["status"] == {"value": "loaded"}
    assert warm["loaded"] is True
    assert warm["tags"] == [{"name": "fast"}]
    assert warm["info"]["meta"]["description"] == "A fake."
    assert "capabilities" in warm["info"]["meta"]
    assert warm["context_length"] == 4096
    assert warm["aliases"] == ["w"]
    assert isinstance(warm["created"], int)
    assert listed["data"][2]["status"] == {"value": "unloaded"}


async def test_a1_created_is_stable_and_paths_are_the_same(house):
    first = (await house.api.get("/v1/models")).json()
    told = (await house.api.get("/models")).json()["data"]  # with more, for clients of llama-server's router
    assert [entry["id"] for entry in told] == [entry["id"] for entry in first["data"]]
    assert [entry["name"] for entry in told] == [entry["name"] for entry in first["data"]]
    assert (await house.api.get("/v1/models/warm")).json() == first["data"][0]
    assert (await house.api.get("/v1/models/hidden")).status == 200


async def test_a1_never_waits_for_a_load(house):
    async with house.api.stream("slow") as answer:
        await answer.until("⏳")
        listed = (await house.api.get("/v1/models")).json()
        assert listed["data"][2]["id"] == "slow"
        assert listed["data"][2]["status"] == {"value": "loading"}
        house.place.gate("slow").touch()
        assert (await answer.events()).done
    listed = (await house.api.get("/v1/models")).json()
    assert listed["data"][2]["status"] == {"value": "loaded"}
    await house.api.post("/api/v1/models/slow/unload")
    house.place.gate("slow").unlink()


async def test_a1_unknown_model_is_a_404(house):
    assert (await house.api.get("/v1/models/nope")).status == 404


# --- A2 ---


async def test_a2_completions_embeddings_tokenize(house):
    reply = await house.api.post("/v1/completions", {"model": "warm", "prompt": "a"})
    assert reply.json()["choices"][0]["text"]
    reply = await house.api.post("/v1/embeddings", {"model": "vectors", "input": "a"})
    assert reply.json()["data"][0]["embedding"] == [0.5, 0.25]
    assert reply.json()["model"] == "vectors"
    assert set(reply.json()["usage"]) == {"prompt_tokens", "total_tokens"}
    reply = await house.api.post("/tokenize", {"model": "warm", "content": "a"})
    assert reply.json() == {"tokens": [1, 2, 3]}


async def test_a2_a_body_that_need_not_change_passes_as_it_came(house):
    raw = b' {"seed":123456789012345678901234567890, "a":1,"a":2, "z":1.10e5, "messages":[{"role":"user","content":"\\u00e9"}],"model":"warm"}\n'
    assert await sent(house, raw) == raw.decode()


async def test_a2_only_what_must_change_does(house):
    raw = b'{"seed":123456789012345678901234567890,"model":"w","a":1,"a":2,"messages":[{"role":"user","content":"x"}]}'
    assert await sent(house, raw) == raw.decode().replace('"w"', '"warm"')


async def test_a6_any_of_prefers_the_loaded_one_sets_and_strips(house):
    reply = await house.api.chat("any", top_k=3, temperature=1)
    assert reply.status == 200
    assert reply.json()["model"] == "any"
    assert reply.headers["x-roundhouse-model"] == "warm"
    got = house.warm.last()["json"]
    assert got["temperature"] == 0.5
    assert "top_k" not in got


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"[1]", "object"),
        (b'"x"', "object"),
        (b'{"model":"warm","temperature":NaN}', "not valid JSON"),
        (b'{"model":"warm","x":"\\ud800"}', "not valid JSON"),
        (b'{"model":"warm","x":"\xff"}', "UTF-8"),
        (b'{"messages":[]}', "no model"),
        (b'{"model":""}', "no model"),
        (b'{"model":7}', "string"),
        (b'{"model":"warm","stream":"yes"}', "stream"),
    ],
)
async def test_a4_bad_bodies_are_a_400(house, raw, says):
    reply = await house.api.post("/v1/chat/completions", raw)
    assert reply.status == 400
    error = reply.error()
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a4_unknown_model_names_the_closest(house, stream):
    reply = await house.api.chat("warn", stream=stream)
    assert reply.status == 404
    error = reply.error()
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "'warm'" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("POST", "/v1/nope", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
        ("GET", "/api/v1/models/nope/log", 404),
        ("GET", "/api/v1/models/warm/log?follow=x", 400),
        ("POST", "/api/v1/models/nope/load", 404),
        ("GET", "/api/v1/models/warm/load", 405),
    ],
)
async def test_a4_errors_of_paths_are_json(house, method, path, status):
    reply = await house.api.ask(method, path, b"" if method == "POST" else None)
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    reply.error()


async def test_a4_engines_errors_are_normalised(house):
    plain = await house.api.chat("warm", fake={"status": 500, "body": "Internal Server Error", "kind": "text/plain"})
    assert plain.status == 500
    assert plain.error()["message"] == "Internal Server Error"
    tabby = await house.api.chat("warm", fake={"status": 422, "body": '{"detail":[{"loc":["body","x"],"msg":"bad"}]}'})
    assert tabby.status == 422
    assert tabby.error()["message"] == "body.x: bad"
    flat = await house.api.chat("warm", fake={"status": 400, "body": '{"object":"error","message":"flat","code":400}'})
    assert flat.status == 400
    assert flat.error()["message"] == "flat"


async def test_a4_a_model_that_is_no_model_is_refused_before_anything_makes_room_for_it(house):
    reply = await house.api.chat("elsewhere")
    assert reply.status == 503
    assert reply.error()["code"] == "model_load_failed"
    assert "config.json" in reply.error()["message"]
    assert (await house.api.model("elsewhere"))["state"] == "failed"
    assert (await house.api.model("warm"))["state"] == "ready"


async def test_a4_a_stream_that_ends_without_its_end_is_an_error(house):
    events = await house.api.events("warm", fake={"close": True})
    assert events.text_of_answer
    assert len(events.errors) == 1
    assert events.done


async def test_a4_a_200_that_is_no_stream_is_an_error(house):
    reply = await house.api.chat("warm", stream=True, fake={"status": 200, "raw": []}, stream_options=None)
    assert reply.status == 200  # the engine did stream
    events = await house.api.events(
        "warm", fake={"raw": ['data: {"error":{"message":"out of memory","code":500}}\n\n']}
    )
    assert [error["message"] for error in events.errors] == ["out of memory"]
    assert events.done


# --- E6 ---


async def test_e6_body_over_the_limit_by_content_length(house):
    async with link(house.place.port) as one:
        one.send("POST", "/v1/chat/completions", None, {"content-length": str(BODY_LIMIT + 1)})
        reply = await (await one.head()).reply()  # without a byte of the body sent
    assert reply.status == 413
    assert reply.error()["code"] == "body_too_large"


async def test_e6_body_over_the_limit_in_chunks(house):
    chunk = b"%x\r\n%b\r\n" % (16384, b" " * 16384)
    async with link(house.place.port) as one:
        one.send("POST", "/v1/chat/completions", None, {"transfer-encoding": "chunked"})
        one.writer.write(chunk * 5)
        assert (await (await one.head()).reply()).status == 413


async def test_e6_a_body_at_the_limit_passes(house):
    raw = json.dumps(chat("warm")).encode()
    assert (await house.api.post("/v1/chat/completions", raw.ljust(BODY_LIMIT))).status == 200


async def test_e6_headers_over_the_limit(house):
    for pieces in (1, 4):
        async with link(house.place.port) as one:
            one.writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
            for number in range(pieces):
                one.writer.write(b"x-%d: %b\r\n" % (number, b"a" * (9000 // pieces)))
                await one.writer.drain()
            one.writer.write(b"\r\n")
            reply = await (await one.head()).reply()
            assert reply.status == 400
            assert "limits.headers" in reply.error()["message"]


@pytest.mark.parametrize("first", [True, False])
async def test_e6_headers_that_never_end(house, first):
    async with link(house.place.port) as one:
        if not first:
            one.send("GET", "/v1/models")
            assert (await (await one.head()).reply()).status == 200
        one.writer.write(b"GET /health HTTP/1.1\r\nx-slow: ")
        reply = await (await one.head()).reply()
        assert reply.status == 400
        assert "limits.header_timeout" in reply.error()["message"]
        assert await one.reader.read() == b""


async def test_e6_what_is_no_http(house):
    async with link(house.place.port) as one:
        one.writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        reply = await (await one.head()).reply()
        assert reply.status == 400
        reply.error()


async def test_e6_slow_readers_press_back_on_the_engine(house):
    """The engine writes without end; what it could write is bounded by buffers, and so is our memory."""
    process = psutil.Process(house.running.pid)
    before = process.memory_info().rss
    async with link(house.place.port, limit=1024) as one:
        raw = json.dumps(chat("warm", stream=True, fake={"endless": True, "size": 65536})).encode()
        one.send("POST", "/v1/chat/completions", raw)
        await one.head()
        largest = before
        for _ in range(20):
            await one.reader.read(1024)
            await asyncio.sleep(0.05)
            largest = max(largest, process.memory_info().rss)
    assert largest - before < 32 << 20
    await house.warm.until("left")


# --- G6 ---


async def test_g6_one_line_per_event_without_secrets(house):
    await house.api.chat("warm", {"authorization": "Bearer sk-verysecretkey1234", "x-request-id": "find-me"})
    await house.api.chat("nope", {"authorization": "Bearer sk-verysecretkey1234", "x-request-id": "find-me-too"})
    ready = await logged(house, lambda line: line["event"] == "model ready" and line["model"] == "warm")
    assert ready["level"] == "info"
    failed = await logged(house, lambda line: line.get("request") == "find-me-too")
    assert failed["status"] == 404
    assert "verysecret" not in house.running.log()
    assert "Traceback" not in house.running.log()


async def logged(house, is_it):
    """The first log event that is it; the log is written after the client has its answer."""
    async with asyncio.timeout(10):
        while not (found := [line for line in house.running.log_lines() if is_it(line)]):
            await asyncio.sleep(0.02)
    return found[0]
