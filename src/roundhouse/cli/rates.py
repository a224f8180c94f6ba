"""How busy Roundhouse is, from two looks at its metrics: requests and tokens a second. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

SPAN: Final = 30.0
"""Seconds over which a rate is told: answers end, and are counted, at once."""
REQUESTS: Final = "roundhouse_requests_total"
TOKENS: Final = "roundhouse_completion_tokens_total"


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests and generated tokens per second, of answers that have ended."""

    requests: float
    tokens: float


def counted(metrics: str) -> tuple[float, float]:
    """All requests and generated tokens so far, from Prometheus's text format (`NAME{LABELS} VALUE`)."""
    sums = {REQUESTS: 0.0, TOKENS: 0.0}
    for line in metrics.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in sums:
            sums[name] += float(line.rpartition(" ")[2])
    return sums[REQUESTS], sums[TOKENS]


@dataclass(slots=True)
class Rates:
    """Remembers the last half minute."""

    _seen: deque[tuple[float, float, float]] = field(default_factory=deque)

    def saw(self, now: float, metrics: str) -> None:
        """One look; `now` is of a clock that only goes forward. Counters that fell are those of a new run."""
        requests, tokens = counted(metrics)
        if self._seen and requests < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, requests, tokens))
        while len(self._seen) > 2 and self._seen[1][0] <= now - SPAN:
            self._seen.popleft()

    @property
    def now(self) -> Rate | None:
        """None before the second look."""
        if len(self._seen) < 2:
            return None
        (began, *before), (ended, *after) = self._seen[0], self._seen[-1]
        spent = max(ended - began, 1e-3)
        return Rate(*((late - early) / spent for early, late in zip(before, after, strict=True)))
