"""After a restart: engines that an earlier Roundhouse left are taken over, or ended if not wanted (spec E1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.errors import RouterError
from roundhouse.ports import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.app.books import Books
    from roundhouse.core.model import Fleet
    from roundhouse.ports import Handle, Served
    from roundhouse.runtime.effects import Effects, Runnable
    from roundhouse.runtime.upstream import Upstream

PROBE_SECONDS = 2.0
STOP_GRACE = 10.0


async def adopt(effects: Effects, fleet: Fleet, found: Sequence[Handle], upstream: Upstream, books: Books) -> None:
    """Takes over every engine that serves a model of today's configuration with today's settings; ends the others.

    One that does not answer yet is taken over as loading: its load may still be under way.
    """
    for handle in found:
        tag = handle.tag
        runnable = effects.models.get(tag.model)
        state = fleet.models.get(tag.model)
        if runnable is None or state is None or state.instance is not None or runnable.settings != tag.settings:
            books.outdated(tag.model, handle.pid)
            await handle.stop(STOP_GRACE)
            continue
        endpoint = Endpoint("127.0.0.1", tag.port)
        served = await _ask(runnable, endpoint, upstream)
        effects.adopt(fleet.next_instance, tag.model, handle, endpoint, served)
        books.adopted(tag.model, handle.pid, ready=served is not None)


async def _ask(runnable: Runnable, endpoint: Endpoint, upstream: Upstream) -> Served | None:
    """What a running engine says of itself, None if it is not ready."""
    engine = runnable.engine
    try:
        path = engine.ready_path(runnable.config).encode()
        status, body = await upstream.get(endpoint, path, timeout=PROBE_SECONDS)
        if not engine.is_ready(status, body):
            return None
        replies = {}
        for name in engine.facts_paths:
            status, body = await upstream.get(endpoint, name.encode(), timeout=PROBE_SECONDS)
            if status == 200:
                replies[name] = body
        return engine.served(replies)
    except RouterError:
        return None
