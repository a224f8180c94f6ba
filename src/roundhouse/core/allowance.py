"""How much a key may still ask (spec F2): rates as token buckets, and what is allowed for a day. Times are seconds.

A bucket fills evenly up to its size, so that after a pause a whole minute's worth may come at once. A day's allowance
is counted from midnight to midnight instead. What an answer costs is known at its end: it begins while anything is
left, and the rest is owed.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400.0
"""A rate per so many seconds is counted by the calendar's day."""


@dataclass(slots=True)
class Bucket:
    """At most `count` in about any `seconds`; `level` is what was left at the time `at`, and may be below nothing."""

    count: int
    seconds: float
    level: float
    at: float

    def left(self, now: float) -> float:
        """What may be taken now."""
        return min(float(self.count), self.level + max(0.0, now - self.at) * self.count / self.seconds)

    def take(self, amount: float, now: float) -> None:
        """Takes it, whether it is there or not. A clock that went back adds nothing and takes nothing."""
        self.level, self.at = self.left(now) - amount, max(now, self.at)

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much is there; for more than ever is, until it is full."""
        missing = min(amount, float(self.count)) - self.left(now)
        return max(0.0, missing * self.seconds / self.count) if self.count else self.seconds


@dataclass(slots=True)
class Daily:
    """At most `count` from one midnight to the next; `day` is any name of the day on which `used` were used."""

    count: int
    day: str
    used: int = 0

    def left(self, day: str) -> int:
        """What may be taken on that day."""
        return self.count - (self.used if day == self.day else 0)

    def take(self, amount: int, day: str) -> None:
        """Takes it, whether it is there or not."""
        if day != self.day:
            self.day, self.used = day, 0
        self.used += amount
