"""What a model's engine wrote: its last lines, then those to come; without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.runtime.tasks import until

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from roundhouse.observe.redact import Secrets
    from roundhouse.runtime.effects import Effects

LOG_LINES = 500
"""How many of a model's last lines of output are shown."""


async def lines(
    effects: Effects, model: str, ending: asyncio.Event, secrets: Secrets, *, follow: bool
) -> AsyncIterator[str]:
    """The lines, until the engine or (`ending`) Roundhouse ends. TabbyAPI prints its keys at each start (spec F4)."""
    async for line in _raw(effects, model, ending, follow=follow):
        yield secrets.text(line)


async def _raw(effects: Effects, model: str, ending: asyncio.Event, *, follow: bool) -> AsyncIterator[str]:
    life = next((found for found in effects.lives.values() if found.runnable.config.id == model), None)
    if life is None or life.handle is None:
        for line in effects.last_output.get(model, ()):
            yield line
    elif follow:
        async for line in until(ending, life.handle.lines()):
            yield line
    else:
        for line in life.handle.tail(LOG_LINES):
            yield line
