"""Where a configuration names a model beside its own entry, and its text without that.

What API keys may use is left alone: taken out of a list, a name could open more than it closed; there, a name that is
no model is only odd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.config.edit import assign, unset
from roundhouse.config.problems import EditError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.config.models import Config


def mentions(config: Config, name: str) -> tuple[str, ...]:
    """Settings that would break without the model, as their keys."""
    groups = tuple(f"models.{group}.any_of" for group in _groups(config, name))
    return (*groups, *(("scheduling.task_model",) if _is_task_model(config, name) else ()))


def without(text: str, config: Config, name: str) -> str:
    """The text with the model taken out of them. Raises EditError where nothing would be left of one."""
    for group in _groups(config, name):
        rest = [one for one in config.models[group].any_of or () if one != name]
        if not rest:
            raise EditError(f"{group} stands for {name} alone; remove {group} first.")
        text = assign(text, ("models", group, "any_of"), rest)
    return unset(text, ("scheduling", "task_model")) if _is_task_model(config, name) else text


def _groups(config: Config, name: str) -> Iterator[str]:
    return (model.id for model in config.models.values() if name in (model.any_of or ()))


def _is_task_model(config: Config, name: str) -> bool:
    return config.scheduling.task_model in {name, *config.models[name].aliases}
