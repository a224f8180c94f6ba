"""A request's body on its way to an engine (spec A7, A8, E6)."""

from __future__ import annotations

import asyncio

import pytest

from roundhouse.api.upload import HELD, Upload
from roundhouse.errors import BodyTooLarge

LIMIT = 64 << 20


class Sender:
    """An ASGI `receive` that gives what a test says, and counts."""

    def __init__(self, *pieces: bytes, whole: bool = True) -> None:
        self.messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        if whole:
            self.messages.append({"type": "http.request", "body": b"", "more_body": False})
        self.given = 0
        self.left = asyncio.Event()

    async def __call__(self):
        if self.given < len(self.messages):
            await asyncio.sleep(0)
            self.given += 1
            return self.messages[self.given - 1]
        await self.left.wait()
        return {"type": "http.disconnect"}


async def taken(body) -> bytes:
    return b"".join([piece async for piece in body])


async def test_a_short_body_is_gathered():
    upload = Upload(Sender(b"one ", b"two ", b"three"), LIMIT)
    upload.start()
    assert await upload.body() == b"one two three"
    upload.stop()


async def test_a_long_one_is_handed_on_and_held_back_while_nobody_takes_it():
    piece = b"x" * (256 << 10)
    sender = Sender(*[piece] * 40)
    upload = Upload(sender, LIMIT)
    upload.start()
    body = await upload.body()
    assert not isinstance(body, bytes)
    for _ in range(200):
        await asyncio.sleep(0)
    assert sender.given <= HELD // len(piece) + 1
    assert await taken(body) == piece * 40
    upload.stop()


async def test_f_a_body_over_the_limit_is_refused_before_and_while_it_is_handed_on():
    short = Upload(Sender(b"x" * 11), 10)
    short.start()
    with pytest.raises(BodyTooLarge):
        await short.body()
    short.stop()
    long = Upload(Sender(*[b"x" * HELD] * 3), 2 * HELD)
    long.start()
    body = await long.body()
    with pytest.raises(BodyTooLarge):
        await taken(body)
    long.stop()


async def test_a8_a_client_that_leaves_cancels_whoever_started_it():
    sender = Sender(b"some", whole=False)
    upload = Upload(sender, LIMIT)

    async def serve() -> None:
        upload.start()
        await upload.body()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serve())
        while not sender.given:
            await asyncio.sleep(0)
        sender.left.set()
        await asyncio.wait([task])
    assert task.cancelled()
    assert upload.gone


async def test_a8_but_not_when_the_answer_is_complete():
    sender = Sender(b"all")
    upload = Upload(sender, LIMIT)
    upload.start()
    assert await upload.body() == b"all"
    upload.stop()
    sender.left.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not upload.gone
