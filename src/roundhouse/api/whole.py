"""An answer in one piece (`stream: false`, embeddings, tokenize): the engine's status and body, its text untouched.

Where an engine goes on generating after its client has left (llama-server), the answer is streamed from it and
gathered here, so that leaving ends it (spec A8).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from roundhouse.api.reply import JSON, Headers, send_whole
from roundhouse.dialects import body as json_body
from roundhouse.dialects import embeddings, reasoning
from roundhouse.dialects.aggregate import Aggregator
from roundhouse.dialects.failures import normalise_error, upstream_error
from roundhouse.dialects.meter import Meter
from roundhouse.dialects.native import NativeAnswer
from roundhouse.dialects.openai import Operation

if TYPE_CHECKING:
    from roundhouse.api.dispatch import Dispatch
    from roundhouse.api.reply import Outlet
    from roundhouse.api.work import Work
    from roundhouse.core.model import Grant
    from roundhouse.runtime.supervisor import Lease
    from roundhouse.runtime.upstream import Response

ANSWER_LIMIT = 256 << 20
"""Most bytes of an answer that are held in memory."""
_TEXT = {Operation.CHAT, Operation.COMPLETION}
_LONG_NUMBER = re.compile(rb"[0-9.]{16}")
"""A number that may not survive being read and written again (64 bits, a float's 17 digits)."""


async def answer_whole(dispatch: Dispatch, work: Work, lease: Lease, outlet: Outlet) -> None:
    """Waits for the model and answers. Raises RouterError for what the dispatch shall tell."""
    await lease.wait()
    grant = lease.result()
    work.note_grant(dispatch.supervisor.fleet, grant, dispatch.now())
    runnable = dispatch.models[grant.model]
    gather = runnable.engine.streams_to_abort and _gathers(work)
    response = await dispatch.send(work, grant, stream_upstream=gather)
    try:
        meter = Meter(work.record.arrived, work.record.queue_s, work.record.load_s)
        work.record.meter = meter
        if response.status != 200:
            await _refused(dispatch, work, grant, response, outlet)
        elif gather and b"event-stream" in (response.header(b"content-type") or b""):
            answer = await _gathered(dispatch, work, response, meter)
            await _send(dispatch, work, grant, outlet, answer, meter, JSON[1])
        else:
            answer = await response.read_all(ANSWER_LIMIT)
            await response.aclose()
            kind = response.header(b"content-type") or JSON[1]
            now = dispatch.now()
            await _send(dispatch, work, grant, outlet, _retold(work, answer, meter, now), meter, kind)
    finally:
        response.cancel()


def _gathers(work: Work) -> bool:
    """Whether an answer is one that can be streamed and put together: llama-server's own only for one prompt."""
    return work.route.operation in _TEXT or (work.is_native and work.request.choices == 1)


async def _gathered(dispatch: Dispatch, work: Work, response: Response, meter: Meter) -> bytes:
    now = dispatch.now
    gathered: Aggregator | NativeAnswer = (
        NativeAnswer(work.match.asked, meter)
        if work.is_native
        else Aggregator(work.match.asked, meter, extra_usage=work.config.performance != "off")
    )
    while data := await response.read():
        gathered.feed(data, now())
    await response.aclose()
    return gathered.result(now())


def _retold(work: Work, answer: bytes, meter: Meter, now: float) -> bytes:
    """The engine's JSON with the name the client asked for (A5), and our figures in its usage (B3); else as it came."""
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return answer
    if not isinstance(found, dict):
        return answer
    changes: dict[str, bytes | None] = {}
    if isinstance(found.get("model"), str) and found["model"] != work.match.asked:
        changes["model"] = orjson.dumps(work.match.asked)
    if "event" in found:
        changes["event"] = None
    if reasoning.complete(found.get("choices")):
        changes["choices"] = orjson.dumps(found["choices"])
    if work.request.fields.get("encoding_format") == "base64" and embeddings.encode(found.get("data")):
        changes["data"] = orjson.dumps(found["data"])
    meter.note(found)
    if work.route.operation in _TEXT and isinstance(found.get("usage"), dict) and work.config.performance != "off":
        changes["usage"] = orjson.dumps(meter.extended_usage(now))
    return _changed(answer, found, changes) if changes else answer


def _changed(answer: bytes, found: dict[str, Any], changes: dict[str, bytes | None]) -> bytes:
    """The answer with some top-level keys changed; written anew only where every number in it survives that."""
    if _LONG_NUMBER.search(answer) is not None:
        return json_body.edit(answer, changes)
    for key, value in changes.items():
        if value is None:
            found.pop(key)
        else:
            found[key] = orjson.Fragment(value)
    return orjson.dumps(found)


async def _refused(dispatch: Dispatch, work: Work, grant: Grant, response: Response, outlet: Outlet) -> None:
    answer = await dispatch.refusal(response, ANSWER_LIMIT)
    work.record.status = response.status
    work.record.error = upstream_error(response.status, answer).message
    await send_whole(
        outlet.send, response.status, normalise_error(response.status, answer), [*work.answer_headers(grant), JSON]
    )


async def _send(
    dispatch: Dispatch, work: Work, grant: Grant, outlet: Outlet, answer: bytes, meter: Meter, kind: bytes
) -> None:
    work.record.status = 200
    headers: Headers = [*work.answer_headers(grant), (b"content-type", kind)]
    now = dispatch.now()
    if work.route.operation in _TEXT:
        headers.append((b"x-roundhouse-total-s", b"%.3f" % (now - work.record.arrived)))
        rate = meter.rate(now)
        if rate is not None:
            headers.append((b"x-roundhouse-tokens-per-s", b"%.1f" % rate))
    await send_whole(outlet.send, 200, answer, headers)
