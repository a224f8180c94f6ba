"""Copies of bodies: cut, bounded by size and age, secrets hidden, never in anybody's way."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.config.captures import Captures as Settings
from roundhouse.observe import captures
from roundhouse.observe.captures import About, Captures, Copy
from roundhouse.observe.redact import HIDDEN, Secrets


class Kept:
    """Captures whose background tasks can be waited for."""

    def __init__(self, path, **settings) -> None:
        self.path, self.tasks, self.secrets = path / "captures.db", [], Secrets()
        self.captures = Captures(self.path, Settings(store="all", **settings), self.secrets.text, self.spawn)

    def spawn(self, work, _name):
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def keep(self, name, request=b"asked", answer=b"said", status=200, at=None):
        copy = self.captures.copy()
        copy.add(answer)
        self.captures.keep(About(name, "me", "alpha", at or time.time(), status), request, copy)

    async def settled(self):
        for task in self.tasks:
            await task
        return await self.captures.listed(1000)


@given(st.lists(st.binary(max_size=20)), st.integers(0, 50))
def test_a_copy_is_the_beginning_and_knows_the_whole_size(parts, limit):
    copy, whole = Copy(limit), b"".join(parts)
    for part in parts:
        copy.add(part)
    assert copy.data() == whole[:limit]
    assert copy.size == len(whole)


async def test_what_was_said_is_kept_for_its_owner_alone(tmp_path):
    kept = Kept(tmp_path)
    async with kept.captures as there:
        kept.keep("r1", b'{"messages": "h\xc3\xb6r"}', b"data: \xff")
        assert [one["id"] for one in await kept.settled()] == ["r1"]
        found = await there.find("r1")
        assert (found["request"], found["answer"]) == ('{"messages": "hör"}', "data: \\xff")
        assert (found["key"], found["model"], found["status"], found["answer_bytes"]) == ("me", "alpha", 200, 7)
        assert await there.find("r2") is None
        for file in tmp_path.iterdir():
            assert os.stat(file).st_mode & 0o077 == 0


async def test_each_is_cut_and_a_secret_across_the_cut_is_hidden(tmp_path):
    kept = Kept(tmp_path, body=100)
    kept.secrets.add("sk-very-secret-key")
    async with kept.captures as there:
        kept.keep("r1", b"x" * 90 + b"sk-very-secret-key" + b"y" * 5000, b"Authorization: Bearer abcdefgh12345")
        await kept.settled()
        found = await there.find("r1")
        assert found["request"] == "x" * 90 + HIDDEN + "yy"
        assert found["request_bytes"] == 5108
        assert "abcdefgh" not in found["answer"]


async def test_only_errors_if_only_those_are_wanted(tmp_path):
    kept = Kept(tmp_path)
    kept.captures._settings = Settings(store="errors")
    async with kept.captures:
        kept.keep("good")
        kept.keep("bad", status=503)
        assert [one["id"] for one in await kept.settled()] == ["bad"]


async def test_the_oldest_go_when_they_are_too_large_or_too_old(tmp_path):
    kept = Kept(tmp_path, budget=10_000, keep=3600.0)
    async with kept.captures as there:
        kept.keep("old", at=time.time() - 7200)
        await kept.settled()
        for number in range(15):
            kept.keep(f"r{number}", b"x" * 1000, b"y" * 1000)
            await kept.settled()
        names = [one["id"] for one in await kept.settled()]
        assert names == [f"r{number}" for number in range(14, 9, -1)]
        assert await there.find("old") is None


async def test_too_many_at_once_are_dropped_with_a_count(tmp_path):
    kept = Kept(tmp_path)
    async with kept.captures as there:
        for number in range(captures.PENDING + 5):
            kept.keep(f"r{number}")
        assert there.dropped == 5
        assert len(await kept.settled()) == captures.PENDING
        kept.keep("later")
        assert len(await kept.settled()) == captures.PENDING + 1


async def test_a_text_that_can_not_be_hidden_is_not_kept_and_does_not_block(tmp_path):
    kept = Kept(tmp_path)
    kept.captures._hide = None
    async with kept.captures as there:
        kept.keep("r1")
        with pytest.raises(TypeError):
            await kept.settled()
        assert there._pending == 0
        kept.captures._hide = str
        kept.tasks.clear()
        kept.keep("r0")
        assert [one["id"] for one in await kept.settled()] == ["r0"]
        assert await there.find("r1") is None
