"""What clients do in `make bench-switching`: seeded, so that every program meets the same clients.

Times are those of a big machine divided by `SCALE`: a load of 20 s is played in 2 s. A closed loop asks again when it
has its answer and has thought; an open one asks at moments that are set beforehand, whatever became of the others.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass

SCALE = 10.0
STEP = 0.006
"""Seconds of one decode step of the slowed models: 167 tokens per second, an answer of 6 s in 100 tokens."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: tokens that its answer has (0: an embedding), and whether it is a background task."""

    model: str
    tokens: int
    task: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """A model as a workload needs it: `load` seconds on the big machine, None for a real one with its real load."""

    load: float | None
    kind: str = "chat"


Send = Callable[[Ask], Awaitable[None]]
Client = Callable[[Send, random.Random], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is played: `lead_in` seconds that are not counted, in which habits are learned, and `seconds` that are.

    `max_wait` is on the big machine, for Roundhouse's turns.
    """

    name: str
    title: str
    lead_in: float
    seconds: float
    max_wait: float
    models: Mapping[str, Played]
    clients: tuple[Client, ...]


def some(chance: random.Random, mean: float, sigma: float) -> float:
    """A time around `mean`, lognormal, as think times and answers are."""
    return mean * chance.lognormvariate(-sigma * sigma / 2, sigma)


async def pause(seconds: float) -> None:
    """Seconds of the big machine."""
    await asyncio.sleep(seconds / SCALE)


def tokens(chance: random.Random, seconds: float) -> int:
    """Tokens of an answer that takes about `seconds` on the big machine."""
    return max(1, min(2000, round(some(chance, seconds, 0.6) / SCALE / STEP)))


def agent(model: str, answer: float = 6.0, think: float = 3.0, burst: int = 25, rest: float = 120.0) -> Client:
    """A coding agent: bursts of requests with a tool call's time between them, then a rest."""

    async def client(send: Send, chance: random.Random) -> None:
        await pause(chance.uniform(0, 20))
        while True:
            for _ in range(burst):
                await send(Ask(model, tokens(chance, answer)))
                await pause(some(chance, think, 0.4))
            await pause(some(chance, rest, 0.5))

    return client


def busy(model: str, answer: float = 8.0) -> Client:
    """Asks again as soon as it has its answer; more of these than slots, and the model is overloaded."""

    async def client(send: Send, chance: random.Random) -> None:
        while True:
            await send(Ask(model, tokens(chance, answer)))

    return client


def rare(model: str, every: float, answer: float = 8.0) -> Client:
    """Single requests that come by chance (Poisson), the first one soon, whatever became of those before."""

    async def client(send: Send, chance: random.Random) -> None:
        await pause(chance.uniform(0.1, 0.4) * every)
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(_once(send, Ask(model, tokens(chance, answer))))
                await pause(-every * math.log(1.0 - chance.random()))

    return client


async def _once(send: Send, ask: Ask) -> None:
    await send(ask)


def chatter(model: str, task_model: str, answer: float = 10.0, task: float = 1.5, think: float = 20.0) -> Client:
    """A chat in a web interface that has a title or follow-ups made by a small model after each answer."""

    async def client(send: Send, chance: random.Random) -> None:
        await pause(chance.uniform(0, 10))
        while True:
            await send(Ask(model, tokens(chance, answer)))
            await pause(0.2)
            await send(Ask(task_model, tokens(chance, task), task=True))
            await pause(-think * math.log(1.0 - chance.random()))

    return client


def reader(model: str, embedder: str, answer: float = 10.0, think: float = 20.0) -> Client:
    """A chat over documents: the question is embedded before it is answered."""

    async def client(send: Send, chance: random.Random) -> None:
        await pause(chance.uniform(0, 10))
        while True:
            await send(Ask(embedder, 0))
            await send(Ask(model, tokens(chance, answer)))
            await pause(some(chance, think, 0.5))

    return client


def small_agent(model: str) -> Client:
    """An agent of a real small model: 16 tokens, computed as fast as this machine can."""

    async def client(send: Send, chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(0, 1))
        while True:
            await send(Ask(model, 16))
            await asyncio.sleep(some(chance, 0.2, 0.4))

    return client


def workloads() -> list[Workload]:
    big = {name: Played(20.0) for name in ("alpha", "beta", "gamma")}
    rarer = {name: Played(15.0) for name in ("alpha", "beta", "gamma")}
    return [
        Workload(
            "agents", "three agents, one model each", 30, 100, 120, big, tuple(agent(name) for name in big)
        ),
        Workload(
            "overload", "overloaded alpha, rare beta and gamma", 5, 50, 75, rarer,
            (*(busy("alpha") for _ in range(8)), rare("beta", 90.0), rare("gamma", 120.0)),
        ),
        Workload(
            "tasks", "two chats on alpha with background tasks on gamma", 5, 30, 100,
            {"alpha": Played(20.0), "gamma": Played(5.0)}, (chatter("alpha", "gamma"), chatter("alpha", "gamma")),
        ),
        Workload(
            "embeddings", "two chats on alpha, one on beta, each question embedded", 5, 30, 100,
            {"alpha": Played(20.0), "beta": Played(20.0), "embed": Played(2.0, "embedding")},
            (reader("alpha", "embed"), reader("alpha", "embed"), reader("beta", "embed")),
        ),
        Workload(
            "real", "two agents on SmolLM2-135M and gemma-3-270m, real loads and answers", 5, 25, 100,
            {"smollm2": Played(None), "gemma3": Played(None)}, (small_agent("smollm2"), small_agent("gemma3")),
        ),
    ]  # fmt: skip
