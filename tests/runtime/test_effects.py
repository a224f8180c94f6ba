"""One load carried out with everything around it made up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roundhouse.config.models import ModelConfig
from roundhouse.core.model import BecameReady, Exited, Start, Stop
from roundhouse.engines.llamacpp import LlamaCpp
from roundhouse.ports import Command, Exit
from roundhouse.runtime.effects import Effects
from roundhouse.runtime.life import Runnable

TOLD = [
    "load_tensors:        CUDA0 model buffer size =  1000.00 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =    64.00 MiB",
    "sched_reserve:      CUDA0 compute buffer size =   200.00 MiB",
]


class Process:
    """A handle: it has said its lines and runs until it is stopped."""

    pid = None

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._ended = asyncio.Event()

    async def wait_exit(self) -> Exit:
        await self._ended.wait()
        return Exit(0, by_us=True)

    async def stop(self, grace: float) -> Exit:
        self._ended.set()
        return await self.wait_exit()

    async def lines(self):
        for line in self._lines:
            yield line
        await self._ended.wait()

    def tail(self, count: int) -> list[str]:
        return self._lines[-count:]


class Launcher:
    running = False

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    async def clear(self, command: Command) -> None:
        pass

    async def start(self, tag: Any, command: Command) -> Process:
        return Process(self._lines)


class Upstream:
    async def get(self, endpoint: Any, path: bytes, timeout: float) -> tuple[int, bytes]:
        return 200, b'{"status":"ok"}'

    def abort(self, endpoint: Any) -> None:
        pass


def carried_out(lines: list[str]) -> tuple[Effects, asyncio.Queue[Any]]:
    """Effects of a model that says these lines, and the events that they tell."""
    config = ModelConfig(id="m", path=Path("/m.gguf"), engine="llamacpp", launcher="process")

    async def nothing() -> None:
        return None

    async def command(port: int, place: object) -> Command:
        return Command(("engine",))

    runnable = Runnable(
        config,
        "s",
        "s",
        LlamaCpp(),
        Launcher(lines),
        None,
        None,
        None,
        None,
        nothing,
        lambda _claim: None,
        command,
        lambda _port: (),
    )
    journal = SimpleNamespace(loaded=lambda *_: None, exited=lambda *_, **__: None, read_ahead=lambda *_: None)
    events: asyncio.Queue[Any] = asyncio.Queue()
    effects = Effects({"m": runnable}, Upstream(), journal, asyncio.get_running_loop().time, lambda *_: None)
    effects.post = events.put_nowait
    return effects, events


async def memory_of_a_load(lines: list[str]) -> int | None:
    """What was told of a model that said these lines."""
    effects, events = carried_out(lines)
    told: list[int] = []
    effects.memory_told = lambda _instance, size: told.append(size)
    effects.do(Start(1, "m", {}))
    while not isinstance(await events.get(), BecameReady):
        pass
    effects.do(Stop(1, "m", "the test is over"))
    while not isinstance(await events.get(), Exited):
        pass
    return told[0] if told else None


@pytest.mark.parametrize(("lines", "size"), [(TOLD, 1264 * 2**20), (TOLD[:2], None), ([], None)])
async def test_d1_what_an_engine_logs_of_its_memory_is_told(lines, size):
    assert await asyncio.wait_for(memory_of_a_load(lines), 10) == size


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
async def test_d9_a_load_that_is_unloaded_at_once_is_told_as_gone(steps):
    """Found by `make fuzz`: one that was stopped before it had a process stayed `stopping` for good."""
    effects, events = carried_out(TOLD)
    effects.do(Start(1, "m", {}))
    for _ in range(steps):
        await asyncio.sleep(0)
    effects.do(Stop(1, "m", "at once"))
    async with asyncio.timeout(10):
        while not isinstance(event := await events.get(), Exited):
            pass
    assert event.expected
