"""What the planner is told and decides, as JSON and back: for a journal that can be played again.

Every value is plain or a list that begins with what it is: the name of a record with its fields in order, an enum's
name, `(` a tuple, `{` a frozenset, `m` a mapping (whose keys may be no strings). Only the records named
here can be read: a journal is data. Floats go over exactly, infinities too (which is why it is not strict JSON).

Names of users and sessions are given to `veil`, which must give equal names for equal ones: they decide by being the
same, not by what they say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from roundhouse.core import model
from roundhouse.core.habits import Habits, Session
from roundhouse.core.shares import Shares

if TYPE_CHECKING:
    from roundhouse.core.model import Action, Event, Fleet

    Veil = Callable[[str], str]

VERSION = 2
"""Of the form. Goes up whenever a record's fields or the meaning of one change."""

_RECORDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(model.Arrived, model.Departed, model.Started, model.Progressed, model.BecameReady, model.Exited),
        *(model.Measured, model.Surveyed, model.Asked, model.Objected, model.Found, model.ClosingTime, model.Tick),
        *(model.Cancelled, model.Reloaded),
        *(model.Start, model.Stop, model.Prefetch, model.ModelSpec, model.Policy, model.Ticket, model.Progress),
        *(model.Instance, model.Use, model.Granted, model.Failure, model.ModelState, model.Device),
        *(Habits, Session, Shares),
    )
}
_ENUMS: dict[str, type[Enum]] = {
    kind.__name__: kind for kind in (model.Phase, model.Kind, model.TaskRule, model.ReadAhead, model.Want)
}
_FIELDS = {kind: tuple(field.name for field in dataclasses.fields(kind)) for kind in _RECORDS.values()}
_PLAIN = (str, float, int, bool, type(None))


class UnreadableJournal(Exception):
    """It is none of ours, or of another version; the message says what is wrong."""


def unveiled(name: str) -> str:
    """Names as they are: of a picture that was veiled before."""
    return name


def encode(value: object, veil: Veil = unveiled) -> Any:  # noqa: ANN401  # JSON
    """A value of the core as plain lists, to be written as JSON."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _FIELDS:
        fields = [encode(field, veil) for field in _fields(value, veil)]
        return [kind.__name__, *fields]
    if isinstance(value, tuple):
        return ["(", *(encode(item, veil) for item in value)]
    if isinstance(value, Mapping):
        return ["m", *(encode(part, veil) for item in value.items() for part in item)]
    if isinstance(value, Enum):
        return ["@", kind.__name__, value.value]
    if isinstance(value, frozenset):
        return ["{", *sorted(value)]
    raise TypeError(f"{kind.__name__} has no form in a journal")


def decode(plain: Any) -> Any:  # noqa: ANN401  # whatever was encoded
    """The value again. Raises UnreadableJournal."""
    if type(plain) in _PLAIN:
        return plain
    if type(plain) is not list or not plain:
        raise UnreadableJournal("it holds something that is no value of ours")
    word, *rest = plain
    try:
        if (make := _MAKERS.get(word)) is not None:
            return make(rest)
        record = _RECORDS[word]
        if len(rest) != len(_FIELDS[record]):
            raise UnreadableJournal(f"its {word} has {len(rest)} fields, ours {len(_FIELDS[record])}")
        return record(*(decode(field) for field in rest))
    except (LookupError, TypeError, ValueError):
        raise UnreadableJournal(f"it holds {word!r}, which can't be read") from None


def _mapping(rest: list[Any]) -> dict[Any, Any]:
    parts = [decode(item) for item in rest]
    return dict(zip(parts[::2], parts[1::2], strict=True))


_MAKERS: dict[str, Callable[[list[Any]], object]] = {
    "(": lambda rest: tuple(decode(item) for item in rest),
    "m": _mapping,
    "@": lambda rest: _ENUMS[rest[0]](rest[1]),
    "{": frozenset,
}


def _fields(value: object, veil: Veil) -> list[object]:
    """A record's fields in order, names of people veiled."""
    instead: dict[str, object] = {}
    if isinstance(value, model.Ticket):
        instead = {"user": veil(value.user), "session": veil(value.session), "request": ""}
    elif isinstance(value, Shares):
        instead = {"charged": {_veiled(who, veil): seconds for who, seconds in value.charged.items()}}
    elif isinstance(value, Habits):
        instead = {"sessions": {_veiled(talk, veil): session for talk, session in value.sessions.items()}}
    return [instead[name] if name in instead else getattr(value, name) for name in _FIELDS[type(value)]]


def _veiled(who: tuple[str, ...], veil: Veil) -> tuple[str, ...]:
    """The key's name, which the operator gave, stays; users and sessions are people's."""
    return (*who[:1], *(veil(name) for name in who[1:]))


def encode_step(now: float, event: Event, actions: list[Action], veil: Veil = unveiled) -> list[Any]:
    """One step: when, what happened, what was decided."""
    return [now, encode(event, veil), [decision(action) for action in actions]]


def decision(action: Action) -> list[Any]:
    """An action as far as it can differ: requests by their tickets, errors by what they say."""
    if isinstance(action, model.Grant):
        return ["Grant", action.ticket.id, action.instance, action.model]
    if isinstance(action, (model.Refuse, model.Cut)):
        error = action.error
        return [type(action).__name__, action.ticket.id, type(error).__name__, error.message, error.retry_after]
    told: list[Any] = encode(action)
    return told


def encode_fleet(fleet: Fleet, veil: Veil = unveiled) -> dict[str, Any]:
    """The whole picture."""
    return {name: encode(getattr(fleet, name), veil) for name in model.Fleet.__slots__}


def decode_fleet(plain: Any) -> Fleet:  # noqa: ANN401  # JSON
    """The picture again. Raises UnreadableJournal."""
    if not isinstance(plain, dict) or plain.keys() != set(model.Fleet.__slots__):
        raise UnreadableJournal("its picture of the box is none of ours")
    fleet = model.Fleet()
    for name, value in plain.items():
        setattr(fleet, name, decode(value))
    return fleet
