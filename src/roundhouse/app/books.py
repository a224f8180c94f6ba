"""The books: what requests, loads and exits leave behind in metrics, history, log and event feed.

Called from the hot path, so nothing here waits: the store writes in its own thread.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING

from roundhouse.core.margins import run_at
from roundhouse.core.model import (
    BecameReady,
    Exited,
    Found,
    Measured,
    Prefetch,
    Progressed,
    Refuse,
    Start,
    Started,
    Stop,
    Surveyed,
)
from roundhouse.core.reload import CHANGED, REMOVED, YIELDED
from roundhouse.observe.store import Load, Measurement, Request
from roundhouse.runtime.pagecache import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from roundhouse.api.record import Record
    from roundhouse.core.model import Action, Event, Fleet, InstanceId
    from roundhouse.observe.bus import Bus
    from roundhouse.observe.metrics import Metrics
    from roundhouse.observe.store import Store
    from roundhouse.runtime.pagecache import Report

_EVICTIONS = {"idle": "ttl", "unload asked": "asked", **dict.fromkeys((CHANGED, YIELDED, REMOVED), "settings")}
_BEGINNINGS = {"room for ": "room", "more is held ": "memory"}
"""The planner's words for why a loaded model leaves, as metrics have them: whole, and how they begin."""


class Books:
    """Keeps them. `engines` is the engine's name by model."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        bus: Bus,
        log: FilteringBoundLogger,
        engines: Mapping[str, str | None],
        fleet: Fleet,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._bus = bus
        self._log = log
        self._engines = engines
        self._fleet = fleet
        self.answered: Callable[[Record], None] = lambda _record: None
        self.story: Callable[[Record], str] = lambda _record: ""
        self._loads: dict[InstanceId, float] = {}
        self._broken: set[str] = set()  # models whose engine ended by itself, and was not started since
        self._models_of: dict[InstanceId, str] = {}
        # Known to this run alone: nobody can try names until their hash is found in the history.
        self._salt = secrets.token_bytes(16)

    def request(self, record: Record) -> None:
        """A request has ended."""
        self.answered(record)
        meter = record.meter
        usage = (meter.usage if meter is not None else None) or {}
        prompt, answer = usage.get("prompt_tokens"), usage.get("completion_tokens")
        ttft = meter.ttft if meter is not None else None
        model = record.served_by or record.model
        if model:
            self._metrics.request_done(
                model=model,
                engine=self._engines.get(model) or "",
                key_class=record.key_class,
                status=record.status,
                queue_s=record.queue_s,
                load_s=record.load_s,
                ttft_s=ttft,
                prompt_tokens=prompt,
                completion_tokens=answer,
                total_s=record.total_s,
            )
            if record.task:
                self._metrics.task_done(task=record.task, model=record.model, served_by=record.served_by)
            past = Request(
                id=record.id,
                at=record.at,
                model=model,
                key=record.key,
                task=record.task,
                status=record.status,
                queue_s=record.queue_s,
                load_s=record.load_s,
                ttft_s=ttft,
                total_s=record.total_s,
                prompt_tokens=prompt,
                completion_tokens=answer,
                error=record.error[:500],
                wanted=record.model,
                service_s=_service(record),
                session=self._hidden(record.session),
                user=self._hidden(record.user),
                priority=record.priority,
                why=self.story(record),
            )
            self._store.record_request(past)
        if record.status >= 500 or record.error:
            self._log.warning(
                "request failed", request=record.id, model=record.asked, status=record.status, error=record.error[:500]
            )
        else:
            self._log.debug(
                "request",
                request=record.id,
                model=model,
                status=record.status,
                total_s=round(record.total_s, 3),
                tokens=answer,
            )

    def _hidden(self, name: str) -> str:
        """Tells requests of one session or user from others', and nothing else of them."""
        return (
            hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=6, key=self._salt).hexdigest() if name else ""
        )

    def loaded(self, model: str, settings: str, seconds: float) -> None:
        """A load ended well."""
        self._store.record_load(Load(model, settings, time.time() - seconds, seconds, ok=True))
        self._metrics.load_done(model=model, engine=self._engines.get(model) or "", seconds=seconds, ok=True)
        self._log.info("model ready", model=model, seconds=round(seconds, 2))

    def failed(self, model: str, settings: str, seconds: float, reason: str) -> None:
        """A load failed."""
        self._store.record_load(Load(model, settings, time.time() - seconds, seconds, ok=False, reason=reason))
        self._metrics.load_done(model=model, engine=self._engines.get(model) or "", seconds=seconds, ok=False)
        self._log.error("model failed to load", model=model, seconds=round(seconds, 2), reason=reason)

    def exited(self, model: str, reason: str, *, expected: bool) -> None:
        """An engine that was ready is no more."""
        self._metrics.engine_exited(model=model, expected=expected)
        if not expected:
            self._log.error("engine ended by itself", model=model, reason=reason)

    def stuck(self, model: str, reason: str) -> None:
        """A model did not come or go the way it should, for that reason."""
        self._log.warning("model did not go as it should", model=model, reason=reason)

    def conversation(self, model: str, what: str, tokens: int, seconds: float, reason: str = "") -> None:
        """A conversation was `saved`, `restored`, or `failed` to be one of these for that reason."""
        self._metrics.conversation(model=model, outcome=what)
        if what == "failed":
            self._log.warning("a conversation is computed anew", model=model, reason=reason)
        else:
            self._log.info(f"conversation {what}", model=model, tokens=tokens, seconds=round(seconds, 3))

    def read_ahead(self, model: str, report: Report) -> None:
        """Reading a model's weights into the page cache has ended."""
        done = {
            "model": model,
            "outcome": report.outcome.value,
            "read": report.read,
            "found": report.found,
            "size": report.size,
            "seconds": round(report.seconds, 3),
            "reason": report.reason,
        }
        self._bus.publish("prefetched", done)
        self._metrics.prefetched(
            model=model,
            outcome=report.outcome,
            read=report.read,
            found=report.found,
            seconds=report.seconds,
        )
        tell = self._log.warning if report.outcome is Outcome.FAILED else self._log.info
        tell("weights read ahead", **done)

    def saw(self, event: Event, actions: list[Action], _now: float) -> None:
        """Every event and what followed from it, for log and feed; requests come by too often to be told one by one."""
        if isinstance(event, Exited) and not event.expected and event.instance in self._models_of:
            self._broken.add(self._models_of[event.instance])
        for action in actions:
            if isinstance(action, Start):
                self._models_of[action.instance] = action.model
                if action.model in self._broken:
                    self._broken.discard(action.model)
                    self._metrics.engine_restarted(model=action.model)
                self._log.info("loading model", model=action.model, instance=action.instance)
                self._bus.publish("loading", {"model": action.model})
            elif isinstance(action, Stop):
                self._log.info("unloading model", model=action.model, instance=action.instance, why=action.reason)
                self._bus.publish("unloading", {"model": action.model, "why": action.reason})
                self._evicted(action)
            elif isinstance(action, Prefetch):
                self._bus.publish("prefetching", {"model": action.model, "wanted": action.wanted})
            elif isinstance(action, Refuse):
                self._bus.publish("refused", {"model": action.ticket.model, "error": action.error.message})
        if isinstance(event, Found):
            self._models_of[event.instance] = event.model
        self._publish(event)

    def _evicted(self, action: Stop) -> None:
        begun = next((word for start, word in _BEGINNINGS.items() if action.reason.startswith(start)), None)
        reason = _EVICTIONS.get(action.reason, begun)
        if reason == "room":
            self._metrics.switched()
        if reason is not None:
            self._metrics.evicted(model=action.model, reason=reason)

    def adopted(self, model: str, pid: int | None, *, ready: bool) -> None:
        """An engine of an earlier run was taken over."""
        self._log.info("adopted a running engine", model=model, pid=pid, ready=ready)

    def outdated(self, model: str, pid: int | None) -> None:
        """An engine of an earlier run is ended: it is not configured so any more."""
        self._log.info("ending an engine that is not configured so any more", model=model, pid=pid)
        self._metrics.evicted(model=model, reason="settings")

    def _publish(self, event: Event) -> None:
        if isinstance(event, (Started, Progressed, BecameReady)):
            model = self._fleet.instances.get(event.instance)
            if model is None:
                return
            kind = {Started: "started", Progressed: "progress", BecameReady: "ready"}[type(event)]
            data: dict[str, object] = {"model": model}
            if isinstance(event, Progressed):
                data |= {"fraction": event.progress.fraction, "stage": event.progress.stage}
            elif isinstance(event, BecameReady):
                data |= {"slots": event.slots, "seconds": round(event.seconds, 3)}
            self._bus.publish(kind, data)
        elif isinstance(event, Exited):
            told = {"instance": event.instance, "reason": event.reason, "expected": event.expected}
            self._bus.publish("exited", {"model": self._models_of.pop(event.instance, None), **told})
        elif isinstance(event, Surveyed):
            self._bus.publish("devices", {d.id: {"total": d.total, "foreign": d.foreign} for d in event.devices})

    def measured(self, event: Event, _actions: list[Action], _now: float) -> None:
        """What engines really occupy is remembered for later estimates (spec D1)."""
        if isinstance(event, Exited):
            self._loads.pop(event.instance, None)
        if not isinstance(event, Measured):
            return
        model = self._fleet.instances.get(event.instance)
        if model is None:
            return
        instance = self._fleet.models[model].instance
        if instance is None:
            return
        settings = run_at(instance.settings, instance.claim)
        now = time.time()
        load = self._loads.setdefault(event.instance, now)
        for device, size in event.peak.items():
            self._store.record_measurement(Measurement(model, settings, device, size, "peak", now, load))


def _service(record: Record) -> float | None:
    """Seconds from the grant to the end of the answer, None for a request that was never granted."""
    return max(0.0, record.total_s - record.queue_s - record.load_s) if record.served_by else None
