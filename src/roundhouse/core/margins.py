"""How much the next load of a model will need, from what its latest loads held."""

from __future__ import annotations

from itertools import islice
from statistics import stdev
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import is_seat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from roundhouse.core.model import Claim

RECENT = 8
"""Loads that are looked at. With more, a figure that was once too high would stay for long."""
ALONE = 0.04
"""Share that is added to the only figure there is, as nothing is known of how they spread. Less than five percent, so
that the estimate is within five of a second load that holds a little less."""
LEAST, MOST = 0.02, 0.10
"""Share that is added at least, as the next answer may be a little longer, and at most."""
SPREADS = 2.0
"""How many standard deviations are added: as far above the highest seen as hardly one in forty lies above the mean."""


AT: Final = "@"


def run_at(settings: str, claim: Claim) -> str:
    """Under what figures are remembered: what was run, and on which devices together.

    Figures of two single GPUs must not be taken for one of a model that was divided over both.
    """
    return settings + AT + "+".join(sorted(device for device in claim if not is_seat(device)))


def next_claim(peaks: Iterable[int]) -> int:
    """Bytes to promise to the next load: the highest of the latest peaks, and a margin by how far they spread.

    Args:
        peaks: the most that each load held on one device, the newest first; at least one.
    """
    recent = list(islice(peaks, RECENT))
    highest = max(recent)
    if len(recent) == 1:
        return highest + round(highest * ALONE)
    margin = SPREADS * stdev(recent)
    return highest + round(min(max(margin, highest * LEAST), highest * MOST))
