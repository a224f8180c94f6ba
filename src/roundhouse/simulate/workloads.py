"""Made-up traffic: clients that come at random, agents that go on when they are answered, people who chat.

The same arguments and seed give the same requests. Lengths of answers and pauses are log-normal: most are near the
mean, a few are far longer.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import TYPE_CHECKING

from roundhouse.simulate.world import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SPREAD = 0.6
"""Standard deviation of the logarithm of an answer's length."""
CHORE_DELAY = 0.2
"""Seconds after a chat's answer at which Open WebUI asks for a title, tags and the like."""


def around(random: Random, mean: float, spread: float = SPREAD) -> float:
    """A log-normal number with this mean."""
    return mean * random.lognormvariate(-spread * spread / 2, spread)


class Poisson:
    """Clients that know nothing of one another: `rates` are requests a second by model, `seconds` a mean answer."""

    def __init__(self, rates: Mapping[str, float], until: float, seed: int, seconds: float = 8.0) -> None:
        random = Random(seed)  # noqa: S311  # made-up traffic that has to be the same each time
        self._requests: list[Request] = []
        for model, rate in rates.items():
            at = random.expovariate(rate)
            while at <= until:
                self._requests.append(Request(at, model, around(random, seconds), key=model))
                at += random.expovariate(rate)

    def first(self) -> Iterable[Request]:
        """All of them."""
        return self._requests

    def follow(self, request: Request, now: float) -> Iterable[Request]:
        """None."""
        return ()


class Agents:
    """Agents, each with a model of its own: `burst` requests with short pauses for their tools, then a long pause.

    Args:
        models: the model of each agent.
        seconds: a mean answer; think: a mean pause between requests; pause: the mean pause after a burst, in seconds.
    """

    def __init__(
        self,
        models: Sequence[str],
        seed: int,
        seconds: float = 6.0,
        think: float = 3.0,
        burst: int = 25,
        pause: float = 120.0,
    ) -> None:
        self._random = Random(seed)  # noqa: S311  # as above
        self._models = models
        self._seconds, self._think, self._burst, self._pause = seconds, think, burst, pause
        self._asked: defaultdict[int, int] = defaultdict(int)

    def first(self) -> Iterable[Request]:
        """The first request of each agent, within the first minute."""
        return [self._request(self._random.uniform(0, 60), agent) for agent in range(len(self._models))]

    def follow(self, request: Request, now: float) -> Iterable[Request]:
        """The agent's next request."""
        agent = request.mark
        self._asked[agent] += 1
        rests = self._asked[agent] % self._burst == 0
        gap = around(self._random, self._pause, 0.5) if rests else around(self._random, self._think, 0.4)
        return [self._request(now + gap, agent)]

    def _request(self, at: float, agent: int) -> Request:
        name = f"agent-{agent}"
        seconds = around(self._random, self._seconds)
        return Request(at, self._models[agent], seconds, key=name, session=name, mark=agent)


class Chats:
    """People who chat in Open WebUI: after each answer it asks `chore` for a title and tags, then the person thinks.

    Args:
        marked: the chores are known as background tasks; without it they are requests like others.
        seconds: a mean answer; chore_seconds: a chore; think: a person's mean pause.
    """

    def __init__(
        self,
        people: int,
        model: str,
        chore: str,
        seed: int,
        *,
        marked: bool = True,
        seconds: float = 10.0,
        chore_seconds: float = 1.5,
        think: float = 20.0,
    ) -> None:
        self._random = Random(seed)  # noqa: S311  # as above
        self._people, self._model, self._chore, self._marked = people, model, chore, marked
        self._seconds, self._chore_seconds, self._think = seconds, chore_seconds, think

    def first(self) -> Iterable[Request]:
        """Everybody's first words, within half a minute."""
        return [self._chat(self._random.uniform(0, 30), person) for person in range(self._people)]

    def follow(self, request: Request, now: float) -> Iterable[Request]:
        """The chore after an answer, or what the person says next."""
        if request.session.startswith("chat-"):
            return [self._small(now + CHORE_DELAY, request.mark)]
        return [self._chat(now + self._random.expovariate(1 / self._think), request.mark)]

    def _chat(self, at: float, person: int) -> Request:
        seconds, user = around(self._random, self._seconds), f"person-{person}"
        return Request(at, self._model, seconds, key="open-webui", user=user, session=f"chat-{person}", mark=person)

    def _small(self, at: float, person: int) -> Request:
        return Request(
            at,
            self._chore,
            self._chore_seconds,
            key="open-webui",
            user=f"person-{person}",
            session=f"chore-{person}",
            task=self._marked,
            mark=person,
        )


class Retrieval:
    """People who ask about their documents: each question is embedded first, then answered by a chat model.

    Each person keeps to one of the `chats` in turn; `embedding` takes `embed_seconds` for a question.
    """

    def __init__(
        self,
        people: int,
        chats: Sequence[str],
        embedding: str,
        seed: int,
        *,
        seconds: float = 10.0,
        embed_seconds: float = 0.1,
        think: float = 30.0,
    ) -> None:
        self._random = Random(seed)  # noqa: S311  # as above
        self._people, self._chats, self._embedding = people, chats, embedding
        self._seconds, self._embed_seconds, self._think = seconds, embed_seconds, think

    def first(self) -> Iterable[Request]:
        """Everybody's first question, within half a minute."""
        return [self._embed(self._random.uniform(0, 30), person) for person in range(self._people)]

    def follow(self, request: Request, now: float) -> Iterable[Request]:
        """The answer to a question that has been embedded, or the next question."""
        person = request.mark
        if request.model != self._embedding:
            return [self._embed(now + self._random.expovariate(1 / self._think), person)]
        chat, user = self._chats[person % len(self._chats)], f"person-{person}"
        return [Request(now, chat, around(self._random, self._seconds), user=user, session=user, mark=person)]

    def _embed(self, at: float, person: int) -> Request:
        return Request(at, self._embedding, self._embed_seconds, user=f"person-{person}", mark=person)
