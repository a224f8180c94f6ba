"""Another configuration while engines run (spec E4): what it changes in the picture.

Only an engine whose settings are others now leaves, once it has drained; it comes back by itself with the new ones. Of
a model that is not configured any more nothing begins, and its record goes with its last trace. Everything else of a
model (its priority, its time to live, its pin, ...) holds from now on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from roundhouse.core.habits import Habits
from roundhouse.core.lifecycle import Cue
from roundhouse.core.model import ModelState, Phase
from roundhouse.core.records import change, change_instance, move, refuse_queue
from roundhouse.errors import UnknownModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from roundhouse.core.model import Action, Device, DeviceId, Fleet, Instance, ModelSpec, Reloaded

CHANGED = "its settings have changed"
YIELDED = "its settings have changed, and another model needs its place"
REMOVED = "it is not in the configuration any more"
_REASONS = {CHANGED, YIELDED, REMOVED}
"""Why an engine leaves, in words."""


def reloaded(fleet: Fleet, event: Reloaded, now: float, actions: list[Action]) -> None:
    """Takes another configuration over."""
    fleet.policy = event.policy
    fleet.ahead = None
    former = fleet.models
    configured = {spec.id: _renewed(former.get(spec.id), spec) for spec in event.specs}
    gone = {model: state for model, state in former.items() if model not in configured}
    fleet.models = configured | gone
    fleet.removed = frozenset(gone)
    for model in configured.keys() - fleet.habits.keys():
        fleet.habits[model] = Habits()
    for state in gone.values():
        refuse_queue(fleet, change(fleet, state, asked=None, blocked=None), removed_error(state.spec.id), actions)
    for instance in fleet.live():
        _outdate(fleet, instance, now)
    fleet.devices = _devices(fleet, event.devices)
    forget(fleet)


def removed_error(model: str) -> UnknownModel:
    """The answer to whoever asks for a model that was taken out meanwhile."""
    return UnknownModel(f"Model '{model}' is not in the configuration any more.", param="model")


def is_outdated(fleet: Fleet, instance: Instance) -> bool:
    """Whether it runs with other settings than are configured now, or for a model that is not configured any more."""
    return instance.model in fleet.removed or instance.settings != fleet.models[instance.model].spec.settings


def comes_back(fleet: Fleet, instance: Instance) -> bool:
    """Whether a model whose engine has just ended is started again with its new settings."""
    return instance.leaving == CHANGED and instance.model not in fleet.removed and not fleet.closing


def forget(fleet: Fleet) -> None:
    """Lets go of removed models of which nothing runs, waits or is answered any more."""
    if not fleet.removed:
        return
    busy = {granted.ticket.model for granted in fleet.granted.values()} | set(fleet.instances.values())
    over = fleet.removed - busy
    for model in over:
        del fleet.models[model], fleet.habits[model]
    fleet.removed -= over
    if fleet.last_start in over:
        fleet.last_start = None


def _renewed(state: ModelState | None, spec: ModelSpec) -> ModelState:
    """A model's record with another spec.

    What was learned of its memory stays unless the new spec says something else of it; a failure stays unless its
    settings are others now, which may be what mends it.
    """
    if state is None:
        return ModelState(spec, spec.claim, spec.elsewhere)
    before = state.spec
    configured_pin = before.pinned is not state.pin_asked
    if state.pin_asked and spec.pinned is configured_pin:
        spec = replace(spec, pinned=before.pinned)  # the operator's word stands until the configuration's changes
    else:
        state = replace(state, pin_asked=False)
    if (spec.claim, spec.elsewhere, spec.told) != (before.claim, before.elsewhere, before.told):
        state = replace(state, claim=spec.claim, elsewhere=spec.elsewhere, grown=False, blocked=None)
    if spec.settings != before.settings:
        state = replace(state, failure=None, load_seconds=None, grown=False)
    return replace(state, spec=spec)


def _outdate(fleet: Fleet, instance: Instance, now: float) -> None:
    """Sends an engine away that is outdated, and calls one back that was but is not any more."""
    if not is_outdated(fleet, instance):
        if instance.phase is Phase.DRAINING and instance.leaving in _REASONS:
            move(fleet, instance, Cue.RECALLED, now, leaving="")
        return
    reason = REMOVED if instance.model in fleet.removed else CHANGED
    if instance.phase is Phase.STARTING:
        change(fleet, fleet.models[instance.model], idle_since=now)
    if instance.phase in {Phase.STARTING, Phase.READY}:
        move(fleet, instance, Cue.TOLD_TO_LEAVE, now, leaving=reason, for_room=False)
    elif instance.phase is Phase.DRAINING and (instance.for_room or instance.leaving in _REASONS):
        # Not to be called back any more, whether its place is needed or not.
        yields = reason is CHANGED and (instance.for_room or instance.leaving == YIELDED)
        change_instance(fleet, instance.id, leaving=YIELDED if yields else reason, for_room=False)


def _devices(fleet: Fleet, configured: Iterable[Device]) -> dict[DeviceId, Device]:
    """Those of the new configuration, with what others were seen to use; one that an engine still holds stays."""
    former = fleet.devices
    found = {
        device.id: replace(device, foreign=former[device.id].foreign, holders=former[device.id].holders)
        if device.id in former
        else device
        for device in configured
    }
    held = {name for instance in fleet.live() for name in instance.claim}
    return found | {name: device for name, device in former.items() if name in held and name not in found}
