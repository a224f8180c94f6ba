"""What each key may still ask, and what it has used (spec F2): refused with 429, told in headers, kept by day.

Rates per day are quotas: they count the calendar day where Roundhouse runs, and outlive a restart. All others are token
buckets of this run. Tokens count when an answer has ended, so answers that run together may go over by what they take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from roundhouse.core.allowance import DAY, Bucket, Daily
from roundhouse.errors import TooManyRequests
from roundhouse.observe.keyring import DAYS_KEPT, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from roundhouse.api.record import Record
    from roundhouse.api.reply import Headers
    from roundhouse.config.models import Key
    from roundhouse.config.units import Rate
    from roundhouse.observe.keyring import Keyring


@dataclass(slots=True)
class _Limit:
    """One of a key's limits."""

    rate: Rate
    state: Bucket | Daily


class Limits:
    """Keeps them.

    Args:
        clock: seconds that never go back; wall: seconds since the epoch.
    """

    def __init__(self, keyring: Keyring, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._keyring = keyring
        self._clock = clock
        self._wall = wall
        self._limits: dict[str, dict[str, _Limit]] = {}
        self._today: dict[str, Use] = {}
        self._day = self._date()

    async def open(self, keys: Iterable[Key]) -> None:
        """Takes up what this day has seen already."""
        self._day = self._date()
        self._today = await self._keyring.used(self._day)
        oldest = datetime.fromtimestamp(self._wall()) - timedelta(days=DAYS_KEPT)  # noqa: DTZ006  # the day as it is here
        self._keyring.forget_before(oldest.date().isoformat())
        self.set(keys)

    def set(self, keys: Iterable[Key]) -> None:
        """These keys' limits from now on; one whose rate did not change goes on where it was."""
        before, self._limits = self._limits, {}
        for key in keys:
            for kind, rate in (("requests", key.rate.requests), ("tokens", key.rate.tokens)):
                if rate is not None:
                    old = before.get(key.name, {}).get(kind)
                    new = (
                        old if old is not None and old.rate == rate else _Limit(rate, self._fresh(key.name, kind, rate))
                    )
                    self._limits.setdefault(key.name, {})[kind] = new

    def _fresh(self, name: str, kind: str, rate: Rate) -> Bucket | Daily:
        if rate.seconds != DAY:
            return Bucket(rate.count, rate.seconds, float(rate.count), self._clock())
        use = self._today.get(name, Use())
        return Daily(rate.count, self._day, use.requests if kind == "requests" else use.tokens)

    def admit(self, record: Record, api: str) -> None:
        """Counts a request, and has its answer say what is left. Raises TooManyRequests when nothing is."""
        name = record.key
        limits = self._limits.get(name)
        if limits is not None:
            reached = next(((kind, limit) for kind, limit in limits.items() if self._left(limit) < 1), None)
            if reached is None and "requests" in limits:
                self._take(limits["requests"], 1)
            record.headers = self.headers(name, api)
            if reached is not None:
                kind, limit = reached
                raise TooManyRequests(_words(name, kind, limit.rate), retry_after=self._wait(limit))
        self._add(name, Use(1, 0, 0, self._wall()))

    def spend(self, record: Record) -> None:
        """Counts the tokens of a request that has ended, by the engine's figures."""
        usage = (record.meter.usage if record.meter is not None else None) or {}
        prompt, completion = (_whole(usage.get(f"{part}_tokens")) for part in ("prompt", "completion"))
        if prompt or completion:
            limit = self._limits.get(record.key, {}).get("tokens")
            if limit is not None:
                self._take(limit, prompt + completion)
            self._add(record.key, Use(0, prompt, completion, self._wall()))

    def _add(self, name: str, use: Use) -> None:
        if not name:
            return
        day = self._date()
        if day != self._day:
            self._day, self._today = day, {}
        self._today[name] = self._today.get(name, Use()) + use
        self._keyring.note(name, day, use)

    def today(self, name: str) -> Use:
        """What that key has used since midnight."""
        return self._today.get(name, Use()) if self._date() == self._day else Use()

    def headers(self, name: str, api: str) -> Headers:
        """What is left, as OpenAI tells it, or Anthropic."""
        found: Headers = []
        for kind, limit in self._limits.get(name, {}).items():
            left = max(0, math.floor(self._left(limit)))
            found += (
                _anthropics(kind, limit, left, self._wall() + self._full(limit))
                if api == "anthropic"
                else (_openais(kind, limit, left, self._full(limit)))
            )
        return found

    def told(self, name: str) -> dict[str, dict[str, object]]:
        """Limits and what is left of them, for people."""
        return {
            kind: {"limit": str(limit.rate), "left": max(0, math.floor(self._left(limit)))}
            for kind, limit in self._limits.get(name, {}).items()
        }

    # --- one limit ---

    def _left(self, limit: _Limit) -> float:
        state = limit.state
        return state.left(self._clock()) if isinstance(state, Bucket) else state.left(self._date())

    def _take(self, limit: _Limit, amount: int) -> None:
        state = limit.state
        if isinstance(state, Bucket):
            state.take(amount, self._clock())
        else:
            state.take(amount, self._date())

    def _wait(self, limit: _Limit) -> float:
        """Seconds until there is one again."""
        return limit.state.wait(1, self._clock()) if isinstance(limit.state, Bucket) else self._until_midnight()

    def _full(self, limit: _Limit) -> float:
        """Seconds until all of it is there again."""
        state = limit.state
        return state.wait(state.count, self._clock()) if isinstance(state, Bucket) else self._until_midnight()

    def _date(self) -> str:
        return datetime.fromtimestamp(self._wall()).date().isoformat()  # noqa: DTZ006  # the day as it is here

    def _until_midnight(self) -> float:
        now = datetime.fromtimestamp(self._wall())  # noqa: DTZ006  # as above
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time())
        return max(1.0, (midnight - now).total_seconds())


def _whole(figure: object) -> int:
    return figure if isinstance(figure, int) and figure > 0 else 0


def _words(name: str, kind: str, rate: Rate) -> str:
    if rate.seconds == DAY:
        return f"The key '{name}' has used its {rate.count:,} {kind} of today; there are new ones at midnight."
    return f"The key '{name}' may use {rate.count:,} {kind} per {_period(rate)}, and none are left now."


def _period(rate: Rate) -> str:
    return {1.0: "second", 60.0: "minute", 3600.0: "hour"}.get(rate.seconds, f"{rate.seconds:g} s")


def _openais(kind: str, limit: _Limit, left: int, full: float) -> Headers:
    """`x-ratelimit-*` (OpenAI, "Rate limits in headers"); times as in `1s`, `6m0s`."""
    told = {"limit": str(limit.rate.count), "remaining": str(left), "reset": _go_duration(full)}
    return [(f"x-ratelimit-{what}-{kind}".encode(), value.encode()) for what, value in told.items()]


def _anthropics(kind: str, limit: _Limit, left: int, full_at: float) -> Headers:
    """`anthropic-ratelimit-*` (Anthropic API, "Rate limits"); times are RFC 3339."""
    at = datetime.fromtimestamp(math.ceil(full_at), UTC).isoformat().replace("+00:00", "Z")
    told = {"limit": str(limit.rate.count), "remaining": str(left), "reset": at}
    return [(f"anthropic-ratelimit-{kind}-{what}".encode(), value.encode()) for what, value in told.items()]


def _go_duration(seconds: float) -> str:
    whole = math.ceil(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{f'{hours}h' if hours else ''}{f'{minutes}m' if hours or minutes else ''}{left}s"
