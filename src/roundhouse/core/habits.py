"""How a model is used: how often, by which sessions and with what think time, and how long it lies idle in between.

Kept for every model, loaded or not, and by the loop alone: these few figures change in place with every interactive
request (background tasks leave no trace here), so that the hot path costs a microsecond or two. All times are seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Talk = tuple[str, ...]
"""Names a session: by key, user and its own name."""
RATE_MEMORY = 60.0
"""Seconds after which a request counts 1/e in the rate. On made traces of bursty sessions over nine models, the
shortest of 60 to 3600 s chose victims best: 4.2 % less time in loads than the longest unused first."""
MOST_SESSIONS = 32
MOST_GAPS = 20
LEAST_GAPS = 3
"""Think times that must have been seen before one is expected."""
MOST_IDLE = 60
SHORT_IDLE = 300.0
"""Idle times up to this long are not noted: no automatic ttl is shorter (spec D8)."""
FOLLOWER_MEMORY = 0.9
"""What is left of the count of each follower when there is a new one: about the last ten count."""
ANSWER_WEIGHT = 0.2
"""Of the newest answer in the running mean of how long answers take."""


@dataclass(slots=True)
class Session:
    """One conversation or agent: when its last answer ended (None while it waits for one), and its think times."""

    ended: float | None = None
    gaps: tuple[float, ...] = ()

    def think_time(self) -> float | None:
        """What four of five of its last think times did not exceed; None if too few are known."""
        if len(self.gaps) < LEAST_GAPS:
            return None
        return sorted(self.gaps)[min(len(self.gaps) - 1, int(0.8 * len(self.gaps)))]


@dataclass(slots=True)
class Habits:
    """Those of one model.

    Attributes:
        count, counted: requests of late (see `rate`), as of that time.
        answer: how long an answer takes, a running mean; 0 = none has ended yet.
        ended: when the last answer ended; None = none has yet.
        idle: the last idle times longer than `SHORT_IDLE`.
        sessions: by name, the one that was heard of last at the end.
        followers: which models were started next after this one, and how often of late.
    """

    count: float = 0.0
    counted: float = 0.0
    answer: float = 0.0
    ended: float | None = None
    idle: tuple[float, ...] = ()
    sessions: dict[Talk, Session] = field(default_factory=dict)
    followers: dict[str, float] = field(default_factory=dict)

    def rate(self, now: float) -> float:
        """Requests of late: each counts 1 when it comes, and less and less from then on."""
        return self.count * math.exp((self.counted - now) / RATE_MEMORY)

    def arrived(self, name: Talk, now: float, *, busy: bool) -> None:
        """A request of this session has come; `busy` while others of this model are under way or waiting."""
        self.count = self.count * math.exp((self.counted - now) / RATE_MEMORY) + 1.0
        self.counted = now
        if not busy and self.ended is not None and now - self.ended > SHORT_IDLE:
            self.idle = (*self.idle, now - self.ended)[-MOST_IDLE:]
        session = self.sessions.get(name)
        if session is not None and session.ended is not None:
            session.gaps = (*session.gaps[1 - MOST_GAPS :], now - session.ended)
            session.ended = None

    def departed(self, name: Talk, now: float, seconds: float) -> None:
        """An answer has ended that took so long."""
        self.ended = now
        self.answer += (seconds - self.answer) * (ANSWER_WEIGHT if self.answer else 1.0)
        session = self.sessions.pop(name, None)
        if session is None:
            session = Session()
            if len(self.sessions) >= MOST_SESSIONS:
                del self.sessions[next(iter(self.sessions))]
        session.ended = now
        self.sessions[name] = session

    def followed(self, model: str) -> None:
        """That model was started next."""
        self.followers = {name: count * FOLLOWER_MEMORY for name, count in self.followers.items()}
        self.followers[model] = self.followers.get(model, 0.0) + 1.0

    def copy(self) -> Habits:
        """One that later requests do not change."""
        sessions = {name: Session(session.ended, session.gaps) for name, session in self.sessions.items()}
        return Habits(self.count, self.counted, self.answer, self.ended, self.idle, sessions, dict(self.followers))
