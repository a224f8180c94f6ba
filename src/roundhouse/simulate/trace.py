"""Recorded requests as JSON Lines, and how they are replayed.

One request a line, in the order in which they came; only `model` and `seconds` are always needed:

    {"at": 12.5, "model": "llama-70b", "seconds": 8.2, "key": "anna", "user": "", "session": "3f2a", "task": false,
     "priority": 0, "waited": 4.1}

`at` is when it came, in seconds from any beginning; `seconds` how long its answer took; `waited` how long it had
waited before. Another policy answers earlier or later, and so a client asks its next question earlier or later:
requests of one `session` keep the pause since the end of the one before, as it was recorded or as `after` says
(seconds; `at` may then be left out). The first line may describe the box: {"box": {...}}, see `boxes`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from roundhouse.simulate.boxes import Box
from roundhouse.simulate.world import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

TOLERANCE = 0.002
"""Seconds by which a request may have come before the recorded end of the one that it follows: figures are rounded."""
EXAMPLE = '{"at": 0, "model": "a", "seconds": 5}'


HEAD = '{"box"'
"""How a line that describes the box begins."""


class TraceError(ValueError):
    """A trace that can't be read; the message begins with the line."""


class Entry(BaseModel):
    """One recorded request; times are seconds. `at` is always known of those that `read` returns."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    at: float = 0.0
    model: str = Field(min_length=1)
    seconds: NonNegativeFloat
    key: str = ""
    user: str = ""
    session: str = ""
    task: bool = False
    priority: int = 0
    waited: NonNegativeFloat = 0.0
    after: NonNegativeFloat | None = None

    @property
    def ended(self) -> float:
        """When its answer ended, as recorded."""
        return self.at + self.waited + self.seconds


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of arrival, and the box that they were recorded on (None: not told)."""

    entries: tuple[Entry, ...]
    box: Box | None = None


def read(lines: Iterable[str]) -> Trace:
    """A trace from its lines. Raises TraceError naming the first line that is wrong."""
    entries: list[Entry] = []
    box: Box | None = None
    ends: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            if box is None and not entries and line.lstrip().startswith(HEAD):
                box = Box.model_validate(orjson.loads(line)["box"])
                continue
            entry = _placed(Entry.model_validate_json(line), ends)
        except ValueError as error:
            raise TraceError(f"line {number}: {_words(error)}") from None
        if entry.session:
            ends[entry.session] = entry.ended
        entries.append(entry)
    if not entries:
        raise TraceError(f"line 1: there are no requests; each is a line such as {EXAMPLE}")
    entries.sort(key=lambda entry: entry.at)
    return Trace(tuple(entries), box)


def write(entries: Iterable[Entry], box: Mapping[str, Any] | None = None) -> Iterator[str]:
    """The lines of a trace, without their ends; what is at its default is left out."""
    if box is not None:
        yield orjson.dumps({"box": box}).decode()
    for entry in entries:
        told = {"at": entry.at, **entry.model_dump(exclude_defaults=True)}
        yield orjson.dumps({n: round(v, 3) if isinstance(v, float) else v for n, v in told.items()}).decode()


class Replay:
    """The traffic of a trace, from its first request on.

    Args:
        closed: requests of one session keep their pauses; without it every request comes at its recorded time.
    """

    def __init__(self, entries: Sequence[Entry], *, closed: bool = True) -> None:
        begin = min((entry.at for entry in entries), default=0.0)
        self._requests = [_request(entry, begin, number) for number, entry in enumerate(entries)]
        self._followers: dict[int, list[tuple[int, float]]] = {}
        self._free: list[Request] = []
        known: dict[str, list[tuple[float, int]]] = {}
        for number, entry in enumerate(entries):
            before = _before(entry, known.get(entry.session, [])) if closed and entry.session else None
            if before is None:
                self._free.append(self._requests[number])
            else:
                self._followers.setdefault(before[0], []).append((number, before[1]))
            insort(known.setdefault(entry.session, []), (entry.ended, number))

    def first(self) -> Iterable[Request]:
        """Those that follow no other."""
        return self._free

    def follow(self, request: Request, now: float) -> Iterable[Request]:
        """Those that came after this one in its session."""
        return [replace(self._requests[n], at=now + pause) for n, pause in self._followers.get(request.mark, ())]


def _before(entry: Entry, known: list[tuple[float, int]]) -> tuple[int, float] | None:
    """The request of the session that this one followed and the pause since its end; None: it followed none.

    Where several had ended, it is the last; one that was still being answered is none that it waited for.
    """
    if entry.after is not None:
        return (max(known, key=lambda item: item[1])[1], entry.after) if known else None
    place = bisect_right(known, (entry.at + TOLERANCE, inf))
    if not place:
        return None
    ended, number = known[place - 1]
    return number, max(0.0, entry.at - ended)


def _request(entry: Entry, begin: float, number: int) -> Request:
    return Request(
        at=entry.at - begin,
        model=entry.model,
        seconds=entry.seconds,
        key=entry.key,
        user=entry.user,
        session=entry.session,
        task=entry.task,
        priority=entry.priority,
        mark=number,
    )


def _placed(entry: Entry, ends: Mapping[str, float]) -> Entry:
    """The entry with its time. `ends` is when the last request of each session ended. Raises ValueError."""
    if entry.after is not None and not entry.session:
        raise ValueError("`after` is about the request before in the same session; name the `session`")
    if "at" in entry.model_fields_set:
        return entry
    if entry.after is None or entry.session not in ends:
        raise ValueError("it has no `at`, nor `after` and a request before it in its session")
    return entry.model_copy(update={"at": ends[entry.session] + entry.after})


def _words(error: ValueError) -> str:
    """The first thing that is wrong, as one sentence."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else f"{first['msg']}; write for example {EXAMPLE}"
