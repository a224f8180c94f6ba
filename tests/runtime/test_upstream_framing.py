"""The client without sockets: every read of the loop is what the test says, so each division of a reply can be tried."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.errors import UpstreamError
from roundhouse.ports import Endpoint
from roundhouse.runtime.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\n"


class ScriptedTransport(asyncio.Transport):
    """Gives the protocol the pieces of a reply, one per turn of the loop, once something is written."""

    def __init__(self, protocol: asyncio.Protocol, pieces: list[bytes], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.protocol = protocol
        self.pieces = iter(pieces)
        self.loop = loop
        self.closing = False
        self.started = False
        self.paused = False

    def write(self, data):
        if not self.started:
            self.started = True
            self.loop.call_soon(self.step)

    def step(self):
        if self.closing or self.paused:
            return
        piece = next(self.pieces, None)
        if piece is None:
            self.protocol.eof_received()
            self.abort()
        else:
            self.protocol.data_received(piece)
            self.loop.call_soon(self.step)

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False
        self.loop.call_soon(self.step)

    def abort(self):
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self.protocol.connection_lost, None)


class ScriptedLoop(asyncio.SelectorEventLoop):
    """A loop on which every connection leads to one that says the given pieces, then closes."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.pieces = pieces

    async def create_connection(self, factory, *address: Any, **options: Any):  # type: ignore[override]
        protocol = factory()
        transport = ScriptedTransport(protocol, self.pieces, self)
        protocol.connection_made(transport)
        return transport, protocol


def divided(pieces: list[bytes], **options: Any):
    """What comes out when a reply arrives in these pieces: status, headers, body, failure."""

    async def talk():
        async with Upstream(**options) as upstream:
            received = []
            try:
                response = await upstream.send(Endpoint("engine", 1), b"POST", b"/", [], b"{}")
            except UpstreamError as error:
                return None, None, b"", str(error)
            try:
                while data := await response.read():
                    received.append(data)
            except UpstreamError as error:
                return response.status, response.headers, b"".join(received), str(error)
            finally:
                await response.aclose()
            return response.status, response.headers, b"".join(received), None

    with asyncio.Runner(loop_factory=lambda: ScriptedLoop(pieces)) as runner:
        return runner.run(talk())


token = st.text("abcdefghijklmnop-", min_size=1, max_size=12).map(lambda name: f"x-{name}".encode())
value = st.text("abcXYZ019 ,;=/", max_size=20).map(lambda text: text.strip().encode())


@st.composite
def replies(draw):
    """An answer as it should come out, and its bytes on the wire."""
    status = draw(st.sampled_from([200, 201, 400, 404, 500, 503]))
    headers = draw(st.lists(st.tuples(token, value), max_size=4))
    parts = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=6))
    body = b"".join(parts)
    framing = draw(st.sampled_from(["chunked", "length", "eof"]))
    wire = body
    if framing == "chunked":
        headers = [*headers, (b"transfer-encoding", b"chunked")]
        trailer = draw(st.sampled_from([b"", b"X-Trailer: late\r\n"]))
        wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"
    elif framing == "length":
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n"]))
    head = b"HTTP/1.1 %d X\r\n" % status + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n"
    return (status, headers, body, None), interim + head + wire


def cut(data: bytes, places) -> list[bytes]:
    marks = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(marks) if end > start]


@given(replies(), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_division_of_a_reply_gives_the_same_answer(reply, places):
    expected, wire = reply
    assert divided(cut(wire, places)) == expected


@given(replies(), st.lists(st.integers(0, 10_000), max_size=12))
def test_back_pressure_on_every_piece_loses_nothing(reply, places):
    expected, wire = reply
    assert divided(cut(wire, places), high_water=1) == expected


@given(replies(), st.integers(0, 10_000), st.lists(st.integers(0, 10_000), max_size=6))
def test_reply_that_is_cut_off_is_an_error_or_a_body_that_ends_with_the_connection(reply, end, places):
    (status, headers, body, _), wire = reply
    short = wire[: end % len(wire)]
    got_status, got_headers, got_body, failure = divided(cut(short, places))
    assert body.startswith(got_body)
    if failure is None:
        framing = {name for name, _ in headers} & {b"transfer-encoding", b"content-length"}
        assert (got_status, got_headers) == (status, headers)
        assert not framing
    else:
        assert "closed the connection" in failure


@pytest.mark.parametrize(
    "wire",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS",
        b"<html>hello</html>\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nPRI",
    ],
)
def test_nonsense_is_an_error_however_it_is_divided(wire):
    outcomes = {divided(pieces)[3] is None for pieces in ([wire], [wire[:5], wire[5:]], [bytes([b]) for b in wire])}
    assert outcomes == {False}


def test_every_single_cut_of_a_stream_of_events():
    events = 'data: {"a":"é🚂"}\r\n\r\n: ping\n\ndata: [DONE]\n\n'.encode()
    wire = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(events), events)
    expected = (200, [(b"transfer-encoding", b"chunked")], events, None)
    for place in range(len(wire)):
        assert divided(cut(wire, [place])) == expected


def test_connection_that_is_lost_before_the_request_is_an_error():
    class Loop(ScriptedLoop):
        async def create_connection(self, factory, *address: Any, **options: Any):  # type: ignore[override]
            transport, protocol = await super().create_connection(factory, *address, **options)
            transport.abort()
            await asyncio.sleep(0)
            return transport, protocol

    async def talk():
        async with Upstream() as upstream:
            with pytest.raises(UpstreamError, match="closed the connection as soon as it stood"):
                await upstream.send(Endpoint("engine", 1), b"POST", b"/", [], b"{}")

    with asyncio.Runner(loop_factory=lambda: Loop([])) as runner:
        runner.run(talk())


@pytest.mark.parametrize("size", [1000, 500_000])
def test_head_that_is_too_long_is_refused_even_if_it_comes_in_one_read(size):
    wire = OK + b"".join(b"X-%d: abcdefghij\r\n" % i for i in range(5000)) + b"Content-Length: 2\r\n\r\nhi"
    failure = divided(cut(wire, range(size, len(wire), size)))[3]
    assert failure is not None
    assert "headers of more than 65536 bytes" in failure
