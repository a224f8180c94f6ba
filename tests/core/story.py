"""Tests as conversations with the core: what happens on one side, what is to be done on the other.

    story = Story(Fleet(...))
    story >> ask(1, "alpha") << Start(1, "alpha", CLAIM)
    story >> ready(1, slots=2) << grant(1, 1)
    story.after(300) << Stop(1, "alpha", "idle")

`>>` sends one event; `<<` expects actions, in order; `nothing` expects none. An event whose actions were never
expected fails the test at the next event or at its end, so that no action goes unnoticed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from roundhouse.core.model import (
    Action,
    Arrived,
    BecameReady,
    Departed,
    Event,
    Exited,
    Fleet,
    Grant,
    Phase,
    Refuse,
    Start,
    Stop,
    Tick,
    Ticket,
)
from roundhouse.core.planner import next_wakeup, step

if TYPE_CHECKING:
    from types import TracebackType

    from roundhouse.errors import RouterError

nothing: tuple[Action, ...] = ()


@dataclass(frozen=True)
class Granted:
    """Expects a Grant."""

    ticket: int
    instance: int
    model: str | None = None


@dataclass(frozen=True)
class Refused:
    """Expects a Refuse with exactly this kind of error, whose message contains all of `words`."""

    ticket: int
    error: type[RouterError]
    words: tuple[str, ...] = ()
    retry_after: float | None = None


def grant(ticket: int, instance: int, model: str | None = None) -> Granted:
    return Granted(ticket, instance, model)


def refuse(ticket: int, error: type[RouterError], *words: str, retry_after: float | None = None) -> Refused:
    return Refused(ticket, error, words, retry_after)


def done(ticket: int) -> Departed:
    return Departed(ticket)


def ready(instance: int, slots: int | None = None, seconds: float = 1.0) -> BecameReady:
    return BecameReady(instance, slots, seconds)


def gone(instance: int) -> Exited:
    return Exited(instance, "stopped", expected=True)


def crash(instance: int, reason: str = "CUDA error", *, short: bool = False) -> Exited:
    return Exited(instance, reason, short=short)


class Story:
    """One conversation with one box, as a context manager that makes sure nothing was left unsaid."""

    def __init__(self, fleet: Fleet, now: float = 0.0) -> None:
        self.fleet = fleet
        self.now = now
        self._heard: list[Action] | None = None
        self._told: Event | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._all_was_expected()

    def __rshift__(self, event: Event) -> Story:
        self._all_was_expected()
        self._told, self._heard = event, step(self.fleet, event, self.now)
        return self

    def __lshift__(self, expected: Any) -> Story:
        assert self._told is not None, "an expectation without an event"
        assert self._heard is not None, "two expectations for one event"
        wanted = list(expected) if isinstance(expected, (tuple, list)) else [expected]
        heard, self._heard = self._heard, None
        if len(wanted) != len(heard) or not all(_matches(w, h) for w, h in zip(wanted, heard, strict=True)):
            raise AssertionError(self._difference(wanted, heard))
        return self

    def after(self, seconds: float) -> Story:
        """Lets time pass and sends a Tick; the wakeups in between must have nothing to say."""
        self._all_was_expected()
        until = self.now + seconds
        while (due := next_wakeup(self.fleet, self.now)) is not None and due < until:
            self.now = due
            actions = step(self.fleet, Tick(), self.now)
            assert not actions, f"at {due:g} s, before the {until:g} s of the story: {actions}"
        self.now = until
        return self >> Tick()

    def at_next_wakeup(self) -> Story:
        """Lets time pass to when the core itself wants to be woken."""
        due = next_wakeup(self.fleet, self.now)
        assert due is not None, "nothing will ever change by time alone"
        self.now = max(self.now, due)
        return self >> Tick()

    def asks(self, number: int, model: str, **fields: Any) -> Story:
        """A request comes in."""
        return self >> Arrived(Ticket(number, model, self.now, **fields))

    def hears(self) -> list[Action]:
        """The actions that followed the last event, for a look that `<<` can't say."""
        assert self._heard is not None, "nothing was told"
        heard, self._heard = self._heard, None
        return heard

    def phase(self, model: str) -> Phase | None:
        """Where the model's instance is, None if there is none."""
        instance = self.fleet.models[model].instance
        return instance.phase if instance is not None else None

    def _all_was_expected(self) -> None:
        if self._heard is not None:
            raise AssertionError(f"nobody expected anything after {self._told}, but then: {self._heard}")

    def _difference(self, wanted: list[Any], heard: list[Action]) -> str:
        lines = difflib.ndiff([_say(w) for w in wanted], [_say(h) for h in heard])
        return "\n".join(
            [f"after {self._told} at {self.now:g} s, expected (-) and got (+):", *lines, f"in {self.fleet}"]
        )


def _matches(wanted: Any, heard: Action) -> bool:
    if isinstance(wanted, Granted) and isinstance(heard, Grant):
        return (wanted.ticket, wanted.instance) == (heard.ticket.id, heard.instance) and wanted.model in {
            None,
            heard.model,
        }
    if isinstance(wanted, Refused) and isinstance(heard, Refuse):
        same = heard.ticket.id == wanted.ticket and type(heard.error) is wanted.error
        said = all(word in heard.error.message for word in wanted.words)
        return same and said and wanted.retry_after in {None, heard.error.retry_after}
    return bool(wanted == heard)


def _say(action: Any) -> str:
    if isinstance(action, Grant):
        return f"grant({action.ticket.id}, {action.instance}, {action.model!r})"
    if isinstance(action, Granted):
        return f"grant({action.ticket}, {action.instance}, {action.model!r})"
    if isinstance(action, Refuse):
        return f"refuse({action.ticket.id}, {type(action.error).__name__}: {action.error.message!r}, {action.error.retry_after})"
    if isinstance(action, Refused):
        return f"refuse({action.ticket}, {action.error.__name__}: {action.words}, {action.retry_after})"
    return repr(action)


def start(instance: int, model: str, **claim: int) -> Start:
    return Start(instance, model, claim or {"gpu0": 6})


def stop(instance: int, model: str, reason: str) -> Stop:
    return Stop(instance, model, reason)
