"""Prometheus metrics (`GET /metrics`, spec G1), on a registry of their own.

Owns the names, labels and counts. Counting is plain arithmetic on the event loop's thread (a finished request costs a
few microseconds); Prometheus's own types are only made when somebody scrapes. Gauges are read from a snapshot then.
Labels are bounded: names of models that are not configured, and words that are not listed here, count as `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from roundhouse import __version__
from roundhouse.core.model import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from roundhouse.core.model import Fleet, ModelState
    from roundhouse.ports import Reading

_T = TypeVar("_T")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
KEY_CLASSES = frozenset({"anonymous", "key", "admin"})
EVICTION_REASONS = frozenset({"room", "ttl", "asked", "settings", "memory", "closing"})
PREFETCH_OUTCOMES = frozenset({"done", "cancelled", "short", "failed"})
TASKS = frozenset(
    {
        *("title", "tags", "follow_up", "query", "emoji", "autocomplete", "image_prompt", "function_calling"),
        *("document_suggestions", "topic", "suggestion", "recap", "command", "quota", "commit", "summary"),
        *("small_model", "task"),
    }
)
"""Names of background tasks, as `dialects.chores` gives them; a client's own count as `other`."""
STATES = (*Phase, "unloaded", "failed")

_MOMENTS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
_LOADS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1800.0)


class Snapshot(NamedTuple):
    """What gauges are read from: the fleet, devices as last measured, records lost by what they were to go into."""

    fleet: Fleet
    reading: Reading | None = None
    dropped: Mapping[str, int] = MappingProxyType({})


class Metrics:
    """Counts what happens and renders it.

    Args:
        models: the configured model ids; only these become labels.
        snapshot: gives the present state when somebody scrapes; None: no gauges.
    """

    def __init__(self, models: Iterable[str] = (), snapshot: Callable[[], Snapshot] | None = None) -> None:
        self._counts = _Counts()
        self._models = frozenset(models)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_CountsCollector(self._counts))
        if snapshot is not None:
            self._registry.register(_GaugesCollector(snapshot))
        ProcessCollector(registry=self._registry)

    def set_models(self, models: Iterable[str]) -> None:
        """Replaces the models that may be labels, after a reload; what was counted for others stays."""
        self._models = frozenset(models)

    def request_done(
        self,
        *,
        model: str,
        engine: str,
        key_class: str,
        status: int,
        queue_s: float,
        load_s: float,
        ttft_s: float | None,
        prompt_tokens: int | None,
        completion_tokens: int | None,
        total_s: float,
    ) -> None:
        """A request has ended.

        Args:
            model: its id; `engine`: the kind of its engine ('' if it never got to one).
            engine: as in `engine:` of the configuration.
            key_class: anonymous, key or admin.
            status: as the client got it, or the error's own where it came after the first byte.
            queue_s: seconds waited, apart from `load_s`, the seconds of it while its model was loading.
            load_s: 0 if no load was waited for.
            ttft_s: seconds from being sent to the engine to the first token, None if there was none.
            prompt_tokens: as the engine counts them, None if it did not say.
            completion_tokens: same.
            total_s: seconds from arrival to the end.
        """
        counts, name = self._counts, self._name(model)
        key = key_class if key_class in KEY_CLASSES else OTHER
        counts.requests[name, engine, key, status if 100 <= status <= 599 else 0] += 1
        try:
            spent = counts.spent[name, engine, key]
        except KeyError:
            spent = counts.spent[name, engine, key] = _Spent()
        spent.queue.add(queue_s)
        spent.total.add(total_s)
        if load_s:
            spent.load.add(load_s)
        if ttft_s is not None:
            spent.ttft.add(ttft_s)
        spent.prompt_tokens += prompt_tokens or 0
        spent.completion_tokens += completion_tokens or 0

    def task_done(self, *, task: str, model: str, served_by: str) -> None:
        """A background task has ended: served by its own model, by another one, or by none ('')."""
        served = "none" if not served_by else "own" if served_by == model else "other"
        self._counts.tasks[task if task in TASKS else OTHER, served] += 1

    def conversation(self, *, model: str, outcome: str) -> None:
        """A conversation was saved, restored, or failed to be."""
        self._counts.conversations[self._name(model), outcome] += 1

    def load_done(self, *, model: str, engine: str, seconds: float, ok: bool) -> None:
        """A load has ended, well or not."""
        name = self._name(model)
        self._counts.loads[name, engine, "ok" if ok else "failed"] += 1
        if ok:
            self._counts.load_seconds.setdefault((name, engine), _Spread(_LOADS)).add(seconds)

    def switched(self) -> None:
        """A model was stopped to make room for another."""
        self._counts.switches += 1

    def evicted(self, *, model: str, reason: str) -> None:
        """A model was unloaded; `reason` is one of `EVICTION_REASONS`."""
        self._counts.evictions[self._name(model), reason if reason in EVICTION_REASONS else OTHER] += 1

    def reloaded(self, outcome: str) -> None:
        """The configuration was read again: applied, unchanged or failed."""
        self._counts.reloads[(outcome,)] += 1

    def engine_exited(self, *, model: str, expected: bool) -> None:
        """An engine's processes are gone; `expected`: we stopped it."""
        self._counts.exits[self._name(model), "true" if expected else "false"] += 1

    def engine_restarted(self, *, model: str) -> None:
        """A model is loaded again whose engine had ended by itself."""
        self._counts.restarts[(self._name(model),)] += 1

    def prefetched(self, *, model: str, outcome: str, read: int, found: int, seconds: float) -> None:
        """Reading a model's weights ahead has ended.

        Args:
            model: its id.
            outcome: one of `PREFETCH_OUTCOMES`.
            read: bytes that came from the disk.
            found: bytes that were in the page cache already.
            seconds: how long it took.
        """
        counts, name = self._counts, self._name(model)
        counts.prefetches[name, outcome if outcome in PREFETCH_OUTCOMES else OTHER] += 1
        counts.prefetch_bytes[name, "disk"] += read
        counts.prefetch_bytes[name, "cache"] += found
        counts.prefetch_seconds[(name,)] = counts.prefetch_seconds.get((name,), 0.0) + seconds

    def switch_parts(self, seconds: Mapping[str, float]) -> None:
        """A model was loaded: where the time went."""
        for part, spent in seconds.items():
            self._counts.switch_seconds[(part,)] = self._counts.switch_seconds.get((part,), 0.0) + spent

    def render(self) -> bytes:
        """Everything in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def _name(self, model: str) -> str:
        return model if model in self._models else OTHER


class _Spread:
    """A histogram: how many values are at most each bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        names = [*map(floatToGoString, self.bounds), "+Inf"]
        return [(name, float(count)) for name, count in zip(names, accumulate(self.counts), strict=True)]


class _Spent:
    """What the requests of one model took."""

    __slots__ = ("completion_tokens", "load", "prompt_tokens", "queue", "total", "ttft")

    def __init__(self) -> None:
        self.queue, self.load, self.ttft, self.total = (_Spread(_MOMENTS) for _ in range(4))
        self.prompt_tokens = 0
        self.completion_tokens = 0


class _Counts:
    """All that is counted, by label values."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str, int]] = Counter()
        self.spent: dict[tuple[str, str, str], _Spent] = {}
        self.loads: Counter[tuple[str, str, str]] = Counter()
        self.load_seconds: dict[tuple[str, str], _Spread] = {}
        self.tasks: Counter[tuple[str, str]] = Counter()
        self.evictions: Counter[tuple[str, str]] = Counter()
        self.exits: Counter[tuple[str, str]] = Counter()
        self.restarts: Counter[tuple[str]] = Counter()
        self.prefetches: Counter[tuple[str, str]] = Counter()
        self.prefetch_bytes: Counter[tuple[str, str]] = Counter()
        self.prefetch_seconds: dict[tuple[str], float] = {}
        self.reloads: Counter[tuple[str]] = Counter()
        self.switches = 0
        self.switch_seconds: dict[tuple[str], float] = {}
        self.conversations: Counter[tuple[str, str]] = Counter()


class _CountsCollector(Collector):
    def __init__(self, counts: _Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        counts, by_model = self._counts, ("model", "engine")
        by_key = (*by_model, "key_class")
        yield _counter("requests", "Requests that have ended.", (*by_key, "status"), counts.requests.items())
        for name, meaning, tokens in (
            ("prompt_tokens", "Tokens of prompts, as engines count them.", attrgetter("prompt_tokens")),
            ("completion_tokens", "Tokens generated, as engines count them.", attrgetter("completion_tokens")),
        ):
            yield _counter(name, meaning, by_key, _of_each(counts.spent, tokens))
        for name, meaning, spread in (
            ("queue_seconds", "Time requests waited before an engine got them.", attrgetter("queue")),
            ("load_wait_seconds", "Time requests waited for a load, where they did.", attrgetter("load")),
            ("time_to_first_token_seconds", "From engine to first token.", attrgetter("ttft")),
            ("request_seconds", "From arrival to the end.", attrgetter("total")),
        ):
            yield _histogram(name, meaning, by_key, _of_each(counts.spent, spread))
        yield _counter(
            "background_tasks",
            "Background tasks, by whose model answered.",
            ("task", "served"),
            counts.tasks.items(),
        )
        yield _counter("loads", "Loads that have ended: ok or failed.", (*by_model, "result"), counts.loads.items())
        yield _histogram("load_seconds", "Time that good loads took.", by_model, counts.load_seconds.items())
        yield _counter("evictions", "Models unloaded, by reason.", ("model", "reason"), counts.evictions.items())
        yield _counter("engine_exits", "Engines ended; expected: by us.", ("model", "expected"), counts.exits.items())
        yield _counter("engine_restarts", "Loads after an engine ended by itself.", ("model",), counts.restarts.items())
        yield _counter(
            "conversations",
            "Conversations kept across switches: saved, restored, or failed to be.",
            ("model", "outcome"),
            counts.conversations.items(),
        )
        yield _counter(
            "prefetches", "Readings of weights ahead, by outcome.", ("model", "outcome"), counts.prefetches.items()
        )
        yield _counter(
            "prefetch_bytes",
            "Weights read ahead from disk, and those found in the page cache.",
            ("model", "source"),
            counts.prefetch_bytes.items(),
        )
        yield _counter("prefetch_seconds", "Time that reading ahead took.", ("model",), counts.prefetch_seconds.items())
        yield _counter(
            "switch_seconds", "Where the time of all loads went, by part.", ("part",), counts.switch_seconds.items()
        )
        yield _counter(
            "reloads", "Readings of the configuration again, by outcome.", ("outcome",), counts.reloads.items()
        )
        yield _counter("switches", "Models stopped to make room for another.", (), [((), counts.switches)])


def _of_each(
    spent: Mapping[tuple[str, str, str], _Spent], part: Callable[[_Spent], _T]
) -> Iterator[tuple[tuple[str, str, str], _T]]:
    return ((labels, part(each)) for labels, each in spent.items())


class _GaugesCollector(Collector):
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        fleet, reading, dropped = self._snapshot()
        yield _gauge("up", "1 while Roundhouse serves.", (), [((), 1)])
        yield _gauge("build_info", "Always 1; the version is a label.", ("version",), [((__version__,), 1)])
        lost = {(what,): count for what, count in dropped.items()}
        yield _counter("records_dropped", "Records that the disk did not take in time.", ("what",), lost.items())
        yield from _model_gauges(fleet)
        yield from _memory_gauges(fleet, reading)


def _model_gauges(fleet: Fleet) -> Iterator[Metric]:
    models = fleet.models.items()
    waiting = {(name,): len(model.queue) for name, model in models}
    active = {(name,): _active(fleet, model) for name, model in models}
    states = {(name, state): int(_state_of(model) == state) for name, model in models for state in STATES}
    yield _gauge("requests_waiting", "Requests in the queue.", ("model",), waiting.items())
    yield _gauge("requests_active", "Requests being answered.", ("model",), active.items())
    yield _gauge("model_state", "1 for the state that the model is in.", ("model", "state"), states.items())


def _memory_gauges(fleet: Fleet, reading: Reading | None) -> Iterator[Metric]:
    by_device = ("model", "device")
    memories = {device.id for device in fleet.devices.values() if device.total > 1}  # a seat has a capacity of 1
    estimates = {
        (name, device): size
        for name, model in fleet.models.items()
        for device, size in model.claim.items()
        if device in memories
    }
    yield _gauge("model_memory_estimate_bytes", "What a model is expected to need.", by_device, estimates.items())
    budgets = {(device.id,): device.total for device in fleet.devices.values() if device.id in memories}
    yield _gauge("device_budget_bytes", "What may be used of a device.", ("device",), budgets.items())
    if reading is None:
        return
    measured = {
        (fleet.instances[instance], device): size
        for instance, sizes in reading.ours.items()
        if instance in fleet.instances
        for device, size in sizes.items()
    }
    yield _gauge("model_memory_measured_bytes", "What a model's processes hold.", by_device, measured.items())
    used = {(device,): size for device, size in reading.used.items()}
    yield _gauge("device_used_bytes", "All that is used of a device, by anybody.", ("device",), used.items())


def _active(fleet: Fleet, model: ModelState) -> int:
    use = fleet.use.get(model.instance.id) if model.instance else None
    return use.active if use else 0


def _state_of(model: ModelState) -> str:
    if model.instance:
        return model.instance.phase
    return "failed" if model.failure else "unloaded"


if TYPE_CHECKING:
    _Values = Iterable[tuple[tuple[str | int, ...], float]]


def _counter(name: str, meaning: str, labels: Sequence[str], values: _Values) -> Metric:
    return _filled(CounterMetricFamily(f"roundhouse_{name}", meaning, labels=labels), values)


def _gauge(name: str, meaning: str, labels: Sequence[str], values: _Values) -> Metric:
    return _filled(GaugeMetricFamily(f"roundhouse_{name}", meaning, labels=labels), values)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: _Values) -> Metric:
    for labels, value in values:
        family.add_metric([str(label) for label in labels], value)
    return family


def _histogram(
    name: str, meaning: str, labels: Sequence[str], spreads: Iterable[tuple[tuple[str, ...], _Spread]]
) -> Metric:
    family = HistogramMetricFamily(f"roundhouse_{name}", meaning, labels=labels)
    for values, spread in spreads:
        family.add_metric(values, spread.buckets(), spread.sum)
    return family
