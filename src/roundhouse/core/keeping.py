"""How long an idle model is kept loaded (spec D8): until keeping it costs more than loading it again.

Who must decide without knowing when the next request comes keeps it for as long as a reload is worth (the break-even of
ski rental): that costs at most twice what a clairvoyant would pay. Once some idle times are known, the limit that would
have cost least over them is better still (after "Serverless in the Wild", ATC '20).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from roundhouse.core.habits import SHORT_IDLE
from roundhouse.core.turns import reload_cost

if TYPE_CHECKING:
    from roundhouse.core.habits import Habits
    from roundhouse.core.model import ModelState

TTL_LOADS = 10.0
"""Loads that a reload is worth, in seconds of holding memory, where no power is measured."""
TTL_LEAST, TTL_MOST = SHORT_IDLE, 3600.0
ENOUGH_IDLE = 8
"""Idle times that must be known before they are relied on."""
LATER = 1.05
"""What is added to a known idle time: the next one may be a little longer."""


def idle_limit(state: ModelState, habits: Habits) -> float | None:
    """Seconds without a request after which a model is unloaded, None = never."""
    if not state.spec.ttl_auto:
        return state.spec.ttl
    worth = break_even(reload_cost(state))
    return adapted(worth, habits.idle) if len(habits.idle) >= ENOUGH_IDLE else worth


def break_even(load: float) -> float:
    """Seconds of keeping that cost as much as a load of so many seconds, within 5 and 60 minutes."""
    return min(TTL_MOST, max(TTL_LEAST, TTL_LOADS * load))


@lru_cache(maxsize=1024)  # asked in every step, of figures that change every few minutes
def adapted(worth: float, idle: tuple[float, ...]) -> float:
    """The limit that would have cost least over these idle times (all longer than 5 minutes), within the same bounds.

    An idle time costs itself when the model was kept through it; else the limit, and the reload (`worth`).
    """
    limits = [TTL_LEAST, worth, *(min(TTL_MOST, gap * LATER) for gap in idle)]
    return min(limits, key=lambda limit: (sum(gap if gap <= limit else limit + worth for gap in idle), limit))
