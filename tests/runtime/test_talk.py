"""Talks with engines carried out over real HTTP (design: engine work that is a conversation)."""

from __future__ import annotations

import asyncio

import pytest

from roundhouse.core.model import Progress
from roundhouse.errors import LoadFailed
from roundhouse.ports import Endpoint, Exchange, More, Reply, Wait
from roundhouse.runtime.talk import carry_out
from roundhouse.runtime.upstream import Upstream
from tests.support.house import free_port

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Server:
    """Answers every request with what the test wrote down, piece by piece; keeps what it was asked."""

    def __init__(self, *pieces: bytes, hold: bool = False, cut: bool = False) -> None:
        self.pieces, self.hold, self.cut = pieces, hold, cut
        self.asked: list[bytes] = []
        self.left = asyncio.Event()

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0
        )
        self.asked.append(head + await reader.readexactly(length))
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
        if self.hold:
            await reader.read()
            self.left.set()
        writer.close()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.endpoint = Endpoint(
            "127.0.0.1", self.server.sockets[0].getsockname()[1], headers=((b"authorization", b"Bearer k"),)
        )
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()


async def run(talk, endpoint, told=lambda _: None):
    async with Upstream() as upstream:
        await carry_out(talk, upstream, endpoint, told)


async def test_a_request_is_sent_with_our_key_and_its_reply_given_back():
    got = []

    def talk():
        got.append((yield Exchange("POST", "/v1/model/load", b'{"a":1}')))

    async with Server(WHOLE) as server:
        await run(talk(), server.endpoint)
    assert got == [Reply(200, b"ok")]
    request = server.asked[0]
    assert request.startswith(b"POST /v1/model/load HTTP/1.1")
    assert b"authorization: Bearer k" in request
    assert b"content-type: application/json" in request
    assert request.endswith(b'{"a":1}')


async def test_a_stream_comes_in_pieces_and_has_an_end():
    got = []

    def talk():
        reply = yield Exchange("POST", "/load", b"{}", stream=True)
        got.append(reply)
        while piece := (yield More()):
            got.append(piece)

    async with Server(HEAD, b"3\r\none\r\n", b"0\r\n\r\n") as server:
        await run(talk(), server.endpoint)
    assert got == [Reply(200), b"one"]


async def test_a_stream_that_breaks_is_told_apart_from_its_end():
    got = []

    def talk():
        yield Exchange("POST", "/load", b"{}", stream=True)
        got.append((yield More()))
        got.append((yield More()))
        got.append((yield More()))

    async with Server(HEAD, b"3\r\none\r\n") as server:
        await run(talk(), server.endpoint)
    assert got == [b"one", None, None]


async def test_nobody_answers():
    got = []

    def talk():
        got.append((yield Exchange("GET", "/")))

    await run(talk(), Endpoint("127.0.0.1", free_port()))
    assert got == [Reply(0)]


async def test_silence_ends_after_its_time():
    got = []

    def talk():
        got.append((yield Exchange("GET", "/", timeout=0.05)))

    async with Server(hold=True) as server:
        await run(talk(), server.endpoint)
        await server.left.wait()
    assert got == [Reply(0)]


async def test_progress_and_pauses():
    told = []

    def talk():
        assert (yield Progress(0.5, "loading")) is None
        assert (yield Wait(0.0)) is None

    await run(talk(), Endpoint("127.0.0.1", 1), told.append)
    assert told == [Progress(0.5, "loading")]


async def test_a_talk_that_fails_closes_what_is_open():
    def talk():
        yield Exchange("POST", "/load", b"{}", stream=True)
        raise LoadFailed("no")

    async with Server(HEAD, hold=True) as server:
        with pytest.raises(LoadFailed):
            await run(talk(), server.endpoint)
        await server.left.wait()


async def test_a_talk_that_is_cancelled_closes_what_is_open_and_ends_the_generator():
    ended = []

    def talk():
        try:
            yield Exchange("POST", "/load", b"{}", stream=True)
            ended.append("streams")
            yield More()
        finally:
            ended.append("closed")

    async with Server(HEAD, hold=True) as server:
        task = asyncio.get_running_loop().create_task(run(talk(), server.endpoint))
        while ended != ["streams"]:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.left.wait()
    assert ended == ["streams", "closed"]
