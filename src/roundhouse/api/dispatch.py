"""Where granted requests go: the engine that a grant names, asked in its own words.

Knows how a request becomes one for an engine (path, headers, body); knows nothing of clients or of what is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.api.work import engine_headers, engine_path
from roundhouse.dialects.openai import Operation
from roundhouse.errors import UpstreamError
from roundhouse.runtime.upstream import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.api.work import Work
    from roundhouse.core.model import Grant
    from roundhouse.runtime.desk import Seat
    from roundhouse.runtime.effects import Effects
    from roundhouse.runtime.life import Runnable
    from roundhouse.runtime.sessions import Sessions
    from roundhouse.runtime.supervisor import Supervisor
    from roundhouse.runtime.upstream import Response, Upstream

_IN_SLOTS = {Operation.CHAT, Operation.COMPLETION, Operation.NATIVE}
"""What is computed in a slot of its engine."""
NOTICE_SECONDS = 1.0
"""How long an engine's end is waited for when it broke an answer, so that the client's next try has it loaded again."""


class EngineEnded(UpstreamError):
    """The engine had ended before it got anything of the request, which may be sent to the next one."""


class Dispatch:
    """Sends requests to engines.

    Args:
        models: how each model is run.
        engines: those that live.
        sessions: their slots.
    """

    def __init__(
        self,
        models: Mapping[str, Runnable],
        supervisor: Supervisor,
        upstream: Upstream,
        engines: Effects,
        sessions: Sessions,
    ) -> None:
        self.models = models
        self.supervisor = supervisor
        self._upstream = upstream
        self._engines = engines
        self._sessions = sessions

    def now(self) -> float:
        """Seconds of the one clock."""
        return self.supervisor.now()

    async def send(self, work: Work, grant: Grant, *, stream_upstream: bool = False) -> Response:
        """Asks the granted engine; `stream_upstream` for a streamed answer to a client that wants it whole.

        Raises:
            EngineEnded: it was gone already.
            UpstreamError: it does not answer.
        """
        endpoint = self._engines.endpoint(grant.instance)
        if endpoint is None:
            raise ended(grant)
        runnable = self.models[grant.model]
        path = engine_path(endpoint, work.route.upstream_path)
        name = self._engines.served_name(grant.instance)
        if work.route.operation in _IN_SLOTS and self._sessions.has(grant.instance):
            work.seat = await self._sessions.seat(grant.instance, work.ask())
            work.record.conversation = _place(work.seat)
        body = work.body(runnable.config, name, stream_upstream=stream_upstream)
        seat = work.seat
        if seat is not None and seat.floor and not await seat.desk.holds_up(seat, work.route.upstream_path, body):
            body = work.body(runnable.config, name, stream_upstream=stream_upstream)
        try:
            response = await self._upstream.send(endpoint, b"POST", path, engine_headers(work), body)
        except UpstreamError as error:
            if await self.has_ended(grant) and isinstance(error, Unreachable):
                raise ended(grant) from None
            raise
        if response.status >= 500:
            self._engines.doubt(grant.instance)
        return response

    def left(self, work: Work, grant: Grant | None) -> None:
        """A request is over, whatever came of it: its slot is free, and holds what it left there."""
        seat, work.seat = work.seat, None
        if seat is None or grant is None:
            return
        meter, status = work.record.meter, work.record.status
        usage = meter.usage if meter is not None else None
        counts = (usage or {}).get("prompt_tokens"), (usage or {}).get("completion_tokens")
        tokens = counts[0] + counts[1] if isinstance(counts[0], int) and isinstance(counts[1], int) else None
        taken = meter is not None and status in {0, 200, 499}  # 0: its client left while it was answered
        self._sessions.left(grant.instance, seat, meter.timings if meter is not None else None, tokens, good=taken)

    async def refusal(self, response: Response, limit: int) -> bytes:
        """What an engine says instead of an answer, without its key, which it may have repeated (spec F4)."""
        answer = await response.read_all(limit)
        await response.aclose()
        return self._engines.hide(answer.decode("utf-8", "replace")).encode()

    async def has_ended(self, grant: Grant) -> bool:
        """Whether an engine that broke an answer is gone; its exit is noticed a little later than its silence."""
        return self.models[grant.model].remote is None and await self._engines.ends(grant.instance, NOTICE_SECONDS)


def _place(seat: Seat | None) -> dict[str, object] | None:
    """Where a request was put, for its history."""
    if seat is None:
        return None
    restored = seat.restored.conversation.tokens if seat.restored is not None else 0
    return {"slot": seat.slot.number if seat.slot is not None else None, "restored": restored, "known": seat.expected}


def ended(grant: Grant) -> EngineEnded:
    """What is said of an engine that had ended."""
    return EngineEnded(f"The engine of '{grant.model}' has just ended; try again.", retry_after=1.0)
