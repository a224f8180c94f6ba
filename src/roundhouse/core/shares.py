"""How a model's slots are shared between keys and users (spec D5).

The share is of time: each key (and user) is charged the seconds that its answers take, and who was charged least goes
first. As nobody knows beforehand how long an answer takes, a grant is charged with the model's usual answer and
corrected when it ends. Who comes anew, or back, begins at the level of the one served last, so that waiting earns
nobody a credit: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM '96) with the bill paid afterwards, as deficit
round robin does. Charged is only while more wait than the slots can take; then all start anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Who = tuple[str, str]
"""Who gets a share: a key, and where several people use it each of them."""
UNKNOWN_ANSWER = 1.0
"""Seconds charged for an answer before any has ended."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What a model's slots gave to whom while more wanted them.

    Attributes:
        charged: seconds by key and user; empty while nobody has to wait.
        level: what the one served last had been charged before that.
    """

    charged: Mapping[Who, float] = field(default_factory=dict)
    level: float = 0.0

    def of(self, one: Who) -> float:
        """The charge that counts for one."""
        return max(self.level, self.charged.get(one, 0.0))

    def granted(self, one: Who, seconds: float) -> Shares:
        """After a grant, charged with that much."""
        level = self.of(one)
        return Shares({**self.charged, one: level + seconds}, level)

    def ended(self, one: Who, beforehand: float, seconds: float) -> Shares:
        """After an answer that took `seconds`, charged with `beforehand` when it began."""
        if one not in self.charged:
            return self
        return Shares({**self.charged, one: self.charged[one] + seconds - beforehand}, self.level)


NO_SHARES = Shares()
"""While nobody has to wait."""
