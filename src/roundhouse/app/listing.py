"""`/v1/models`: what a caller may ask for, whether it is loaded or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roundhouse.api import state
from roundhouse.errors import UnknownModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from roundhouse.api.auth import Caller
    from roundhouse.api.state import About
    from roundhouse.core.catalog import Catalog
    from roundhouse.core.model import Fleet


class Listing:
    """Lists them. `about` is what their files say."""

    def __init__(
        self,
        catalog: Catalog,
        about: Mapping[str, About],
        fleet: Fleet,
        is_loaded: Callable[[str], bool],
    ) -> None:
        self._catalog = catalog
        self._about = about
        self._fleet = fleet
        self._is_loaded = is_loaded

    def models(self, caller: Caller) -> list[dict[str, Any]]:
        """The models that this caller may use, in the order of the configuration, by the first name that it may use."""
        found = []
        for config in self._catalog.models.values():
            name = next((name for name in (config.id, *config.aliases) if caller.allowed(name)), None)
            if config.unlisted or name is None:
                continue
            if config.any_of:
                entry = state.virtual_entry(config, self._is_loaded)
            else:
                entry = state.model_entry(self._about[config.id], self._fleet.models[config.id])
            found.append(entry | {"id": name})
        return found

    def model(self, caller: Caller, name: str) -> dict[str, Any]:
        """One model, by id or alias."""
        match = self._catalog.find(name, self._is_loaded)
        target = match.virtual or match.model
        if not any(caller.allowed(known) for known in {name, target.id}):
            raise UnknownModel(f"Model '{name}' does not exist, or your key may not use it.", param="model")
        if target.any_of:
            return state.virtual_entry(target, self._is_loaded)
        return state.model_entry(self._about[target.id], self._fleet.models[target.id])
