"""Conversations over switches (spec D11), with a real llama-server: the same answers as without, for their own key only.

Ten switches in the default suite; `make soak` sets ROUNDHOUSE_SESSIONS=500, with kills of Roundhouse and of engines, and
the demo's models after the tiny ones. ROUNDHOUSE_SESSIONS_SEED="6 7" gives other orders.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from roundhouse.api.auth import hash_key
from roundhouse.demo.run import default_cache, prepare
from tests.support.house import Place, Running
from tests.support.processes import none_left
from tests.support.real_engine import real_build
from tests.support.tiny_listener import LETTERS, write_tiny_listener
from tests.support.uninterrupted import Conversation, Plain, Played, Talks, plain

SWITCHES = int(os.environ.get("ROUNDHOUSE_SESSIONS", "10"))
SEEDS = [int(seed) for seed in os.environ.get("ROUNDHOUSE_SESSIONS_SEED", "4").split()]
SOAKS = "ROUNDHOUSE_SESSIONS" in os.environ
BUDGET_MIB = 4
"""A few conversations of the tiny models: some have to go."""
DEMO_BUDGET_MIB = 60
GRACE = 2.0
KEYS = ("anna", "bert")
FLAGS = ("--device", "none", "--cache-ram", "0")
ORDINARY = {"turn": 10, "two": 2, "ask": 2, "unload": 2, "task": 3, "overhear": 2, "listen": 2}
KILLS = {"kill": 1, "kill engine": 1}
TEMPLATE = 16
"""Tokens with which every prompt begins: a key may find its own ones of them in a slot."""
MIB = 2**20
ENGLISH = [
    "the",
    "train",
    "a",
    "bridge",
    "river",
    "old",
    "town",
    "and",
    "then",
    "under",
    "red",
    "people",
    "wait",
    "stations",
]

pytestmark = pytest.mark.real


@dataclass
class Heard:
    """An answer: its text, how many tokens of the prompt came from a cache, and of how many."""

    text: str
    cached: int
    prompt: int


@dataclass
class Seen:
    """What happened."""

    steps: Counter[str] = field(default_factory=Counter)
    switches: int = 0
    answers: int = 0
    other: Counter[str] = field(default_factory=Counter)
    returns: list[float] = field(default_factory=list)
    """Parts of their last prompt that conversations found in the cache when they came back to a started engine."""
    most: int = 0
    evicted: int = 0


class Player:
    """Takes random steps, one after the other, and holds every answer against the uninterrupted one."""

    def __init__(self, running: Running, talks: Talks, plains: Mapping[str, Plain], budget: int, seed: int) -> None:
        self._running, self._talks, self._plains, self._budget = running, talks, plains, budget
        self._chance = random.Random(f"steps {seed}")
        self._loaded: str | None = None
        self.seen = Seen()

    @property
    def ties(self) -> dict[str, float]:
        """Nats between two words that rounding may turn around, per model."""
        return {name: round(server.tie, 3) for name, server in self._plains.items()}

    def step(self, kinds: Mapping[str, int]) -> None:
        """One step, and what has to hold after each."""
        kind = self._chance.choices(list(kinds), list(kinds.values()))[0]
        talk = self._talks.next()
        if kind == "turn":
            self._turn(talk)
        elif kind == "ask":
            self._ask(talk, [{"role": "user", "content": "a b c"}])
        elif kind == "unload":
            self._unload(talk.model)
        elif kind == "task":
            title = [{"role": "user", "content": f"### Task:\na title for {talk.asked[0]}"}]
            self._ask(talk, title, {"x-roundhouse-task": "title_generation"})
        elif kind == "two":
            self._two(talk)
        elif kind == "overhear":
            self._overhear(talk)
        elif kind == "listen":
            self._listen(talk)
        elif kind == "kill":
            self._kill(talk)
        else:
            self._kill_engine(talk)
        self.seen.steps[kind] += 1
        self._look()

    def _turn(self, talk: Conversation) -> None:
        heard, comes_back = self._ask(talk, talk.messages(talk.turn))
        self._compare(talk, heard)
        if comes_back and talk.turn:
            self.seen.returns.append(heard.cached / heard.prompt)
        talk.turn += 1

    def _two(self, talk: Conversation) -> None:
        """Turns of two conversations at once: of one model or two, of one key or two."""
        while (other := self._talks.next()) is talk:
            pass
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._turn, (talk, other)))

    def _compare(self, talk: Conversation, heard: Heard) -> None:
        self.seen.answers += 1
        if heard.text != (right := talk.answers[talk.turn]):
            why = self._plains[talk.model].judge(talk, talk.turn, heard.text)
            told = (
                f"{talk.key} and {talk.model}, turn {talk.turn}, {heard.cached} of {heard.prompt} tokens from a cache"
            )
            told += f", {self._plains[talk.model].gap:.3f} nats where {self._plains[talk.model].tie:.3f} may be"
            assert why, f"{told}: {heard.text!r} instead of {right!r}\n{self._running.log()[-3000:]}"
            self.seen.other[why] += 1

    def _ask(
        self, talk: Conversation, messages: list[dict], headers: Mapping[str, str] = {}, key: str | None = None
    ) -> tuple[Heard, bool]:
        """An answer, and whether its engine had to be started."""
        started = self._is_out(talk.model)
        for _ in range(3):
            if (heard := self._request(talk, messages, headers, key or talk.key)) is not None:
                break
            while pause := self._health()["models"][talk.model].get("retry_in"):
                time.sleep(pause)  # killed three times within ten minutes: its backoff has to pass (spec A9)
        assert heard is not None, f"no answer from {talk.model}\n{self._running.log()[-3000:]}"
        self.seen.switches += started and self._loaded not in {None, talk.model}
        self._loaded = talk.model
        return heard, started

    def _request(
        self, talk: Conversation, messages: list[dict], headers: Mapping[str, str], key: str, choices: int = 1
    ) -> Heard | None:
        """None when the answer did not come whole, as after a kill."""
        body = self._talks.body(talk.model, messages) | {"model": talk.model, "stream": self._chance.random() < 0.5}
        if choices > 1:
            body["n"] = min(choices, self._talks.slots(talk.model))
        connection = http.client.HTTPConnection("127.0.0.1", self._running.place.port, timeout=60)
        ours = {"content-type": "application/json", "authorization": f"Bearer {secret(key)}", **headers}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), ours)
            reply = connection.getresponse()
            data = reply.read()
            return read(data) if reply.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _overhear(self, talk: Conversation) -> None:
        """Another key sends this conversation, word for word, to an engine that was started for it: nothing is there."""
        if talk.overheard or not talk.turn:
            return
        talk.overheard = True
        self._unload(talk.model)
        other = next(key for key in KEYS if key != talk.key)
        heard, _ = self._ask(talk, talk.messages(talk.turn), key=other)
        assert heard.cached == 0, f"{other} was given {heard.cached} tokens of {talk.key}'s with {talk.model}"
        self._compare(talk, heard)

    def _listen(self, talk: Conversation) -> None:
        """The same while the engine that has just answered still holds it, for one answer or for two."""
        if talk.overheard or not talk.turn:
            return
        talk.overheard = True
        self._ask(talk, talk.messages(talk.turn - 1))
        other = next(key for key in KEYS if key != talk.key)
        messages, choices = talk.messages(talk.turn - 1), self._chance.choice((1, 2))
        heard = self._request(talk, messages, {}, other, choices)
        assert heard is not None, f"no answer from {talk.model}\n{self._running.log()[-3000:]}"
        assert heard.cached <= TEMPLATE, f"{other} was given {heard.cached} tokens of {talk.key}'s with {talk.model}"

    def _unload(self, model: str) -> None:
        reply = self._admin("POST", f"/api/v1/models/{model}/unload")
        assert reply["state"] in {"unloaded", "failed"}, reply

    def _kill(self, talk: Conversation) -> None:
        """Roundhouse ends while it answers, and comes back in time for its engines, or after they have ended."""
        client = threading.Thread(target=self._turn_or_nothing, args=(talk,))
        client.start()
        time.sleep(self._chance.uniform(0.0, 0.4))  # not to synchronise: the moment of the kill is what is random here
        self._running.kill()
        client.join(90)
        if self._chance.random() < 0.3:
            assert none_left(self._running.place.install, within=GRACE + 25) == []
        self._running.start()

    def _kill_engine(self, talk: Conversation) -> None:
        client = threading.Thread(target=self._turn_or_nothing, args=(talk,))
        client.start()
        time.sleep(self._chance.uniform(0.0, 0.4))  # as above
        if pid := self._health()["models"][talk.model].get("pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                # Who asks before its end is noticed may get a 502: the engine could have had the request.
                while self._health()["models"][talk.model].get("pid") == pid:
                    time.sleep(0.02)
        client.join(90)

    def _turn_or_nothing(self, talk: Conversation) -> None:
        heard = self._request(talk, talk.messages(talk.turn), {}, talk.key)
        if heard is not None:
            self._compare(talk, heard)

    def _is_out(self, model: str) -> bool:
        return self._health()["models"][model]["state"] != "ready"

    def _health(self) -> dict:
        return self._admin("GET", "/api/v1/state")

    def _admin(self, method: str, path: str) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self._running.place.port, timeout=60)
        try:
            connection.request(method, path, headers={"authorization": f"Bearer {secret('root')}"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def conversations(self) -> dict[str, dict]:
        """What the state says of each model's conversations."""
        return {name: model["conversations"] for name, model in self._health()["models"].items()}

    def _look(self) -> None:
        """What lies on the disk: within the budget, and for nobody else's eyes."""
        place = self._running.place.state / "sessions"
        if not place.exists():
            return
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        held = sizes(place)
        states = {path.name: size for path, size in held.items() if path.suffix in {".kv", ".part"}}
        self.seen.most = max(self.seen.most, sum(states.values()))
        assert sum(states.values()) <= self._budget, states
        for path in held:
            with contextlib.suppress(FileNotFoundError):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def sizes(folder: Path) -> dict[Path, int]:
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[path] = path.stat().st_size
    return found


def read(data: bytes) -> Heard | None:
    """A whole answer, sent as one or as events; None if it is an error or was cut."""
    if data.startswith(b"{"):
        whole = json.loads(data)
        timings = whole["timings"]
        return Heard(whole["choices"][0]["message"]["content"], timings["cache_n"], asked(timings))
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n") if line.startswith(b"data: ")]
    if not lines or lines[-1] != b"[DONE]":
        return None
    events = [json.loads(line) for line in lines[:-1]]
    if any("error" in event for event in events):
        return None
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    timings = next(event["timings"] for event in reversed(events) if "timings" in event)
    return Heard(text, timings["cache_n"], asked(timings))


def asked(timings: dict) -> int:
    return timings["cache_n"] + timings["prompt_n"]


def secret(key: str) -> str:
    return f"sk-{key}-of-the-soak"


def letters(chance: random.Random, count: int) -> str:
    return " ".join(chance.choice(LETTERS) for _ in range(count))


def english(chance: random.Random, count: int) -> str:
    return " ".join(chance.choice(ENGLISH) for _ in range(count))


def tiny_models(folder: Path) -> dict[str, Played]:
    """Full attention, a sliding window, and a twin: the same shape, so only its weights say that it is another model."""
    common = {"context": 2048, "args": ("-t", "1", *FLAGS), "tokens": 12, "words": letters}
    return {
        "full": Played(write_tiny_listener(folder / "full.gguf", 1), slots=1, **common),
        "twin": Played(write_tiny_listener(folder / "twin.gguf", 2), slots=2, **common),
        "window": Played(write_tiny_listener(folder / "window.gguf", 3, window=64), slots=1, swa_full=True, **common),
    }


def demo_models(_folder: Path) -> dict[str, Played]:
    assets = prepare(default_cache(os.environ), Console(stderr=True), os.environ)
    common = {"context": 2048, "slots": 1, "tokens": 12, "words": english}
    template = ("--chat-template-file", str(assets.template))
    return {
        "smollm2": Played(assets.smollm2, args=FLAGS, **common),
        "gemma3": Played(assets.gemma3, args=(*template, *FLAGS), swa_full=True, **common),
    }


def write_config(place: Place, models: Mapping[str, Played], budget_mib: int) -> None:
    written = {
        name: {
            "path": str(played.path), "context": played.context, "slots": played.slots, "args": list(played.args),
            "memory": "600MiB",
        }
        for name, played in models.items()
    }  # fmt: skip
    keys = [{"name": key, "hash": hash_key(secret(key)), "admin": key == "root"} for key in (*KEYS, "root")]
    place.write(
        written,
        devices={"ram": "650MiB"},  # one of them, also when they were measured
        engines={"llamacpp": {"binary": real_build().argv[0]}},
        status={"channel": "off"},
        performance="off",
        keys=keys,
        scheduling={"orphan_grace": f"{GRACE}s", "linger": "off"},
        sessions={"store": "disk", "budget": f"{budget_mib}MiB"},
    )


@contextlib.contextmanager
def plains_of(models: Mapping[str, Played], folder: Path) -> Iterator[dict[str, Plain]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(plain(real_build(), played, folder / f"plain-{name}.log"))
            for name, played in models.items()
        }


def story(title: str, player: Player, seconds: float) -> str:
    seen, kept = player.seen, player.conversations()
    found = sorted(seen.returns)
    good = sum(part >= 0.8 for part in found)
    steps = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.steps.items()))
    return (
        f"\n{title}: {seen.switches} switches ({steps}); {seen.answers} answers compared, "
        f"{dict(seen.other) or 'none'} differ by llama.cpp's own rounding (below {player.ties} nats); of {len(found)} returns to a started engine "
        f"{good} found 80 % of their prompt; at most {seen.most / MIB:.1f} MiB on disk; {kept}; {seconds:.0f} s"
    )


def run(title: str, make, switches: int, budget_mib: int, seed: int, turns: int, tmp_path: Path) -> None:
    if len(real_build().argv) != 1:
        pytest.skip("needs a llama-server program: xllamacpp knows neither slots' files nor all the flags")
    place, begun = Place(), time.monotonic()
    models = make(place.folder)
    write_config(place, models, budget_mib)
    with plains_of(models, tmp_path) as plains:
        for server in plains.values():
            server.measure(random.Random(f"rounding {seed}"))
        talks = Talks(models, plains, list(KEYS), turns, random.Random(f"talks {seed}"))
        with Running(place) as running:
            player = Player(running, talks, plains, budget_mib * MIB, seed)
            while player.seen.switches < switches:
                player.step(ORDINARY | (KILLS if SOAKS else {}))
            kept = player.conversations()
            print(story(title, player, time.monotonic() - begun))
            assert sum(model["restored"] for model in kept.values()), kept
            assert not any(model["off"] for model in kept.values()), kept
            running.end()
            left_over(place)


def left_over(place: Place) -> None:
    """Each file has its description, with its size, and nothing else lies there."""
    held = sizes(place.state / "sessions")
    told = {path.stem: json.loads(path.read_text()) for path in held if path.suffix == ".json"}
    assert {path.name for path in held} == {f"{name}.{end}" for name in told for end in ("json", "kv")}
    assert {path.stem: size for path, size in held.items() if path.suffix == ".kv"} == {
        name: about["size"] for name, about in told.items()
    }
    assert {about["owner"] for about in told.values()} <= set(KEYS)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.timeout(60 + 10 * SWITCHES)
def test_d11_conversations_survive_switches_word_for_word(seed, tmp_path):
    run(f"tiny models, seed {seed}", tiny_models, SWITCHES, BUDGET_MIB, seed, 8, tmp_path)


@pytest.mark.skipif(not SOAKS, reason="takes some minutes: run it with `make soak`")
@pytest.mark.timeout(60 + 20 * SWITCHES)
def test_d11_conversations_of_real_models_survive_switches(tmp_path):
    run("SmolLM2 and gemma-3", demo_models, max(1, SWITCHES // 5), DEMO_BUDGET_MIB, SEEDS[0], 5, tmp_path)
