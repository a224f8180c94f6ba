"""The clients of `make bench-switching`: the same ones for every program."""

from __future__ import annotations

import asyncio
import random

import pytest
from bench.workloads import Ask

from bench import workloads

ENOUGH = 40


async def asked(client: workloads.Client, seed: str) -> list[Ask]:
    """The first requests of a client whose answers come at once."""
    found: list[Ask] = []
    full = asyncio.Event()

    async def send(ask: Ask) -> None:
        found.append(ask)
        if len(found) >= ENOUGH:
            full.set()
        await asyncio.sleep(0)

    running = asyncio.get_running_loop().create_task(client(send, random.Random(seed)))
    await full.wait()
    running.cancel()
    await asyncio.wait([running])
    return found[:ENOUGH]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    sleep = asyncio.sleep
    monkeypatch.setattr(workloads.asyncio, "sleep", lambda _seconds: sleep(0))


@pytest.mark.parametrize("workload", workloads.workloads(), ids=lambda workload: workload.name)
async def test_a_seed_gives_the_same_requests_again_and_only_for_models_that_are_there(workload):
    for number, client in enumerate(workload.clients):
        first = await asked(client, f"4 {number}")
        assert first == await asked(client, f"4 {number}")
        assert {ask.model for ask in first} <= set(workload.models)


async def test_another_seed_gives_others():
    client = workloads.agent("alpha")
    assert await asked(client, "1") != await asked(client, "2")


async def test_answers_have_the_length_that_was_asked_for_on_average():
    client = workloads.busy("alpha", answer=8.0)
    tokens = [ask.tokens for seed in range(20) for ask in await asked(client, str(seed))]
    assert 0.9 < sum(tokens) / len(tokens) * workloads.STEP * workloads.SCALE / 8.0 < 1.1


async def test_a_chat_in_a_web_interface_has_a_task_after_each_answer():
    found = await asked(workloads.chatter("alpha", "gamma"), "1")
    assert {(ask.model, ask.task) for ask in found[::2]} == {("alpha", False)}
    assert {(ask.model, ask.task) for ask in found[1::2]} == {("gamma", True)}
