"""Several policies on several boxes, with the same traffic each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.simulate.report import Figures, figures, mean
from roundhouse.simulate.world import play

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from roundhouse.simulate.setup import Setup
    from roundhouse.simulate.world import Workload


@dataclass(frozen=True, slots=True)
class Result:
    """What a policy came to on a box, both by name; the mean of all seeds."""

    box: str
    policy: str
    figures: Figures


def compare(
    boxes: Mapping[str, Setup],
    policies: Sequence[str],
    traffic: Callable[[int], Workload],
    seeds: int = 1,
    until: float | None = None,
    watch: Callable[[int, float], None] | None = None,
) -> list[Result]:
    """Plays every combination, boxes first.

    Args:
        boxes: by name.
        policies: names from `POLICIES`.
        seeds: how many times each is played, with the seeds 0, 1, 2, …
        traffic: makes the workload of a seed, anew each time.
        until: seconds after which a simulation ends, None: when everybody was answered.
        watch: told now and then how many simulations have ended and the virtual time of the one under way.
    """
    results, ended = [], 0

    def told(now: float) -> None:
        if watch is not None:
            watch(ended, now)

    for name, setup in boxes.items():
        for policy in policies:
            found = []
            for seed in range(seeds):
                found.append(figures(play(setup.with_policy(policy), traffic(seed), until, told)))
                ended += 1
                told(0.0)
            results.append(Result(name, policy, mean(found)))
    return results
