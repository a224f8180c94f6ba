"""What another configuration would change, and what each change takes (spec E4): the plan that people read.

Pure: two configurations are compared as they are resolved, so what says the same in other words is no change. Which
models' engines would run differently is told by whoever knows their files (`outdated`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from roundhouse.config.models import Config, Key, ModelConfig

LATER = (
    *("listen", "allow_anonymous", "tls", "cors", "limits", "systemd", "state_dir", "sessions", "captures"),
    *("scheduling.orphan_grace", "shutdown.drain"),
)
"""Settings that a running Roundhouse keeps: what it listens on, where its files are, what its launchers were told."""
_NOT_COMPARED = {"models", "keys", "defaults", "source", "warnings"}
"""Each compared for itself; defaults are in the models they are for."""
HIDDEN = "[hidden]"


class Effect(StrEnum):
    """What a change takes."""

    RESTART = "restart"
    """The model's engine drains, ends, and starts again."""
    STOP = "stop"
    """It drains and ends."""
    NEXT_START = "next start"
    """Nothing is loaded of it; it counts when it is."""
    AT_ONCE = "at once"
    """From the next request on."""
    LATER = "needs a restart of Roundhouse"
    """It is kept as it was until then."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, by its dotted name, as it was and as it will be; None where it is not there. JSON values."""

    name: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Change:
    """Attributes: what: model, key or setting; change: added, removed or changed."""

    what: str
    name: str
    change: str
    effect: Effect
    settings: tuple[Setting, ...] = ()


def compare(
    running: Config, new: Config, outdated: Collection[str] = (), loaded: Collection[str] = ()
) -> tuple[Change, ...]:
    """All that differs. `outdated`: models whose engines would run differently; `loaded`: those that have one now."""
    return (
        *_models(running.models, new.models, outdated, loaded),
        *_keys(running.keys, new.keys),
        *(_setting(setting) for setting in _differences(_top(running), _top(new))),
    )


def in_force(running: Config, new: Config) -> Config:
    """The configuration that holds once `new` is applied: all of it but for what only a restart of Roundhouse changes.

    What is kept so shows up in the next comparison with the file.
    """
    kept: dict[str, Any] = {name: getattr(running, name) for name in LATER if "." not in name}
    for name in LATER:
        section, _, key = name.partition(".")
        if key:
            value = getattr(getattr(running, section), key)
            kept[section] = getattr(new, section).model_copy(update={key: value})
    return new.model_copy(update=kept)


def _models(
    old: Mapping[str, ModelConfig],
    new: Mapping[str, ModelConfig],
    outdated: Collection[str],
    loaded: Collection[str],
) -> Iterator[Change]:
    for name in old.keys() - new.keys():
        yield Change("model", name, "removed", Effect.STOP if name in loaded else Effect.AT_ONCE)
    for name, model in new.items():
        if name not in old:
            yield Change("model", name, "added", Effect.AT_ONCE)
            continue
        found = tuple(_differences(_model(old[name]), _model(model)))
        if _secret_changed(old[name], model):
            found = (*found, Setting("api_key", HIDDEN, HIDDEN))
        if name in outdated:
            effect = Effect.RESTART if name in loaded else Effect.NEXT_START
            yield Change("model", name, "changed", effect, found or (Setting("files", "as they were", "changed"),))
        elif found:
            yield Change("model", name, "changed", Effect.AT_ONCE, found)


def _secret_changed(old: ModelConfig, new: ModelConfig) -> bool:
    return old.api_key is not None and new.api_key is not None and old.api_key != new.api_key


def _keys(old: tuple[Key, ...], new: tuple[Key, ...]) -> Iterator[Change]:
    before, after = ({key.name: key for key in keys} for keys in (old, new))
    for name in before.keys() - after.keys():
        yield Change("key", name, "removed", Effect.AT_ONCE)
    for name, key in after.items():
        if name not in before:
            yield Change("key", name, "added", Effect.AT_ONCE)
        elif before[name] != key:
            found = _differences(*(_flat(k.model_dump(mode="json", exclude={"hash"})) for k in (before[name], key)))
            hashed = () if before[name].hash == key.hash else (Setting("hash", HIDDEN, HIDDEN),)
            yield Change("key", name, "changed", Effect.AT_ONCE, (*found, *hashed))


def _setting(setting: Setting) -> Change:
    change = "added" if setting.old is None else "removed" if setting.new is None else "changed"
    later = any(setting.name == name or setting.name.startswith(f"{name}.") for name in LATER)
    return Change("setting", setting.name, change, Effect.LATER if later else Effect.AT_ONCE, (setting,))


def _top(config: Config) -> dict[str, Any]:
    return _flat(config.model_dump(mode="json", exclude=_NOT_COMPARED))


def _model(model: ModelConfig) -> dict[str, Any]:
    return _flat(model.model_dump(mode="json"))


def _flat(plain: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted names; lists are values."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}".rstrip(".")] = value  # `memory` of whichever device has no name
    return found


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Setting]:
    for name in [*old, *(name for name in new if name not in old)]:
        if (before := old.get(name)) == (after := new.get(name)) and (name in old) == (name in new):
            continue
        # Of a mapping that gets its first entry, or loses its last, that entry alone is told.
        if not any(other.startswith(f"{name}.") for other in (*old, *new)):
            yield Setting(name, before, after)
