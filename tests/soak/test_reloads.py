"""Random edits of the configuration under load (spec E4): no stream breaks, and nothing restarts without need.

Ten edits in the default suite; `make soak` sets ROUNDHOUSE_RELOADS=200.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.house import Place, Running, Scripted

if TYPE_CHECKING:
    from tests.support.wire import Api

EDITS = int(os.environ.get("ROUNDHOUSE_RELOADS", "10"))
NAMES = [f"m{number}" for number in range(6)]
CLIENTS = 8
RESTARTING = ("env", "context", "health")
"""Edits that change how an engine runs; all others must restart nothing."""
HARMLESS = ("description", "aliases", "priority", "ttl", "pinned", "set", "order", "comment", "queue", "status")


@dataclass
class Tally:
    streams: int = 0
    broken: list[str] = field(default_factory=list)
    refused: int = 0
    edits: dict[str, int] = field(default_factory=dict)
    restarts: int = 0


class World:
    """The file as it is meant to be, what each engine was started with, and the clients."""

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        self.random = random.Random(seed)
        self.models = {name: Scripted(place.folder, name, ttl="1h") for name in NAMES}
        self.present = set(NAMES[:4])
        self.applied: set[str] = set()  # models that Roundhouse has been told of
        self.top: dict[str, object] = {"reload": {"watch": False}, "devices": {"ram": "4GiB"}}
        self.comment = ""
        self.order = list(NAMES)
        self.tally = Tally()

    def write(self) -> None:
        self.place.write([self.models[n] for n in self.order if n in self.present], **self.top)
        self.place.file.write_text(f"# {self.comment}\n{self.place.file.read_text()}")

    def edit(self, number: int) -> set[str]:
        """Changes one thing. Returns the models that must restart if they are loaded."""
        kind = self.random.choice([*RESTARTING, *HARMLESS, "add", "remove"])
        self.tally.edits[kind] = self.tally.edits.get(kind, 0) + 1
        name = self.random.choice(sorted(self.present))
        config = self.models[name].config
        match kind:
            case "env":
                config["env"] = {"EDIT": str(number)}
            case "context":
                config["context"] = 1000 + number
            case "health":
                config["health"] = f"/health?edit={number}"
            case "add" if len(self.present) < len(NAMES):
                self.present.add(self.random.choice(sorted(set(NAMES) - self.present)))
            case "remove" if len(self.present) > 2:
                self.present.remove(name)
            case "order":
                self.random.shuffle(self.order)
            case "comment":
                self.comment = f"edit {number}"
            case "queue":
                self.top["scheduling"] = {"queue": {"limit": 400 + number}}
            case "status":
                self.top["status"] = {"every": f"{1 + number % 5}s"}
            case "description" | "set":
                config[kind] = f"edit {number}" if kind == "description" else {"seed": number}
            case "aliases":
                config["aliases"] = [f"{name}-{number}"]
            case "priority" | "pinned" | "ttl":
                config[kind] = {"priority": number % 9, "pinned": number % 2 == 0, "ttl": f"{1 + number % 3}h"}[kind]
        self.write()
        return {name} if kind in RESTARTING else set()

    async def client(self, api: Api, seed: int, over: asyncio.Event) -> None:
        """Streams from random models, one after another, until it is over."""
        rng = random.Random(seed)
        while not over.is_set():
            name = rng.choice(NAMES)
            tokens = [f"{name}.{number} " for number in range(rng.randint(3, 40))]
            known = name in self.applied
            async with api.stream(name, fake={"tokens": tokens, "delay": 0.005}) as answer:
                if answer.status == 404:
                    if known and name in self.present:
                        self.tally.broken.append(f"{name}: 404 although it is configured")
                    self.tally.refused += 1
                    await asyncio.sleep(0.01)  # not to synchronise: a client of its own pace
                    continue
                if answer.status != 200:
                    self.tally.broken.append(f"{name}: {answer.status} {(await answer.rest()).decode()}")
                    continue
                events = await answer.events()
            if [error["code"] for error in events.errors] == ["model_not_found"] and not events.text_of_answer:
                self.tally.refused += 1  # removed while it waited
            elif events.text_of_answer != "".join(tokens) or not events.done or events.errors:
                self.tally.broken.append(f"{name}: {answer.status} {events.errors} {events.text_of_answer!r}")
            else:
                self.tally.streams += 1


async def all_loaded(api: Api, names: set[str]) -> None:
    """Every configured model is ready, and none that is not configured lives."""
    async with asyncio.timeout(60):
        while True:
            models = (await api.health())["models"]
            if set(models) == names and all(model["state"] == "ready" for model in models.values()):
                return
            for name in names:
                if models.get(name, {}).get("state") == "unloaded":
                    await api.post(f"/api/v1/models/{name}/load")
            await asyncio.sleep(0.02)


async def test_e4_random_edits_under_load_break_no_stream_and_restart_nothing_without_need(capsys):
    place, seed = Place(), 20261201
    world = World(place, seed)
    world.write()
    over = asyncio.Event()
    with Running(place) as running:
        api = running.api
        await all_loaded(api, world.present)
        world.applied = set(world.present)
        starts = {name: world.models[name].starts for name in NAMES}
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(world.client(api, seed + number, over))
            for number in range(EDITS):
                before = set(world.present)
                must = world.edit(number)
                told = (await api.post("/api/v1/reload")).json()
                assert told["applied"], told
                assert set(told["restarts"]) == must, told
                world.applied = set(world.present)
                await all_loaded(api, world.present)
                for name in NAMES:
                    fresh = name in world.present and (name in must or name not in before)
                    starts[name] += fresh
                    assert world.models[name].starts == starts[name], f"edit {number}: {name} {told['changes']}"
                world.tally.restarts += len(must)
            over.set()
        assert "Traceback" not in running.log()
    tally = world.tally
    with capsys.disabled():
        print(f"\n{EDITS} edits {tally.edits}: {tally.streams} streams, {len(tally.broken)} broken, {tally.refused} "
              f"of models that were not there, {tally.restarts} restarts, all of them needed")  # fmt: skip
    assert tally.broken == []
    assert tally.streams > EDITS
