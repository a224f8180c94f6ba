"""Made-up traffic played through a `Box`: engines load, answer and end in their time, and every oracle looks on.

Beside those it checks the bound of every wait (spec D4): a model that is not overloaded itself is served within

    W + N x (quantum + D + L)

W its `max_wait`, N the models that may come before it, quantum the longest turn, D the longest answer, L the longest
load with the stop before it. That is what turns promise, whatever the others ask.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.core.model import Device, Grant, ModelSpec, Phase, Policy, Start, Stop
from roundhouse.core.planner import next_wakeup
from tests.core.box import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.core.model import Fleet

STOP = 1.0
"""Seconds from being told to stop until the memory is back."""


@dataclass
class Client:
    """Asks one model, again and again: after a think time (`rate` None), or whether it was answered or not."""

    model: str
    answer: float
    think: float = 3.0
    rate: float | None = None
    task: bool = False
    key: str = ""


@dataclass
class Traffic:
    """A box with its clients; `seconds` of virtual time."""

    box: Box
    clients: list[Client]
    loads: dict[str, float]
    seconds: float
    rnd: random.Random
    waits: dict[str, float] = field(default_factory=dict)
    answers: float = 0.0
    done: int = 0

    def play(self) -> None:
        self._events: list[tuple[float, int, str, object]] = []
        self._count = 0
        self._owner: dict[int, Client] = {}
        self._came: dict[int, float] = {}
        self._start = self.box.now
        for client in self.clients:
            self._at(self._start + self.rnd.uniform(0, 10), "ask", client)
        self._watch_actions()
        while self._events and self._events[0][0] <= self._start + self.seconds:
            at, _, what, who = heapq.heappop(self._events)
            while self.box.now < at:
                due = next_wakeup(self.box.fleet, self.box.now)
                self.box.passes(at - self.box.now if due is None else min(at, due) - self.box.now)
            getattr(self, f"_{what}")(who)
        for number, ticket in self.box.waiting.items():
            if not ticket.task:
                self._waited(self._owner[number].model, self.box.now - self._came[number])

    def _at(self, at: float, what: str, who: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, what, who))

    def _watch_actions(self) -> None:
        """Engines do what they are told."""
        after = self.box._after  # the box's own look at the picture after a step

        def look_and_act(event: object, before: Fleet, actions: list) -> None:
            after(event, before, actions)
            for action in actions:
                self._act(action)

        self.box._after = look_and_act  # type: ignore[method-assign]

    def _act(self, action: object) -> None:
        if isinstance(action, Start):
            self._at(self.box.now + self.loads[action.model], "ready", action.instance)
        elif isinstance(action, Stop):
            self._at(self.box.now + STOP, "gone", action.instance)
        elif isinstance(action, Grant):
            ticket = action.ticket
            if not ticket.task:
                self._waited(ticket.model, self.box.now - ticket.arrived)
            length = self._owner_of(ticket.id).answer * self.rnd.lognormvariate(-0.18, 0.6)
            self.answers = max(self.answers, length)
            self._at(self.box.now + length, "answered", ticket.id)

    def _owner_of(self, number: int) -> Client:
        return self._owner.get(number) or self._asking

    def _ask(self, client: object) -> None:
        assert isinstance(client, Client)
        self._asking = client
        number = self.box.arrives(client.model, key=client.key, task=client.task, session=str(id(client)))
        self._owner[number], self._came[number] = client, self.box.now
        if client.rate is not None:
            self._at(self.box.now + self.rnd.expovariate(client.rate), "ask", client)
        elif number not in self.box.waiting and number not in self.box.answering:  # refused
            self._at(self.box.now + client.think, "ask", client)

    def _answered(self, number: object) -> None:
        assert isinstance(number, int)
        self.done += 1
        self.box.departs(number)
        client = self._owner[number]
        if client.rate is None:
            self._at(self.box.now + client.think * self.rnd.lognormvariate(-0.08, 0.4), "ask", client)

    def _ready(self, instance: object) -> None:
        assert isinstance(instance, int)
        engine = self.box.engines.get(instance)
        if engine is not None and not engine.stopped:
            self.box.becomes_ready(instance, engine.slots, self.loads[engine.model])

    def _gone(self, instance: object) -> None:
        assert isinstance(instance, int)
        self.box.exits(instance, expected=True)

    def _waited(self, model: str, seconds: float) -> None:
        self.waits[model] = max(self.waits.get(model, 0.0), seconds)

    # --- the bound ---

    def overloaded(self) -> set[str]:
        """Models that are asked for more than their slots can answer, or have a queue at the end that tells so."""
        found = set()
        for name, spec in self.box.specs.items():
            asked = sum(c.answer * (c.rate or 1 / (c.answer + c.think)) for c in self.clients if c.model == name)
            waiting = sum(1 for t in self.box.waiting.values() if t.model == name and not t.task)
            if asked > 0.5 * (spec.slots or 1) or waiting > 3 * (spec.slots or 1):
                found.add(name)
        return found

    def bound(self, model: str) -> float:
        policy, count = self.box.policy, len(self.box.specs)
        load = self.loads[model]
        wait = policy.max_wait if policy.max_wait is not None else max(60.0, 5 * load)
        longest = max(self.loads.values())
        return wait + count * (2 * longest + self.answers + longest + 2 * STOP)

    def check_bound(self) -> None:
        loaded = [m.instance for m in self.box.fleet.models.values() if m.instance is not None]
        assert all(i.phase in Phase for i in loaded)
        overloaded = self.overloaded()
        for model, waited in self.waits.items():
            if model not in overloaded:
                assert waited <= self.bound(model), f"{model} waited {waited:.0f} s, bound {self.bound(model):.0f} s"


def traffics(first: int, count: int) -> Iterator[Traffic]:
    """Boxes and clients of all kinds, by seed."""
    for seed in range(first, first + count):
        yield traffic(seed)


def traffic(seed: int) -> Traffic:
    rnd = random.Random(seed)
    names = "ABCDE"[: rnd.choice([2, 3, 3, 4, 5])]
    cards = {f"gpu{n}": 24 for n in range(rnd.choice([1, 1, 1, 2]))}
    loads = {name: rnd.choice([2.0, 5.0, 10.0, 20.0, 40.0]) for name in names}
    specs = [
        ModelSpec(
            name,
            claim={rnd.choice(list(cards)): rnd.choice([6, 10, 13, 20, 24])},
            slots=rnd.choice([1, 2, 4]),
            expected=rnd.choice([None, loads[name]]),
            priority=0,
        )
        for name in names
    ]
    policy = Policy(
        queue_limit=10**9,
        queue_per_key=10**9,
        queue_timeout=1e9,
        max_wait=rnd.choice([None, None, 30.0, 120.0]),
        linger=rnd.choice([None, None, 0.0, 4.0]),
    )
    clients = [_client(rnd, rnd.choice(names)) for _ in range(rnd.randint(1, 7))]
    if rnd.random() < 0.3:
        clients.append(Client(names[0], 6.0, rate=1 / rnd.uniform(1.2, 8.0), key="busy"))
    if rnd.random() < 0.3:
        clients.append(Client(rnd.choice(names), 1.5, rate=1 / 20, task=True))
    box = Box(specs, [Device(name, size) for name, size in cards.items()], policy)
    return Traffic(box, clients, loads, rnd.choice([300.0, 600.0]), rnd)


def _client(rnd: random.Random, model: str) -> Client:
    answer, key = rnd.choice([2.0, 6.0, 12.0]), rnd.choice(["", "ann", "bob"])
    if rnd.random() < 0.6:
        return Client(model, answer, think=rnd.choice([1.0, 3.0, 8.0, 30.0]), key=key)
    return Client(model, answer, rate=1 / rnd.uniform(15.0, 150.0), key=key)
