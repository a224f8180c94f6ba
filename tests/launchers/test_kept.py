"""A process that stays while models come and go in it (TabbyAPI, spec C6)."""

from __future__ import annotations

import asyncio

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.launchers.kept import Kept
from roundhouse.ports import Command, Exit, Tag

COMMAND = Command(("engine",))


class Process:
    """A process that a test ends."""

    pid = 7

    def __init__(self, tag: Tag) -> None:
        self.tag = tag
        self.gone = asyncio.Event()
        self.did: list[object] = []

    async def wait_exit(self) -> Exit:
        await self.gone.wait()
        return Exit(3)

    async def stop(self, grace: float) -> Exit:
        self.did.append(("stop", grace))
        self.gone.set()
        return Exit(0, by_us=True)

    async def lines(self):
        yield "one"

    def tail(self, count: int) -> list[str]:
        return ["one"][-count:]

    async def detach(self) -> None:
        self.did.append("detach")


class Starter:
    """A launcher that makes processes."""

    running = False

    def __init__(self) -> None:
        self.made: list[Process] = []
        self.cleared = 0
        self.error: Exception | None = None

    async def clear(self, command: Command) -> None:
        self.cleared += 1

    async def start(self, tag: Tag, command: Command) -> Process:
        if self.error:
            raise self.error
        self.made.append(Process(tag))
        return self.made[-1]

    async def found(self) -> list[Process]:
        return []


def tag(model: str) -> Tag:
    return Tag(model, "s", 5000, 0.0)


@pytest.fixture
async def kept():
    kept = Kept(Starter())
    yield kept
    await kept.close(1.0, leave=False)


async def test_the_second_model_takes_the_running_process(kept):
    first = await kept.start(tag("a"), COMMAND)
    await first.detach()
    second = await kept.start(tag("b"), COMMAND)
    assert [process.tag.model for process in kept._inner.made] == ["a"]
    assert (second.tag.model, second.pid, second.tail(1)) == ("b", 7, ["one"])
    assert [line async for line in second.lines()] == ["one"]


async def test_what_stands_in_its_place_is_cleared_away_only_before_a_new_process(kept):
    await kept.clear(COMMAND)
    await kept.start(tag("a"), COMMAND)
    await kept.clear(COMMAND)
    assert kept._inner.cleared == 1


async def test_the_end_of_a_turn_is_no_end_of_the_process(kept):
    turn = await kept.start(tag("a"), COMMAND)
    await turn.detach()
    assert await turn.wait_exit() == await turn.stop(5.0) == Exit(None, by_us=True)
    assert kept.running
    assert not kept._inner.made[0].did


async def test_stopping_a_turn_ends_the_process_and_the_next_start_makes_another(kept):
    turn = await kept.start(tag("a"), COMMAND)
    assert await turn.stop(5.0) == Exit(0, by_us=True)
    assert await turn.wait_exit() == Exit(3)
    while kept.running:
        await asyncio.sleep(0)
    await kept.start(tag("b"), COMMAND)
    assert len(kept._inner.made) == 2


async def test_a_process_that_dies_between_two_models_is_forgotten(kept):
    await (await kept.start(tag("a"), COMMAND)).detach()
    kept._inner.made[0].gone.set()
    while kept.running:
        await asyncio.sleep(0)


async def test_a_process_that_can_t_be_started_is_not_kept(kept):
    kept._inner.error = LoadFailed("no")
    with pytest.raises(LoadFailed):
        await kept.start(tag("a"), COMMAND)
    assert not kept.running


@pytest.mark.parametrize(("leave", "did"), [(True, ["detach"]), (False, [("stop", 4.0)])])
async def test_e5_the_process_ends_or_stays_as_configured(kept, leave, did):
    await kept.start(tag("a"), COMMAND)
    process = kept._inner.made[0]
    await kept.close(4.0, leave=leave)
    assert process.did == did
    assert not kept.running
