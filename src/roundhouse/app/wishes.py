"""What operators ask of a model (load, unload, pin), and waiting until it has come about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from roundhouse.api import state
from roundhouse.core.model import Asked, Phase, Want
from roundhouse.core.reload import removed_error
from roundhouse.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from roundhouse.core.model import ModelState
    from roundhouse.runtime.supervisor import Supervisor


class Wishes:
    """Passes them on. `objection` is why a model can't be loaded, known without trying."""

    def __init__(
        self,
        supervisor: Supervisor,
        engines: Mapping[str, str | None],
        objection: Callable[[str], Awaitable[str | None]],
    ) -> None:
        self._supervisor = supervisor
        self._engines = engines
        self._objection = objection
        self._changed = asyncio.Event()

    def saw(self, *_: object) -> None:
        """Wakes those who wait for a change of the picture."""
        self._changed.set()

    async def load(self, model: str) -> dict[str, Any]:
        """Returns when it is ready. Raises LoadFailed when it can't be, UnknownModel when it is removed meanwhile."""
        if (reason := await self._objection(model)) is not None:
            raise LoadFailed(reason)
        self._supervisor.post(Asked(model, Want.LOAD))
        await self._until(lambda s: s.asked is None and (s.instance is None or s.instance.phase is Phase.READY), model)
        found = self._state(model)
        if found.instance is None:
            reason = (
                found.failure.reason if found.failure else "it does not fit; GET /health shows who holds the memory"
            )
            raise LoadFailed(f"Model '{model}' could not be loaded: {reason}")
        return self._told(model)

    async def unload(self, model: str) -> dict[str, Any]:
        """Returns when it is gone (or wanted again)."""
        before = self._state(model).instance
        self._supervisor.post(Asked(model, Want.UNLOAD))
        await self._until(lambda s: before is None or s.instance is None or s.instance.id != before.id, model)
        return self._told(model)

    def pin(self, model: str, *, pinned: bool) -> dict[str, Any]:
        """Has it never unloaded to make room, or no longer so."""
        self._supervisor.post(Asked(model, Want.PIN if pinned else Want.UNPIN))
        return self._told(model)

    def _told(self, model: str) -> dict[str, Any]:
        told = state.model_state(self._supervisor.fleet, self._state(model), self._supervisor.now())
        return {"model": model, **told, "engine": self._engines.get(model)}

    def _state(self, model: str) -> ModelState:
        if (found := self._supervisor.fleet.models.get(model)) is None:
            raise removed_error(model)
        return found

    async def _until(self, true: Callable[[ModelState], bool], model: str) -> None:
        while not true(self._state(model)):
            self._changed.clear()
            await self._changed.wait()
