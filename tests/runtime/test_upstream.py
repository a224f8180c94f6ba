from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from roundhouse.errors import BadRequest, ShuttingDown, UpstreamError, UpstreamTimeout
from roundhouse.ports import Endpoint
from roundhouse.runtime.upstream import Upstream
from tests.support.raw_server import serve

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"Content-Length: 2\r\n\r\nhi"
MIB = 1024 * 1024


def saying(*replies: bytes):
    """A script that answers one request after the other on each connection, then closes."""

    async def script(call):
        for reply in replies:
            await call.request()
            await call.say(reply)
        if not replies:
            await call.gone()

    return script


def saying_and_staying(*replies: bytes):
    async def script(call):
        await saying(*replies)(call)
        await call.gone()

    return script


async def ask(
    upstream, endpoint, *, method=b"POST", path=b"/v1/chat/completions", headers=(), body=b"{}", **limits: Any
):
    """Status, headers and whole body."""
    response = await upstream.send(endpoint, method, path, headers, body, **limits)
    try:
        return response.status, response.headers, await response.read_all(64 * MIB)
    finally:
        await response.aclose()


async def whole(reply: bytes, **request: Any):
    async with serve(saying(reply)) as server, Upstream() as upstream:
        return await ask(upstream, server.endpoint, **request)


# Requests


async def requested(endpoint_of=lambda endpoint: endpoint, **request: Any) -> tuple[bytes, bytes]:
    seen: list[tuple[bytes, bytes]] = []

    async def script(call):
        seen.append(await call.request())
        await call.say(HI)

    async with serve(script) as server, Upstream() as upstream:
        await ask(upstream, endpoint_of(server.endpoint), **request)
    return seen[0]


async def test_request_has_host_length_and_the_clients_headers_as_they_are():
    head, body = await requested(
        headers=[(b"content-type", b"application/json"), (b"X-Odd", b" a,b ")], body=b'{"a":1}'
    )
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert lines[1].startswith(b"host: 127.0.0.1:")
    assert lines[2:] == [b"content-type: application/json", b"X-Odd:  a,b ", b"content-length: 7", b"", b""]
    assert body == b'{"a":1}'


async def test_headers_of_the_clients_connection_are_not_sent():
    head, _ = await requested(
        headers=[
            (b"Host", b"client.example"),
            (b"Connection", b"keep-alive, X-Hop"),
            (b"x-hop", b"1"),
            (b"content-length", b"999"),
            (b"transfer-encoding", b"chunked"),
            (b"expect", b"100-continue"),
            (b"upgrade", b"h2c"),
            (b"te", b"trailers"),
            (b"accept", b"*/*"),
        ]
    )
    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:] if line]
    assert names == [b"host", b"accept", b"content-length"]


async def test_endpoints_base_and_headers_are_added_and_win():
    def mine(endpoint):
        return Endpoint(endpoint.host, endpoint.port, base="/openai", headers=((b"Authorization", b"Bearer ours"),))

    head, _ = await requested(mine, headers=[(b"authorization", b"Bearer theirs")])
    assert head.startswith(b"POST /openai/v1/chat/completions HTTP/1.1\r\n")
    assert b"Bearer ours" in head
    assert b"theirs" not in head


async def test_get_without_body_has_no_length_but_post_has():
    assert b"content-length" not in (await requested(method=b"GET", body=b""))[0]
    assert b"content-length: 0" in (await requested(method=b"POST", body=b""))[0]


async def test_streamed_body_is_sent_in_chunks_and_empty_pieces_do_not_end_it():
    async def pieces():
        for piece in (b"ab", b"", b"cde" * 10):
            yield piece

    head, body = await requested(body=pieces())
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body == b"2\r\nab\r\n1e\r\n" + b"cde" * 10 + b"\r\n0\r\n\r\n"


async def test_large_body_arrives_whole():
    body = bytes(range(256)) * 20_000
    assert (await requested(body=body))[1] == body


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (b"/a\r\nx: y", []),
        (b"/a b", []),
        (b"/", [(b"x", b"a\nb: c")]),
        (b"/", [(b"x", b"a\rb")]),
        (b"/", [(b"x\r\ny", b"a")]),
    ],
)
async def test_request_that_would_break_apart_is_refused_before_anything_is_sent(path, headers):
    async with serve(saying(HI)) as server, Upstream() as upstream:
        with pytest.raises(BadRequest):
            await upstream.send(server.endpoint, b"GET", path, headers, b"")
        assert server.calls == 0


async def test_writing_waits_for_an_engine_that_does_not_read():
    """A streamed body is not pulled faster than the engine takes it."""
    pulled = 0
    full = asyncio.Event()

    async def pieces():
        nonlocal pulled
        for _ in range(2000):
            pulled += 1
            watch = asyncio.get_running_loop().call_later(0.2, full.set)
            yield bytes(64 * 1024)
            watch.cancel()

    async def script(call):
        await call.head()
        await full.wait()  # no piece was pulled for a while: the sender waits
        assert pulled < 1000
        await drain_chunks(call)
        await call.say(HI)

    async def drain_chunks(call):
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            tail = (tail + await call.reader.read(MIB))[-8:]

    async with serve(script) as server, Upstream() as upstream:
        assert (await ask(upstream, server.endpoint, body=pieces()))[2] == b"hi"
    assert pulled == 2000


async def test_engine_that_refuses_early_cuts_the_streamed_body_short():
    refused = asyncio.Event()
    pulled = 0

    async def pieces():
        nonlocal pulled
        yield b"x"
        await refused.wait()
        while True:
            pulled += 1
            assert pulled < 100_000
            yield b"y" * 1000
            await asyncio.sleep(0)

    async def script(call):
        await call.head()
        await call.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        refused.set()
        await call.gone()

    async with serve(script) as server, Upstream() as upstream:
        status, _, body = await ask(upstream, server.endpoint, body=pieces())
        assert (status, body) == (413, b"big")
        await server.until_gone(1)  # it was not kept: half a request went over it


# Answers: framing


async def test_content_length():
    status, headers, body = await whole(
        OK + b"Content-Type: text/plain\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert (status, body) == (200, b"hello")
    assert headers == [(b"content-type", b"text/plain"), (b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"5")]


async def test_header_gives_the_first_value_or_none():
    async with serve(saying(OK + b"X-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        assert response.header(b"x-a") == b"1"
        assert response.header(b"x-b") is None
        await response.aclose()


async def test_chunks_extensions_and_trailers():
    reply = OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n"
    status, headers, body = await whole(reply)
    assert (status, headers, body) == (200, [(b"transfer-encoding", b"chunked")], b"hello")


@pytest.mark.parametrize("line", [OK, b"HTTP/1.0 200 OK\r\n", OK + b"Connection: close\r\n"])
async def test_body_that_ends_with_the_connection(line):
    assert (await whole(line + b"\r\nhello"))[2] == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_body_keep_the_connection(status):
    reply = b"HTTP/1.1 %d X\r\n\r\n" % status
    async with serve(saying_and_staying(reply, HI)) as server, Upstream() as upstream:
        assert await ask(upstream, server.endpoint) == (status, [], b"")
        assert (await ask(upstream, server.endpoint))[2] == b"hi"
        assert server.calls == 1


async def test_answer_to_head_has_no_body_whatever_its_length_says():
    reply = OK + b"Content-Length: 5\r\n\r\n"
    async with serve(saying_and_staying(reply)) as server, Upstream() as upstream:
        status, headers, body = await ask(upstream, server.endpoint, method=b"HEAD", body=b"")
        assert (status, headers, body) == (200, [(b"content-length", b"5")], b"")


async def test_interim_answers_are_skipped():
    reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HI
    assert await whole(reply) == (200, [(b"content-length", b"2")], b"hi")


async def test_b7_utf8_split_across_reads_is_handed_on_byte_by_byte():
    text = "🚂é".encode()
    go = [asyncio.Event() for _ in text]

    async def script(call):
        await call.request()
        await call.say(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for byte, seen in zip(text, go, strict=True):
            await call.say(b"1\r\n%c\r\n" % byte)
            await seen.wait()
        await call.say(b"0\r\n\r\n")

    async with serve(script) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"POST", b"/", [], b"")
        for byte, seen in zip(text, go, strict=True):
            assert await response.read() == bytes([byte])
            assert response.read_nowait() is None
            seen.set()
        assert await response.read() == b""
        assert response.read_nowait() == b""
        await response.aclose()


async def test_b7_one_megabyte_event_in_one_chunk():
    event = b"data: " + "é".encode() * (MIB // 2) + b"\r\n\r\n: comment\n\n"
    reply = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)
    assert (await whole(reply))[2] == event


# Bounds


@pytest.mark.parametrize(
    "bomb",
    [
        b"X-A: " + b"a" * 200_000,
        b"".join(b"X-%d: abcdefghij\r\n" % i for i in range(20_000)),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
)
async def test_header_bombs_are_cut(bomb):
    prefix = b"" if bomb.startswith(b"HTTP") else OK

    async def script(call):
        await call.request()
        await call.say(prefix + bomb)
        await call.gone()

    async with serve(script) as server, Upstream() as upstream:
        with pytest.raises(UpstreamError, match="65536"):
            await ask(upstream, server.endpoint)
        await server.until_gone(1)


async def test_header_block_within_the_limit_passes():
    status, headers, _ = await whole(OK + b"X-A: " + b"a" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n")
    assert status == 200
    assert len(headers[0][1]) == 60_000


async def test_endless_trailers_are_cut():
    async def script(call):
        await call.request()
        await call.say(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: ")
        while True:
            await call.say(b"x" * 10_000)

    async with serve(script) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        assert await response.read() == b"hi"
        with pytest.raises(UpstreamError, match="65536"):
            await response.read()
        await response.aclose()


async def test_read_all_stops_at_its_limit_and_closes():
    async with (
        serve(saying_and_staying(OK + b"Content-Length: 2000\r\n\r\n" + bytes(2000))) as server,
        Upstream() as upstream,
    ):
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        with pytest.raises(UpstreamError, match="1999"):
            await response.read_all(1999)
        await response.aclose()
        await server.until_gone(1)


async def test_e6_slow_reader_holds_the_engine_back():
    """The engine has 50 MB to say; what nobody reads stays with the engine, not with us."""
    total = 50 * MIB
    written = 0
    stuck = asyncio.Event()

    async def script(call):
        nonlocal written
        await call.request()
        await call.say(OK + b"Content-Length: %d\r\n\r\n" % total)
        piece = bytes(64 * 1024)
        while written < total:
            call.writer.write(piece)
            watch = asyncio.get_running_loop().call_later(0.3, stuck.set)
            await call.writer.drain()
            watch.cancel()
            written += len(piece)

    async with serve(script) as server, Upstream(high_water=256 * 1024) as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        await stuck.wait()
        at_rest = written
        assert at_rest < 40 * MIB  # what the kernel holds on both sides, and our high water
        first = response.read_nowait()
        assert first is not None
        largest = len(first)
        received = largest
        while data := await response.read():
            received += len(data)
            largest = max(largest, len(data))
            await asyncio.sleep(0)
        await response.aclose()
    assert received == total
    assert largest <= 2 * 256 * 1024


# The pool


async def test_connections_are_used_again_last_in_first_out():
    numbers = []

    async def script(call):
        while await call.head():
            numbers.append(call.number)
            await call.say(HI)

    async with serve(script) as server, Upstream() as upstream:
        first = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        second = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        for response in (first, second):
            assert await response.read_all(10) == b"hi"
            await response.aclose()
        await ask(upstream, server.endpoint, method=b"GET", body=b"")
        await ask(upstream, server.endpoint, method=b"GET", body=b"")
        assert numbers == [1, 2, 2, 2]


async def test_unread_end_of_a_whole_answer_does_not_reach_the_next_one():
    async with serve(saying_and_staying(HI, OK + b"Content-Length: 3\r\n\r\nnew")) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        while response.read_nowait() is None:
            await asyncio.sleep(0)
        await response.aclose()
        assert (await ask(upstream, server.endpoint))[2] == b"new"


async def test_response_that_is_given_back_says_no_more():
    async with serve(saying_and_staying(HI, HI)) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        await response.read_all(10)
        await response.aclose()
        assert (await ask(upstream, server.endpoint))[2] == b"hi"
        response.cancel(ValueError("late"))
        await response.aclose()
        assert response.read_nowait() == b""
        assert await response.read() == b""


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        HI + b"and something nobody asked for",
        HI + HI,
    ],
)
async def test_connection_that_may_not_live_on_is_closed(reply):
    async with serve(saying_and_staying(reply)) as server, Upstream() as upstream:
        for round_ in (1, 2):
            assert (await ask(upstream, server.endpoint))[2] == b"hi"
            await server.until_gone(round_)
        assert server.calls == 2


async def test_surplus_on_an_idle_connection_closes_it():
    idle = asyncio.Event()

    async def script(call):
        await call.request()
        await call.say(HI)
        await idle.wait()
        await call.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await call.gone()

    async with serve(script) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        idle.set()
        await server.until_gone(1)
        assert (await ask(upstream, server.endpoint))[0] == 200


async def test_half_read_answer_closes_the_connection():
    async with serve(saying_and_staying(OK + b"Content-Length: 5\r\n\r\nhe")) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        assert await response.read() == b"he"
        await response.aclose()
        await server.until_gone(1)


async def test_no_more_than_the_limit_stay_idle():
    async with serve(saying_and_staying(HI)) as server, Upstream(idle_limit=1) as upstream:
        responses = [await upstream.send(server.endpoint, b"GET", b"/", [], b"") for _ in range(3)]
        for response in responses:
            await response.read_all(10)
            await response.aclose()
        await server.until_gone(2)
        assert server.gone == 2


async def test_idle_connections_are_closed_after_a_while():
    async with serve(saying_and_staying(HI)) as server, Upstream(idle_seconds=0.01) as upstream:
        await ask(upstream, server.endpoint)
        await server.until_gone(1)


async def test_connection_idle_for_too_long_is_not_used_again(monkeypatch):
    async with serve(saying_and_staying(HI, HI)) as server, Upstream(idle_seconds=-1.0) as upstream:
        monkeypatch.setattr(upstream, "_sweep", lambda: None)
        await ask(upstream, server.endpoint)
        await ask(upstream, server.endpoint)
        assert server.calls == 2


async def test_addresses_nobody_is_connected_to_are_forgotten():
    async with serve(saying(HI)) as server, Upstream(idle_seconds=0.01) as upstream:
        await ask(upstream, server.endpoint)
        while upstream._pools:
            await asyncio.sleep(0.01)


# The race between reuse and the engine's closing


async def test_reused_connection_that_the_engine_closed_is_replaced_once():
    """The engine closes exactly when the second request comes in, before a byte of its answer."""

    async def script(call):
        await call.request()
        await call.say(HI)
        if call.number == 1:
            await call.request()
            call.reset()

    async with serve(script) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        assert (await ask(upstream, server.endpoint))[2] == b"hi"
        assert server.calls == 2


async def test_second_failure_is_not_repeated():
    async def script(call):
        await call.request()
        if call.number == 1:
            await call.say(HI)
            await call.request()

    async with serve(script) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        with pytest.raises(UpstreamError, match="closed the connection without an answer"):
            await ask(upstream, server.endpoint)
        assert server.calls == 2


async def test_reused_connection_that_fails_after_the_first_byte_is_not_repeated():
    async def script(call):
        await call.request()
        await call.say(HI)
        await call.request()
        await call.say(b"HTTP/1.1 2")

    async with serve(script) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        with pytest.raises(UpstreamError, match="in the middle of its answer"):
            await ask(upstream, server.endpoint)
        assert server.calls == 1


async def test_time_out_on_a_reused_connection_is_not_repeated():
    async with serve(saying_and_staying(HI)) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        with pytest.raises(UpstreamTimeout):
            await ask(upstream, server.endpoint, head_timeout=0.01)
        assert server.calls == 1


async def test_streamed_body_always_gets_a_fresh_connection():
    async def pieces():
        yield b"abc"

    async with serve(saying_and_staying(HI)) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        await ask(upstream, server.endpoint, body=pieces())
        assert server.calls == 2


async def test_connection_closed_while_idle_is_not_tried():
    async with serve(saying(HI)) as server, Upstream() as upstream:
        for calls in (1, 2, 3):
            assert (await ask(upstream, server.endpoint))[2] == b"hi"
            await server.until_gone(calls)
        assert server.calls == 3


# Failures


async def test_refused_connection():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with Upstream() as upstream:
            with pytest.raises(UpstreamError, match=f"engine at 127.0.0.1:{port} refused the connection"):
                await ask(upstream, Endpoint("127.0.0.1", port))


async def test_host_that_cannot_be_found():
    async with Upstream() as upstream:
        with pytest.raises(UpstreamError, match="could not be reached"):
            await ask(upstream, Endpoint("a" * 70 + ".invalid", 80))


async def test_connection_that_is_never_accepted_times_out():
    """A full accept queue on loopback leaves the connection half made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(address)
                fillers.append(filler)
            async with Upstream(connect_timeout=0.05) as upstream:
                with pytest.raises(UpstreamTimeout, match=r"did not accept a connection within 0.05 s"):
                    await ask(upstream, Endpoint(*address))
        finally:
            for filler in fillers:
                filler.close()


async def test_silence_before_the_head_times_out():
    async with serve(saying_and_staying()) as server, Upstream() as upstream:
        with pytest.raises(UpstreamTimeout, match=r"silent for 0.01 s"):
            await ask(upstream, server.endpoint, head_timeout=0.01)
        await server.until_gone(1)


async def test_silence_in_the_middle_times_out_after_what_came():
    async with serve(saying_and_staying(OK + b"Content-Length: 5\r\n\r\nhe")) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"", head_timeout=60, read_timeout=0.01)
        assert await response.read() == b"he"
        with pytest.raises(UpstreamTimeout, match=r"silent for 0.01 s"):
            await response.read()
        await response.aclose()
        await server.until_gone(1)


async def test_read_timeout_starts_anew_with_each_read():
    """Ten pauses, each shorter than the limit, are longer than it together: that is no silence."""

    async def script(call):
        await call.request()
        await call.say(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.1)
            await call.say(b"1\r\nx\r\n")
        await call.say(b"0\r\n\r\n")

    async with serve(script) as server, Upstream() as upstream:
        assert (await ask(upstream, server.endpoint, read_timeout=0.8))[2] == b"x" * 10


@pytest.mark.parametrize(
    "start",
    [
        OK + b"Content-Length: 5\r\n\r\nhe",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    ],
)
async def test_a9_engine_that_dies_in_the_middle_gives_what_came_and_then_an_error(start):
    async with serve(saying(start)) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        assert await response.read() == b"he"
        with pytest.raises(UpstreamError, match="closed the connection in the middle of its answer"):
            await response.read()
        with pytest.raises(UpstreamError, match="in the middle"):
            response.read_nowait()
        await response.aclose()


async def test_engine_that_closes_each_connection_at_once():
    async def script(call):
        call.reset()

    async with serve(script) as server, Upstream() as upstream:
        for _ in range(20):  # sometimes seen before the request is written, sometimes after
            with pytest.raises(UpstreamError, match="closed the connection"):
                await ask(upstream, server.endpoint)


async def test_engine_that_dies_before_its_answer():
    async def script(call):
        await call.request()

    async with serve(script) as server, Upstream() as upstream:
        with pytest.raises(UpstreamError, match="closed the connection without an answer"):
            await ask(upstream, server.endpoint)
        assert server.calls == 1


# The client leaves, the engine is stopped


async def reading(response):
    """Reads to the end; its result is what the read raised or returned."""
    try:
        return await response.read()
    except Exception as error:
        return error


async def while_reading(response, act):
    """What a pending read gets when `act` happens."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(reading(response))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        act()
    return task.result()


HALF = OK + b"Content-Length: 5\r\n\r\nhe"


@pytest.mark.parametrize("error", [None, ValueError("client left")])
async def test_a8_cancel_closes_at_once_and_wakes_the_reader(error):
    async with serve(saying_and_staying(HALF)) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        assert await response.read() == b"he"
        outcome = await while_reading(response, lambda: response.cancel(error))
        assert outcome == (error or b"")
        await server.until_gone(1)
        if error is None:
            assert await response.read() == b""
        await response.aclose()


async def test_cancel_drops_what_was_not_read():
    async with serve(saying_and_staying(HI)) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        response.cancel()
        assert await response.read() == b""
        await response.aclose()
        await server.until_gone(1)


async def test_cancelled_send_closes_the_connection():
    asked = asyncio.Event()

    async def script(call):
        await call.request()
        asked.set()
        await call.gone()

    async with serve(script) as server, Upstream() as upstream:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask(upstream, server.endpoint))
            await asked.wait()
            task.cancel()
        await server.until_gone(1)


async def test_cancelled_read_closes_the_connection():
    async with serve(saying_and_staying(HALF)) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        assert await response.read() == b"he"
        async with asyncio.TaskGroup() as group:
            task = group.create_task(response.read())
            await asyncio.sleep(0)
            task.cancel()
        await server.until_gone(1)
        await response.aclose()


async def test_cancelled_connecting_leaves_nothing_open():
    async with serve(saying_and_staying(HI)) as server, Upstream() as upstream:
        for turns in range(6):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(ask(upstream, server.endpoint))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
            assert not upstream._pools or not next(iter(upstream._pools.values())).connecting


async def test_abort_wakes_readers_and_closes_everything_of_that_endpoint():
    async with (
        serve(saying_and_staying(HALF)) as server,
        serve(saying_and_staying(HI, HI)) as other,
        Upstream() as upstream,
    ):
        await ask(upstream, other.endpoint)
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        assert await response.read() == b"he"
        outcome = await while_reading(response, lambda: upstream.abort(server.endpoint))
        assert isinstance(outcome, UpstreamError)
        assert "is being stopped" in str(outcome)
        await server.until_gone(1)
        await response.aclose()
        await ask(upstream, other.endpoint)
        assert (other.calls, other.gone) == (1, 0)


async def test_abort_closes_idle_connections_too():
    async with serve(saying_and_staying(HI)) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        upstream.abort(server.endpoint)
        await server.until_gone(1)
        upstream.abort(server.endpoint)
        assert (await ask(upstream, server.endpoint))[2] == b"hi"


async def test_abort_ends_a_send_that_waits_for_the_head_and_does_not_repeat_it():
    asked = asyncio.Event()

    async def script(call):
        await call.request()
        await call.say(HI)
        await call.request()
        asked.set()
        await call.gone()

    async with serve(script) as server, Upstream() as upstream:
        await ask(upstream, server.endpoint)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(failing(ask(upstream, server.endpoint)))
            await asked.wait()
            upstream.abort(server.endpoint)
        assert "is being stopped" in str(task.result())
        assert server.calls == 1


async def failing(work):
    try:
        await work
    except Exception as error:
        return error
    return None


async def test_abort_catches_a_connection_in_the_making():
    async with serve(saying_and_staying(HI)) as server, Upstream() as upstream:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(failing(ask(upstream, server.endpoint)))
            await asyncio.sleep(0)
            upstream.abort(server.endpoint)
        assert isinstance(task.result(), UpstreamError)


async def test_answer_that_is_whole_survives_abort():
    async with serve(saying_and_staying(HI)) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        connection = response._connection
        assert connection is not None
        while not connection.complete:
            await asyncio.sleep(0)
        upstream.abort(server.endpoint)
        assert await response.read_all(10) == b"hi"
        await response.aclose()


async def test_nothing_is_sent_after_closing():
    async with serve(saying_and_staying(HALF)) as server, Upstream() as upstream:
        response = await upstream.send(server.endpoint, b"GET", b"/", [], b"")
        await upstream.aclose()
        with pytest.raises(ShuttingDown):
            await response.read_all(10)
        with pytest.raises(ShuttingDown):
            await ask(upstream, server.endpoint)


# Probes


async def test_get_returns_status_and_body():
    async with serve(saying(b"HTTP/1.1 503 X\r\nContent-Length: 7\r\n\r\nloading")) as server, Upstream() as upstream:
        assert await upstream.get(server.endpoint, b"/health", timeout=10) == (503, b"loading")


async def test_get_has_one_limit_for_everything():
    async def script(call):
        await call.head()
        await call.say(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:  # never silent, never done
            await call.say(b"1\r\nx\r\n")
            await asyncio.sleep(0.005)

    async with serve(script) as server, Upstream() as upstream:
        with pytest.raises(UpstreamTimeout, match=r"within 0.05 s"):
            await upstream.get(server.endpoint, b"/health", timeout=0.05)
        await server.until_gone(1)


async def test_get_is_bounded():
    reply = OK + b"Content-Length: %d\r\n\r\n" % (5 * MIB) + bytes(5 * MIB)
    async with serve(saying(reply)) as server, Upstream() as upstream:
        with pytest.raises(UpstreamError, match="longer than"):
            await upstream.get(server.endpoint, b"/big", timeout=30)


# Addresses


async def test_ipv6_host():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    heads = []

    async def script(call):
        heads.append(await call.head())
        await call.say(HI)

    async with serve(script, host="::1") as server, Upstream() as upstream:
        await ask(upstream, server.endpoint, method=b"GET", body=b"")
    assert b"host: [::1]:%d\r\n" % server.endpoint.port in heads[0]


TLS = Path(__file__).parent / "tls"


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.crt", TLS / "localhost.key")
    return context


async def test_tls_endpoint(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "localhost.crt"))
    async with serve(saying_and_staying(HI, HI), host="localhost", tls=server_tls()) as server, Upstream() as upstream:
        assert (await ask(upstream, server.endpoint))[2] == b"hi"
        assert (await ask(upstream, server.endpoint))[2] == b"hi"
        assert server.calls == 1


async def test_tls_certificate_that_nobody_vouches_for_is_refused():
    async with serve(saying_and_staying(HI), host="localhost", tls=server_tls()) as server, Upstream() as upstream:
        with pytest.raises(UpstreamError, match=r"could not be reached: .*certificate verify failed"):
            await ask(upstream, server.endpoint)
