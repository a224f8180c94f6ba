"""One admitted request, and what follows from it alone: channels, headers, the body for an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.core.model import Phase
from roundhouse.dialects import openai, status
from roundhouse.engines.openai import path_for
from roundhouse.runtime.desk import Ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.api.auth import Caller
    from roundhouse.api.record import Record
    from roundhouse.api.reply import Headers
    from roundhouse.api.routes import Route
    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.core.catalog import Match
    from roundhouse.core.model import Fleet, Grant, Ticket
    from roundhouse.ports import Endpoint
    from roundhouse.runtime.desk import Seat


@dataclass(slots=True)
class Work:
    """A request that may have a model."""

    route: Route
    request: openai.ChatRequest
    match: Match
    caller: Caller
    ticket: Ticket
    headers: Mapping[bytes, bytes]
    record: Record
    config: Config
    seat: Seat | None = None

    @property
    def is_chat(self) -> bool:
        """A chat completion: the only kind with status and performance lines."""
        return self.route.operation is openai.Operation.CHAT

    @property
    def is_native(self) -> bool:
        """A completion of llama-server's own API."""
        return self.route.operation is openai.Operation.NATIVE

    @property
    def text_allowed(self) -> bool:
        """Whether lines of ours may stand in the answer's text at all (spec B4)."""
        return self.request.plain_text and not self.ticket.task

    def channels(self) -> status.Channels:
        """Where status goes (spec B2)."""
        told = self.match.model.status
        header = self.headers.get(b"x-roundhouse-status")
        return status.choose_channels(
            header=header.decode("latin-1") if header else None,
            key=self.caller.status,
            model=told.channel if told is not None and told.channel != "auto" else None,
            config=self.config.status.channel,
            user_agent=self.headers.get(b"user-agent", b"").decode("latin-1"),
            streams=self.request.stream,
            chat=self.is_chat,
            text_allowed=self.text_allowed,
        )

    def ask(self) -> Ask:
        """What it tells of its conversation."""
        return Ask(self.ticket.key, self.ticket.talk, openai.prompt_of(self.request), self.request.choices)

    def body(self, model: ModelConfig, served_name: str, *, stream_upstream: bool = False) -> bytes:
        """What the engine gets, which calls the model `served_name`."""
        match = self.match
        changes: dict[str, object] = {**model.set, **(match.virtual.set if match.virtual else {})}
        strip = (*model.strip, *(match.virtual.strip if match.virtual else ()))
        return openai.prepare(
            self.request,
            served_name=served_name,
            stream_upstream=stream_upstream,
            default_params=match.defaults,
            set_params=changes if self.seat is None else {**changes, **self.seat.fields},
            strip_params=strip,
        )

    def answer_headers(self, granted: Grant | None) -> Headers:
        """Headers of every answer (spec H)."""
        record = self.record
        headers = [(b"x-request-id", record.id.encode("latin-1")), *record.headers]
        if granted is not None:
            headers += [
                (b"x-roundhouse-model", granted.model.encode()),
                (b"x-roundhouse-queue-s", b"%.3f" % record.queue_s),
                (b"x-roundhouse-load-s", b"%.3f" % record.load_s),
            ]
        return headers

    def note_grant(self, fleet: Fleet, grant: Grant, now: float) -> float:
        """Writes down how long the request waited and for what; returns what the client saw as the load's length."""
        record, arrived = self.record, self.ticket.arrived
        record.served_by = grant.model
        waited = max(0.0, now - arrived)
        instance = fleet.instance(grant.instance)
        if instance is None or instance.phase is not Phase.READY or instance.since <= arrived:
            record.queue_s = waited
            return waited
        record.load_s = max(0.0, min(waited, instance.since - max(arrived, instance.started)))
        record.queue_s = max(0.0, waited - record.load_s)
        return now - min(arrived, instance.started)


def engine_headers(work: Work) -> Headers:
    """What the engine hears of the client: never its key (spec F2)."""
    content_type = work.headers.get(b"content-type", b"application/json")
    return [
        (b"content-type", content_type if b"json" in content_type else b"application/json"),
        (b"x-request-id", work.record.id.encode("latin-1")),
    ]


def engine_path(endpoint: Endpoint, path: str) -> bytes:
    """Where the endpoint has what we have at `path`."""
    return path_for(endpoint, path).encode()
