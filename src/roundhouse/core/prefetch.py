"""Whose weights are read into the page cache before its engine starts (spec D12): the load then waits for no disk.

- next     Who is next in the order of turns and can't start yet: somebody drains or stops for it, another load is under
           way, or its turn is still to come.
- learned  While nothing loads and nobody waits: the model that was started most often right after the loaded ones.

One model at a time. It is said once: again only when an engine has been started since (what that reads may push the
weights out of the page cache), or when nobody waited for the model any more in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.core.model import Phase, Prefetch, ReadAhead

if TYPE_CHECKING:
    from roundhouse.core.model import Action, Fleet
    from roundhouse.core.room import Plan

ENOUGH = 2.5
"""How often a model must have come next, of late, to be relied on: three times in a row are 2.7 (`habits`)."""


def note_start(fleet: Fleet, model: str) -> None:
    """Remembers after which one a model was started."""
    before, fleet.last_start = fleet.last_start, model
    if before is not None and before != model:
        fleet.habits[before].followed(model)


def read_ahead(fleet: Fleet, plan: Plan, actions: list[Action]) -> None:
    """Says whose weights are to be read now, if that has not been said."""
    if fleet.policy.prefetch is ReadAhead.OFF:
        return
    model, wanted = plan.next, plan.next is not None
    if not wanted:
        if fleet.ahead is not None and fleet.ahead.wanted:
            fleet.ahead = None
        model = _likely_next(fleet)
    if model is not None and fleet.ahead != (action := Prefetch(model, wanted)):
        fleet.ahead = action
        actions.append(action)


def _likely_next(fleet: Fleet) -> str | None:
    """What usually follows the loaded models; None if that is not known, or the box has other things to do."""
    live = fleet.live()
    busy = fleet.queued or any(instance.phase is Phase.STARTING for instance in live)
    if fleet.policy.prefetch is not ReadAhead.LEARNED or busy:
        return None
    counts: dict[str, float] = {}
    for instance in live:
        if instance.phase is Phase.READY:
            for model, count in fleet.habits[instance.model].followers.items():
                state = fleet.models.get(model)  # it may be removed by now
                if state is not None and state.instance is None and state.spec.local:
                    counts[model] = counts.get(model, 0.0) + count
    model, count = max(counts.items(), key=lambda item: (item[1], item[0]), default=("", 0.0))
    return model if count >= ENOUGH else None
