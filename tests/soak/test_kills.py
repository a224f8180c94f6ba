"""Roundhouse killed with -9 at random moments under load (spec E1, E3): nothing is lost, nothing leaks, nobody else is hurt.

Five kills in the default suite; `make soak` sets ROUNDHOUSE_SOAK=100.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time

import pytest

from tests.support import fake_engine
from tests.support.house import Place, Running, Scripted, free_port
from tests.support.processes import Watched, none_left

KILLS = int(os.environ.get("ROUNDHOUSE_SOAK", "5"))
GRACE = 2.0


class Load(threading.Thread):
    """A client that asks for the models in turn and does not mind errors: the server is being killed."""

    def __init__(self, port: int, models: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self.port, self.models, self.random = port, models, random.Random(seed)
        self.stopped = threading.Event()
        self.answered = 0

    def run(self) -> None:
        while not self.stopped.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.ask(self.random.choice(self.models))

    def ask(self, model: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = {"model": model, "stream": self.random.random() < 0.5, "messages": [{"role": "user", "content": "hi"}]}
        body["fake"] = {"tokens": 5, "delay": 0.01}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            self.answered += answer.status == 200 and bool(answer.read())
        finally:
            connection.close()


def reach(loads: list[Load], answers_wanted: int, seconds: float) -> None:
    """Returns when the clients have so many answers together, or when the time is up."""
    limit = time.monotonic() + seconds
    while sum(load.answered for load in loads) < answers_wanted and time.monotonic() < limit:
        time.sleep(0.005)


def state(port: int) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def leaving(running: Running) -> set[str]:
    """Models whose engine was being stopped, or had just been, by what the program last said of them."""
    last = {
        line["model"]: line["event"]
        for line in running.log_lines()
        if line["event"] in {"loading model", "unloading model"}
    }
    return {model for model, event in last.items() if event == "unloading model"}


def answers(port: int) -> bool:
    """Whether an engine says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def serving(models: list[Scripted]) -> dict[str, int]:
    """Pid of each model's engine that runs and is ready, as the engine itself tells."""
    found = {}
    for model in models:
        starts = model.notes("start")
        if starts and answers(int(starts[-1]["port"])):
            found[model.name] = int(starts[-1]["pid"])
    return found


@pytest.fixture
def bystanders(tmp_path):
    """Processes that look like ours and are not: the same program, and one marked by another installation."""
    programs = []
    for mark in ("", "ffffffffffffffff:a"):
        env = {**os.environ, "ROUNDHOUSE_ENGINE": mark} if mark else dict(os.environ)
        argv = [
            sys.executable,
            "-S",
            fake_engine.__file__,
            "--port",
            str(free_port()),
            "--record",
            str(tmp_path / "other"),
        ]
        programs.append(subprocess.Popen(argv, env=env))
    yield programs
    for program in programs:
        program.kill()
        program.wait()


@pytest.mark.timeout(60 + 30 * KILLS)
def test_e1_e3_kills_at_random_moments_lose_and_leak_nothing(bystanders):
    place = Place()
    models = [
        Scripted(place.folder, "a", memory="40MiB"),
        Scripted(place.folder, "b", memory="40MiB"),
        Scripted(place.folder, "small", memory="1MiB"),
    ]
    place.write(models, devices={"ram": "64MiB"}, scheduling={"orphan_grace": f"{GRACE}s"})
    chance = random.Random(20261122)
    running = Running(place)
    running.start()
    adopted = vanished = late = 0
    try:
        for kill in range(KILLS):
            loads = [Load(place.port, [m.name for m in models], seed=kill * 10 + n) for n in range(3)]
            for load in loads:
                load.start()
            reach(loads, answers_wanted=chance.randint(0, 25), seconds=10)
            time.sleep(chance.uniform(0.0, 0.2))  # not to synchronise: the moment of the kill is what is random here
            running.kill()
            killed = time.monotonic()
            on_the_way_out = leaving(running)
            for load in loads:
                load.stopped.set()
            comes_back = chance.random() < 0.7
            if comes_back:
                before = serving(models)
                held = {name: Watched(pid) for name, pid in before.items()}
                running.start()
                was_late = time.monotonic() - killed > GRACE  # a slow machine; then the engines had to end
                now = state(place.port)["models"]
                for name, pid in before.items():
                    if name in on_the_way_out:
                        vanished += held[name].gone()
                    elif now[name].get("pid") == pid:
                        adopted += 1
                    else:
                        late += 1
                        assert was_late, f"kill {kill}: {name} was not adopted: {before} became {now}"
            else:
                assert none_left(place.install, within=GRACE + 25) == [], f"kill {kill}"
                running.start()
            for load in loads:
                load.join(timeout=30)
    finally:
        running.end()
    assert none_left(place.install) == []
    assert all(program.poll() is None for program in bystanders), "a process that is not ours was touched"
    place.remove()
    print(
        f"{KILLS} kills: {adopted} engines adopted, {vanished} were on their way out, {late} came too late, none left"
    )
