"""Carries talks out in a test: with a real server, over a plain blocking connection, or with scripted answers."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from roundhouse.core.model import Progress
from roundhouse.ports import Exchange, More, Reply, Wait

if TYPE_CHECKING:
    from roundhouse.ports import Step, Talk

FASTER = 10
"""How much shorter a talk's pauses are here."""


class Talker:
    """One engine at 127.0.0.1:`port`. `patience` bounds the time limits that talks give."""

    def __init__(self, port: int, key: str | None, patience: float = 30.0) -> None:
        self.port, self.key, self.patience = port, key, patience
        self.told: list[Progress] = []
        self.asked: list[str] = []
        self.at_step: Callable[[Step], None] = lambda step: None
        self._connection: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None

    def run(self, talk: Talk) -> list[Progress]:
        """What it told of its progress, when it has ended. Raises what the talk raises."""
        answer: Reply | bytes | None = None
        try:
            while True:
                try:
                    step = talk.send(answer)
                except StopIteration:
                    return self.told
                self.at_step(step)
                answer = self._do(step)
        finally:
            talk.close()
            self._hang_up()

    def ask(self, method: str, path: str, body: bytes = b"", timeout: float = 30.0) -> Reply:
        return self._exchange(Exchange(method, path, body, timeout))

    def _do(self, step: Step) -> Reply | bytes | None:
        if isinstance(step, Exchange):
            self.asked.append(f"{step.method} {step.path}")
            return self._exchange(step)
        if isinstance(step, More):
            return self._more()
        if isinstance(step, Wait):
            time.sleep(step.seconds / FASTER)
        else:
            self.told.append(step)
        return None

    def _exchange(self, step: Exchange) -> Reply:
        self._hang_up()
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=min(step.timeout, self.patience))
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            line.request(step.method, step.path, step.body or None, headers | {"content-type": "application/json"})
            answer = line.getresponse()
            if step.stream:
                self._connection, self._answer = line, answer
                return Reply(answer.status)
            return Reply(answer.status, answer.read())
        except (OSError, http.client.HTTPException):
            return Reply(0)
        finally:
            if self._connection is not line:
                line.close()

    def _more(self) -> bytes | None:
        if self._answer is None:
            return None
        try:
            return self._answer.read1(65536)
        except (OSError, http.client.HTTPException):
            return None

    def _hang_up(self) -> None:
        if self._connection is not None:
            assert self._answer is not None
            self._answer.close()
            self._connection.close()
        self._connection = self._answer = None


def scripted(talk: Talk, answers: Iterator[Any]) -> Iterator[Step]:
    """Its steps, each exchange and piece answered by the next of `answers`."""
    answer: Any = None
    while True:
        try:
            step = talk.send(answer)
        except StopIteration:
            return
        yield step
        answer = next(answers) if isinstance(step, Exchange | More) else None
