"""What a decision costs: `planner.step` and `next_wakeup` on a box of 50 models with 500 requests waiting.

Four devices hold a few models each; everybody else waits for a turn. Requests come as fast as the queue is kept full,
engines load in 20 s, stop in one and answer in 8 s on average, in virtual time. CPU time of the thread, so that a busy
machine does not count.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from roundhouse.core.model import (
    Arrived,
    BecameReady,
    Departed,
    Device,
    Event,
    Exited,
    Fleet,
    Grant,
    ModelSpec,
    Policy,
    Start,
    Stop,
    Tick,
    Ticket,
)
from roundhouse.core.planner import next_wakeup, step

MODELS, WAITING, CARDS, STEP = 50, 500, 4, 0.05


def measure(steps: int, seed: int = 1) -> dict[str, dict[str, float]]:
    """Microseconds by kind of decision: median, 99th percentile and most, and how many there were."""
    taken: dict[str, list[float]] = {}
    for kind, spent, wake in _played(steps, random.Random(seed)):
        taken.setdefault("step", []).append(spent)
        taken.setdefault(f"step: {kind}", []).append(spent)
        taken.setdefault("next_wakeup", []).append(wake)
    return {kind: _figures(sorted(times)) for kind, times in taken.items()}


def _figures(times: list[float]) -> dict[str, float]:
    micro = [round(seconds * 1e6, 1) for seconds in times]
    return {
        "p50_us": micro[len(micro) // 2],
        "p99_us": micro[int(len(micro) * 0.99)],
        "most_us": micro[-1],
        "n": len(micro),
    }


def _played(steps: int, rnd: random.Random) -> Iterator[tuple[str, float, float]]:
    specs = [
        ModelSpec(f"m{n}", claim={f"gpu{n % CARDS}": rnd.randint(3, 12)}, slots=4, expected=20.0) for n in range(MODELS)
    ]
    policy = Policy(queue_limit=10**9, queue_per_key=10**9, queue_timeout=1e9)
    fleet = Fleet(specs, [Device(f"gpu{n}", 24) for n in range(CARDS)], policy)
    now, tickets, coming = 0.0, 0, list[tuple[float, Event]]()
    for _ in range(steps):
        now += STEP
        events: list[Event] = []
        if len(fleet.queued) < WAITING:
            tickets += 1
            who, session = f"key{tickets % 7}", f"session{tickets % 20}"
            events.append(Arrived(Ticket(tickets, f"m{rnd.randrange(MODELS)}", now, key=who, session=session)))
        events += [event for at, event in coming if at <= now]
        coming = [(at, event) for at, event in coming if at > now]
        due = next_wakeup(fleet, now)
        if due is not None and due <= now + STEP:
            now = max(now, due)
            events.append(Tick())
        for event in events:
            began = time.thread_time()
            actions = step(fleet, event, now)
            decided = time.thread_time()
            next_wakeup(fleet, now)
            done = time.thread_time()
            if len(fleet.queued) >= WAITING - 10:
                yield type(event).__name__, decided - began, done - decided
            coming += [(now + after, event) for action in actions for after, event in _answer(action, rnd)]


def _answer(action: object, rnd: random.Random) -> Iterator[tuple[float, Event]]:
    if isinstance(action, Start):
        yield 20.0, BecameReady(action.instance, 4, 20.0)
    elif isinstance(action, Stop):
        yield 1.0, Exited(action.instance, "", expected=True)
    elif isinstance(action, Grant):
        yield rnd.expovariate(1 / 8), Departed(action.ticket.id)


def table(found: dict[str, dict[str, float]]) -> str:
    lines = [f"| decision ({MODELS} models, {WAITING} waiting) | p50 | p99 | most | of |", "|---|---|---|---|---|"]
    for kind, row in found.items():
        lines.append(
            f"| `{kind}` | {row['p50_us']:.0f} µs | {row['p99_us']:.0f} µs | {row['most_us']:.0f} µs | {row['n']:.0f} |"
        )
    return "\n".join(lines)
