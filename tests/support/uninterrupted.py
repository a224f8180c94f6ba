"""Conversations as they go when nothing comes between their turns, played against a plain llama-server: what is right.

Greedy answers are the same in every run if the numbers are; llama.cpp's are not bit by bit when a prompt is computed in
other batches. So an answer that differs is asked for again, from the whole prompt at once, and judged by how near the two
words were to each other where it parts.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from roundhouse.ports import Build, Command
from tests.support.real_engine import Server, free_port, running

TIE = 0.05
"""Nats between two words that rounding may turn around, at least: what batches change depends on model and processor."""
PAIRS = 16
"""Prompts by which that is measured."""


@dataclass(frozen=True)
class Played:
    """A model to talk to: its file, what the engine is told about it, the length of answers, how users speak."""

    path: Path
    context: int
    slots: int
    args: tuple[str, ...]
    tokens: int
    words: Callable[[random.Random, int], str]
    swa_full: bool = False
    first: tuple[int, int] = (150, 500)
    later: tuple[int, int] = (5, 60)
    """Fewest and most words of the first message of a conversation, and of those after it."""

    def body(self, messages: list[dict]) -> dict:
        return {"messages": messages, "max_tokens": self.tokens, "temperature": 0, "seed": 1}


@dataclass
class Conversation:
    """What one key says to one model, and what it is to hear. `turn`: the next one to be played."""

    key: str
    model: str
    asked: list[str]
    answers: list[str] = field(default_factory=list)
    turn: int = 0
    overheard: bool = False

    def messages(self, turn: int) -> list[dict]:
        """With the right answers so far, whatever was heard: each turn is judged by itself."""
        said = []
        for number in range(turn):
            said.append({"role": "user", "content": self.asked[number]})
            said.append({"role": "assistant", "content": self.answers[number]})
        return [*said, {"role": "user", "content": self.asked[turn]}]


class Plain:
    """A llama-server for one model with nobody between it and us, which keeps each conversation's prefix."""

    def __init__(self, server: Server, played: Played) -> None:
        self._server, self._played = server, played
        self.tie = TIE
        self.gap = 0.0
        """Nats by which the last answer that was judged differed."""

    def measure(self, chance: random.Random) -> None:
        """How much the words' chances move when only the template before a prompt was computed in another batch."""
        for _ in range(PAIRS):
            before, prompt = ([{"role": "user", "content": self._played.words(chance, 200)}] for _ in range(2))
            self._ask(before)
            parted = self._chances(prompt)
            whole = self._chances(prompt, cache_prompt=False)
            moved = [abs(parted[word] - whole[word]) for word in parted if word in whole]
            self.tie = max(self.tie, 2 * max(moved, default=0.0))

    def _chances(self, messages: list[dict], **more: object) -> dict[str, float]:
        """Of the likeliest first words, in nats."""
        first = self._ask(messages, logprobs=True, top_logprobs=3, max_tokens=1, **more)["logprobs"]["content"][0]
        return {found["token"]: found["logprob"] for found in first["top_logprobs"]}

    def play(self, conversation: Conversation) -> None:
        """All its turns in a row."""
        for turn in range(len(conversation.asked)):
            conversation.answers.append(self._ask(conversation.messages(turn))["message"]["content"])

    def judge(self, conversation: Conversation, turn: int, heard: str) -> str:
        """Why an answer differs: 'whole prompt', 'template apart' or 'near tie' when llama.cpp's own rounding explains it.

        '' where nothing does.
        """
        self._ask([{"role": "user", "content": "?"}], max_tokens=1)
        if heard == self._ask(conversation.messages(turn))["message"]["content"]:
            return "template apart"  # as after another conversation, whose template alone was found in the slot
        choice = self._ask(conversation.messages(turn), cache_prompt=False, logprobs=True, top_logprobs=8)
        if heard == choice["message"]["content"]:
            return "whole prompt"
        self.gap = self._gap(choice["logprobs"]["content"], heard)
        return "near tie" if self.gap < self.tie else ""

    @staticmethod
    def _gap(tokens: list[dict], heard: str) -> float:
        """Nats from the best token to the heard one, where the answers part; infinite if it was no candidate."""
        said = ""
        for token in tokens:
            if not heard.startswith(said + token["token"]):
                rest = heard[len(said) :]
                others = [t["logprob"] for t in token["top_logprobs"] if t["token"] and rest.startswith(t["token"])]
                return token["logprob"] - max(others, default=-float("inf"))
            said += token["token"]
        return float("inf")

    def _ask(self, messages: list[dict], **more: object) -> dict:
        reply = self._server.ask("/v1/chat/completions", json.dumps(self._played.body(messages) | more).encode())
        assert reply is not None, self._server.lines()[-5:]
        assert reply[0] == 200, reply
        return json.loads(reply[1])["choices"][0]


@contextmanager
def plain(build: Build, played: Played, log: Path) -> Iterator[Plain]:
    """Starts it as Roundhouse would, without what sessions need."""
    port = free_port()
    words = ["-m", str(played.path), "-c", str(played.context * played.slots), "-np", str(played.slots)]
    words += ["-fit", "off", "--port", str(port), "--jinja", *played.args, *(["--swa-full"] if played.swa_full else [])]
    with running(Command((*build.argv, *words), {}), port, log) as server:
        limit = time.monotonic() + 60
        while (reply := server.ask("/health")) is None or reply[0] != 200:
            assert server.process.poll() is None, server.lines()[-5:]
            assert time.monotonic() < limit, server.lines()[-5:]
            time.sleep(0.02)
        yield Plain(server, played)


class Talks:
    """The conversations going on: one that has ended gives way to a new one of the same key and model."""

    def __init__(
        self,
        models: Mapping[str, Played],
        plains: Mapping[str, Plain],
        keys: list[str],
        turns: int,
        chance: random.Random,
    ) -> None:
        self._models, self._plains, self._turns, self._chance = models, plains, turns, chance
        self.going = [self._new(key, model) for model in models for key in keys]

    def _new(self, key: str, model: str) -> Conversation:
        played, chance = self._models[model], self._chance
        sizes = [played.first, *[played.later] * (chance.randint(2, self._turns) - 1)]
        made = Conversation(key, model, [played.words(chance, chance.randint(*size)) for size in sizes])
        self._plains[model].play(made)
        return made

    def body(self, model: str, messages: list[dict]) -> dict:
        """A request as it was played."""
        return self._models[model].body(messages)

    def slots(self, model: str) -> int:
        """Answers that the model can give at once."""
        return self._models[model].slots

    def next(self) -> Conversation:
        """One whose next turn it is."""
        at = self._chance.randrange(len(self.going))
        if self.going[at].turn == len(self.going[at].asked):
            self.going[at] = self._new(self.going[at].key, self.going[at].model)
        return self.going[at]
