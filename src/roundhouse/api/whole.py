"""An answer in one piece (`stream: false`, embeddings, tokenize): the engine's status and body, with nothing in its text.

Where an engine goes on generating after its client has left (llama-server), the answer is streamed from it and
gathered here, so that leaving ends it (spec A8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from roundhouse.api.reply import JSON, Headers, send_whole
from roundhouse.api.work import engine_headers, engine_path
from roundhouse.dialects import body as json_body
from roundhouse.dialects.aggregate import Aggregator
from roundhouse.dialects.failures import normalise_error, upstream_error
from roundhouse.dialects.meter import Meter
from roundhouse.dialects.openai import Operation

if TYPE_CHECKING:
    from roundhouse.api.gateway import Gateway, _Progress
    from roundhouse.api.work import Work
    from roundhouse.core.model import Grant
    from roundhouse.runtime.supervisor import Lease
    from roundhouse.runtime.upstream import Response

ANSWER_LIMIT = 256 << 20
"""Most bytes of an answer that are held in memory."""
_TEXT = {Operation.CHAT, Operation.COMPLETION}


async def answer_whole(gateway: Gateway, work: Work, lease: Lease, progress: _Progress) -> None:
    """Waits for the model and answers. Raises RouterError for what the gateway shall tell."""
    await lease.wait()
    grant = lease.result()
    work.note_grant(gateway.supervisor.fleet, grant, gateway.supervisor.now())
    runnable = gateway.models[grant.model]
    gather = runnable.engine.streams_to_abort and work.route.operation in _TEXT
    endpoint = gateway.endpoint_of(grant)
    path = engine_path(endpoint, work.route.upstream_path)
    body = work.body(runnable, stream_upstream=gather)
    response = await gateway.upstream.send(endpoint, b"POST", path, engine_headers(work), body)
    try:
        meter = Meter(work.record.arrived, work.record.queue_s, work.record.load_s)
        work.record.meter = meter
        if response.status != 200:
            await _refused(work, grant, response, progress)
        elif gather and b"event-stream" in (response.header(b"content-type") or b""):
            answer = await _gathered(gateway, work, response, meter)
            await _send(gateway, work, grant, progress, answer, meter, JSON[1])
        else:
            answer = await response.read_all(ANSWER_LIMIT)
            await response.aclose()
            kind = response.header(b"content-type") or JSON[1]
            now = gateway.supervisor.now()
            await _send(gateway, work, grant, progress, _retold(work, answer, meter, now), meter, kind)
    finally:
        response.cancel()


async def _gathered(gateway: Gateway, work: Work, response: Response, meter: Meter) -> bytes:
    now = gateway.supervisor.now
    gathered = Aggregator(work.match.asked, meter, extra_usage=work.config.performance != "off")
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
    meter.note(found)
    if work.route.operation in _TEXT and isinstance(found.get("usage"), dict) and work.config.performance != "off":
        changes["usage"] = orjson.dumps(meter.extended_usage(now))
    return json_body.edit(answer, changes) if changes else answer


async def _refused(work: Work, grant: Grant, response: Response, progress: _Progress) -> None:
    answer = await response.read_all(ANSWER_LIMIT)
    await response.aclose()
    work.record.status = response.status
    work.record.error = upstream_error(response.status, answer).message
    await send_whole(
        progress.send, response.status, normalise_error(response.status, answer), [*work.answer_headers(grant), JSON]
    )


async def _send(
    gateway: Gateway, work: Work, grant: Grant, progress: _Progress, answer: bytes, meter: Meter, kind: bytes
) -> None:
    work.record.status = 200
    headers: Headers = [*work.answer_headers(grant), (b"content-type", kind)]
    now = gateway.supervisor.now()
    if work.route.operation in _TEXT:
        headers.append((b"x-roundhouse-total-s", b"%.3f" % (now - work.record.arrived)))
        rate = meter.rate(now)
        if rate is not None:
            headers.append((b"x-roundhouse-tokens-per-s", b"%.1f" % rate))
    await send_whole(progress.send, 200, answer, headers)
