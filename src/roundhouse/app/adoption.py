"""After a restart: engines that an earlier Roundhouse left are taken over, or ended if not wanted (spec E1)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from roundhouse.errors import RouterError
from roundhouse.ports import Tag
from roundhouse.runtime.loading import replies

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from roundhouse.app.books import Books
    from roundhouse.core.model import Claim, Fleet, ModelSpec
    from roundhouse.launchers.kept import Kept
    from roundhouse.launchers.systemd.handle import UnitHandle
    from roundhouse.ports import Endpoint, Handle
    from roundhouse.runtime.effects import Effects
    from roundhouse.runtime.life import Runnable
    from roundhouse.runtime.upstream import Upstream

    Claiming = Callable[[UnitHandle, Tag], Awaitable[None]]

PROBE_SECONDS = 2.0
STOP_GRACE = 10.0
"""Seconds for an engine whose kind is not known any more."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """Takes over what was found. `kept` are the processes that stay, by the identity they are recognised by."""

    effects: Effects
    fleet: Fleet
    upstream: Upstream
    books: Books
    kept: Mapping[str, Kept]

    async def adopt(self, found: Sequence[Handle]) -> None:
        """Takes over every engine that serves a model of today's configuration with today's settings; ends the others.

        One that does not answer yet is taken over as loading: its load may still be under way.
        """
        for handle in found:
            if (kept := self.kept.get(handle.tag.settings)) is not None and not kept.running:
                kept.take(handle)
                await self._take_turn(kept, handle.tag)
            else:
                await self._take(handle)

    async def _take(self, handle: Handle) -> None:
        tag = handle.tag
        runnable = self.effects.models.get(tag.model)
        state = self.fleet.models.get(tag.model)
        if runnable is None or state is None or state.instance is not None or runnable.identity != tag.settings:
            await self._end(handle, runnable)
            return
        try:
            endpoint = await self.effects.endpoint_for(runnable, tag.port)
        except RouterError:
            await self._end(handle, runnable)
            return
        told = await self._ask(runnable, endpoint)
        if told is not None and not runnable.engine.serves(runnable.config, told):
            await self._end(handle, runnable)
            return
        served = runnable.engine.served(told) if told is not None else None
        claim = _placed(state.spec, tag.claim)
        self.effects.adopt(self.fleet.next_instance, tag.model, handle, endpoint, served, claim)
        self.books.adopted(tag.model, handle.pid, ready=served is not None)

    async def recognise(self, strangers: Sequence[UnitHandle], claim: Claiming) -> None:
        """Units that the configuration names and that somebody else has started: ours to start and stop (C3b).

        A unit that runs as it is written is taken over; of a start script it can't be told which model it serves, so
        what runs there is ended. `claim` makes a later Roundhouse find it as ours.
        """
        for handle in strangers:
            runnable = next((r for r in self.effects.models.values() if _runs_as_written(r, handle.unit)), None)
            kept = self.kept.get(runnable.identity) if runnable is not None else None
            if runnable is None or kept is None or kept.running or not await self._is_up(runnable, handle.tag.port):
                await self._end(handle, runnable)
                continue
            await claim(handle, replace(handle.tag, model=runnable.config.id, settings=runnable.identity))
            kept.take(handle)
            await self._take_turn(kept, handle.tag)

    async def _is_up(self, runnable: Runnable, port: int) -> bool:
        try:
            endpoint = await self.effects.endpoint_for(runnable, port)
        except RouterError:
            return False
        return await self._ask(runnable, endpoint) is not None

    async def _take_turn(self, kept: Kept, tag: Tag) -> None:
        """Whichever of its models a kept process has loaded; it is empty if none of them."""
        for runnable in self.effects.models.values():
            if self.kept.get(runnable.identity) is not kept:
                continue
            try:
                endpoint = await self.effects.endpoint_for(runnable, tag.port)
            except RouterError:
                continue
            told = await self._ask(runnable, endpoint)
            if told and runnable.engine.serves(runnable.config, told):
                turn = kept.turn(Tag(runnable.config.id, runnable.identity, tag.port, time.time()))
                served = runnable.engine.served(told)
                self.effects.adopt(self.fleet.next_instance, runnable.config.id, turn, endpoint, served)
                self.books.adopted(runnable.config.id, turn.pid, ready=True)
                return

    async def _end(self, handle: Handle, runnable: Runnable | None) -> None:
        self.books.outdated(handle.tag.model, handle.pid)
        await handle.stop(runnable.engine.stop_grace if runnable is not None else STOP_GRACE)

    async def _ask(self, runnable: Runnable, endpoint: Endpoint) -> dict[str, bytes] | None:
        """What a running engine says of itself, None if it is not ready."""
        engine = runnable.engine
        for path in engine.ready_paths(runnable.config):
            try:
                status, body = await self.upstream.get(endpoint, path.encode(), timeout=PROBE_SECONDS)
            except RouterError:
                return None
            if engine.is_ready(status, body):
                return await replies(engine, self.upstream, endpoint, PROBE_SECONDS)
            if status != 404:
                return None
        return None


def _placed(spec: ModelSpec, given: Claim) -> Claim | None:
    """What an engine claims where it was placed: as is known of that place today, else as it was given."""
    if not given:
        return None
    return next((claim for claim in (spec.claim, *spec.elsewhere) if claim.keys() == given.keys()), given)


def _runs_as_written(runnable: Runnable, unit: str) -> bool:
    """Whether a model's engine is that unit, not a command or script of ours in its place."""
    service = runnable.config.service
    return runnable.loads is not None and service is not None and f"{service.removesuffix('.service')}.service" == unit
