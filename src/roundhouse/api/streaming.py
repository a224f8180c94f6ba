"""A streamed answer: status while it waits (spec B1), then the engine's events as they come (B7), then the end (B3)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from roundhouse.api.reply import JSON as JSON_HEADER
from roundhouse.api.reply import send_head, send_last, send_part, send_whole
from roundhouse.dialects import sse, status
from roundhouse.dialects.failures import normalise_error, upstream_error
from roundhouse.dialects.meter import Meter
from roundhouse.dialects.native import NativeRelay
from roundhouse.dialects.relay import ChatRelay
from roundhouse.dialects.status import Channel, Frames
from roundhouse.errors import RouterError, UpstreamError

if TYPE_CHECKING:
    from roundhouse.api.dispatch import Dispatch
    from roundhouse.api.reply import Outlet
    from roundhouse.api.work import Work
    from roundhouse.core.model import Grant
    from roundhouse.runtime.supervisor import Lease
    from roundhouse.runtime.upstream import Response

HEAD_HOLD = 0.3
"""Seconds for which the response head is held, so that an error known by then gets its real status (spec A3)."""
HEAD_HOLD_OF_TASKS = 1.0
"""The same for background tasks: nobody watches those, and the scheduler may hold one before it refuses it."""
ERROR_LIMIT = 1 << 20
"""Most bytes that are read of an engine's error."""


class Stream:
    """One streamed answer."""

    def __init__(self, dispatch: Dispatch, work: Work, lease: Lease, outlet: Outlet) -> None:
        self._dispatch = dispatch
        self._work = work
        self._lease = lease
        self._outlet = outlet
        self._send = outlet.send
        self._channels = work.channels()
        self._frames = Frames(f"chatcmpl-{work.record.id}", int(work.record.at), work.match.asked)
        self._told = False

    async def run(self) -> None:
        """From waiting to `[DONE]`. Raises RouterError for what the gateway shall tell."""
        lease, work = self._lease, self._work
        if not lease.settled and not await lease.wait(HEAD_HOLD_OF_TASKS if work.ticket.task else HEAD_HOLD):
            await self._wait()
        try:
            grant = lease.result()
        except RouterError as error:
            await self._say(status.failed(error.message), done=True)
            raise
        seconds = work.note_grant(self._dispatch.supervisor.fleet, grant, self._dispatch.now())
        if self._told:
            await self._say(status.ready(seconds), done=True)
        response = await self._dispatch.send(work, grant)
        try:
            if response.status != 200 or b"event-stream" not in (response.header(b"content-type") or b""):
                await self._refused(response, grant)
                return
            await self._relay(response, grant)
        finally:
            response.cancel()

    async def _wait(self) -> None:
        """Status at once and then every few seconds, with a comment in between for clients' idle timers."""
        every = self._work.config.status.every
        if not self._outlet.started:
            await send_head(self._send, self._work.answer_headers(None))
        while True:
            waiting = self._lease.waiting()
            await self._say(status.loading(waiting.elapsed, waiting.expected, waiting.details), done=False)
            if await self._lease.wait(every / 2):
                return
            await send_part(self._send, sse.comment("keep-alive"))
            if await self._lease.wait(every / 2):
                return

    async def _say(self, line: str, *, done: bool) -> None:
        if self._outlet.started and self._channels:
            self._told = True
            await send_part(self._send, self._frames.status(self._channels, line, done=done))

    async def _refused(self, response: Response, grant: Grant) -> None:
        """The engine did not begin a stream: its own status if the head is not out yet, else an error event."""
        answer = await self._dispatch.refusal(response, ERROR_LIMIT)
        if response.status == 200:
            raise UpstreamError("The engine answered a request for a stream with something else.")
        error = upstream_error(response.status, answer)
        if self._outlet.started:
            raise error
        self._work.record.status, self._work.record.error = response.status, error.message
        headers = [*self._work.answer_headers(grant), JSON_HEADER]
        await send_whole(self._send, response.status, normalise_error(response.status, answer), headers)

    async def _relay(self, response: Response, grant: Grant) -> None:
        now = self._dispatch.now
        relay = self._new_relay()
        if not self._outlet.started:
            await send_head(self._send, self._work.answer_headers(grant))
        send = self._send
        feed, read = relay.feed, response.read
        out = b""
        try:
            while data := await read():
                out = feed(data, now())
                if relay.finished:
                    break
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            else:
                out = relay.end(now())
        except RouterError as error:
            await self._dispatch.has_ended(grant)
            out = relay.broken(error, now())
        record = self._work.record
        record.status = 200
        if relay.error is not None:
            record.status, record.error = relay.error.status, relay.error.message
        await send_last(send, out)
        await _give_back(response)

    def _new_relay(self) -> ChatRelay | NativeRelay:
        work, record = self._work, self._work.record
        record.meter = Meter(record.arrived, record.queue_s, record.load_s)
        if work.is_native:
            return NativeRelay(work.match.asked, record.meter, work.request.choices)
        performance = status.performance_channels(
            work.config.performance, self._channels, text_allowed=work.text_allowed
        )
        return ChatRelay(
            self._frames,
            record.meter,
            performance if work.is_chat else performance - {Channel.CONTENT, Channel.EVENT},
            include_usage=work.request.include_usage,
            choices=work.request.choices,
            extra_usage=work.config.performance != "off",
        )


async def _give_back(response: Response) -> None:
    """After [DONE] only the end of the message is to come; with it the connection can be used again."""
    try:
        async with asyncio.timeout(1.0):
            while await response.read():
                pass
        await response.aclose()
    except (TimeoutError, RouterError):
        response.cancel()
