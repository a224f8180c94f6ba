from __future__ import annotations

import asyncio

from roundhouse.ports import Endpoint
from roundhouse.runtime.pool import Pool


class Line:
    """A connection as far as the pool is concerned."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.usable = True
        self.error: BaseException | None = None

    def close(self) -> None:
        self.usable = False

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.close()


def make(count: int, *, idle_limit: int = 10, idle_seconds: float = 60.0) -> tuple[Pool[Line], list[Line]]:
    pool: Pool[Line] = Pool(Endpoint("engine", 1), idle_limit=idle_limit, idle_seconds=idle_seconds)
    lines = [Line() for _ in range(count)]
    pool.open.update(lines)
    for line in lines:
        pool.give(line)
    return pool, lines


async def test_the_last_one_in_is_the_first_one_out():
    pool, (first, second) = make(2)
    assert [pool.take(), pool.take(), pool.take()] == [second, first, None]


async def test_one_that_is_closing_is_passed_over():
    pool, (first, second) = make(2)
    second.close()
    assert pool.take() is first


async def test_one_that_was_lost_is_not_kept():
    pool, (first, second) = make(2)
    pool.forget(first)
    pool.forget(second)
    assert pool.unused
    assert pool.take() is None
    second.usable = True
    assert pool.take() is None


async def test_only_those_idle_for_too_long_are_dropped():
    pool, lines = make(3, idle_seconds=60.0)
    lines[0].idle_since -= 100
    lines[1].idle_since -= 61
    pool.drop_expired()
    assert [line.usable for line in lines] == [False, False, True]
    assert pool.take() is lines[2]
    assert pool.take() is None


async def test_nothing_is_kept_after_an_abort():
    pool, (idle, busy) = make(2)
    assert pool.take() is busy
    reason = ValueError("stopped")
    assert set(pool.abort(reason)) == {idle.ended, busy.ended}
    assert (idle.error, busy.error) == (reason, reason)
    late = Line()
    pool.give(late)
    assert not late.usable
    assert pool.take() is None
