from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from roundhouse.core.model import Device, Failure, Fleet, Instance, ModelSpec, Phase, Ticket, Use
from roundhouse.dialects import chores
from roundhouse.observe.metrics import PREFETCH_OUTCOMES, TASKS, Metrics, Snapshot
from roundhouse.ports import Reading
from roundhouse.runtime.pagecache import Outcome

DONE: dict[str, Any] = {
    "model": "alpha",
    "engine": "llamacpp",
    "key_class": "key",
    "status": 200,
    "queue_s": 0.2,
    "load_s": 0.0,
    "ttft_s": 0.3,
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "total_s": 3.0,
}


def samples(metrics):
    """All samples of ours: (name, sorted labels) -> value."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name.removeprefix("roundhouse_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("roundhouse_")
    }


def value(metrics, name, **labels: str):
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_g1_requests_are_counted_with_what_they_took():
    metrics = Metrics(["alpha"])
    metrics.request_done(**DONE)
    metrics.request_done(
        **DONE | {"status": 503, "load_s": 42.0, "ttft_s": None, "prompt_tokens": None, "completion_tokens": None}
    )
    of = {"model": "alpha", "engine": "llamacpp"}
    of["key_class"] = "key"
    assert value(metrics, "requests_total", **of, status="200") == 1
    assert value(metrics, "requests_total", **of, status="503") == 1
    assert value(metrics, "prompt_tokens_total", **of) == 10
    assert value(metrics, "completion_tokens_total", **of) == 20
    assert value(metrics, "queue_seconds_sum", **of) == pytest.approx(0.4)
    assert value(metrics, "queue_seconds_count", **of) == 2
    assert value(metrics, "load_wait_seconds_sum", **of) == 42
    assert value(metrics, "load_wait_seconds_count", **of) == 1
    assert value(metrics, "time_to_first_token_seconds_count", **of) == 1
    assert value(metrics, "request_seconds_sum", **of) == 6


def test_g1_background_tasks_by_the_model_that_served_them():
    metrics = Metrics(["alpha"])
    for served_by in ("alpha", "beta", "beta", ""):
        metrics.task_done(task="title", model="alpha", served_by=served_by)
    metrics.task_done(task="nightly_index", model="alpha", served_by="alpha")
    assert value(metrics, "background_tasks_total", task="title", served="own") == 1
    assert value(metrics, "background_tasks_total", task="title", served="other") == 2
    assert value(metrics, "background_tasks_total", task="title", served="none") == 1
    assert value(metrics, "background_tasks_total", task="other", served="own") == 1


def test_d7_every_task_that_is_recognised_is_a_label():
    assert set(chores.NAMES) == TASKS


def test_g1_loads_switches_evictions_and_exits():
    metrics = Metrics(["alpha"])
    metrics.load_done(model="alpha", engine="llamacpp", seconds=3.0, ok=True)
    metrics.load_done(model="alpha", engine="llamacpp", seconds=9.0, ok=False)
    metrics.switched()
    metrics.evicted(model="alpha", reason="room")
    metrics.engine_exited(model="alpha", expected=False)
    metrics.engine_exited(model="alpha", expected=True)
    of = {"model": "alpha", "engine": "llamacpp"}
    assert value(metrics, "loads_total", **of, result="ok") == 1
    assert value(metrics, "loads_total", **of, result="failed") == 1
    assert value(metrics, "load_seconds_sum", **of) == 3
    assert value(metrics, "switches_total") == 1
    assert value(metrics, "evictions_total", model="alpha", reason="room") == 1
    assert value(metrics, "engine_exits_total", model="alpha", expected="false") == 1
    assert value(metrics, "engine_exits_total", model="alpha", expected="true") == 1


def test_d12_weights_read_ahead():
    metrics = Metrics(["alpha"])
    metrics.prefetched(model="alpha", outcome="done", read=300, found=50, seconds=2.0)
    metrics.prefetched(model="alpha", outcome="short", read=100, found=0, seconds=0.5)
    assert value(metrics, "prefetches_total", model="alpha", outcome="done") == 1
    assert value(metrics, "prefetches_total", model="alpha", outcome="short") == 1
    assert value(metrics, "prefetch_bytes_total", model="alpha", source="disk") == 400
    assert value(metrics, "prefetch_bytes_total", model="alpha", source="cache") == 50
    assert value(metrics, "prefetch_seconds_total", model="alpha") == 2.5


def test_d12_every_outcome_of_reading_ahead_is_a_label():
    assert set(Outcome) == PREFETCH_OUTCOMES


@given(st.lists(st.floats(0, 2000), min_size=1))
def test_g1_histogram_buckets_hold_what_is_at_most_their_bound(times):
    metrics = Metrics(["alpha"])
    for seconds in times:
        metrics.request_done(**DONE | {"total_s": seconds})
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in samples(metrics).items()
        if name == "request_seconds_bucket"
    }
    assert max(buckets) == float("inf")
    assert buckets == {bound: sum(seconds <= bound for seconds in times) for bound in buckets}
    assert value(metrics, "request_seconds_count", model="alpha", engine="llamacpp", key_class="key") == len(times)


def test_g1_labels_are_bounded():
    metrics = Metrics(["alpha"])
    for n in range(50):
        metrics.request_done(
            **DONE | {"model": f"guess-{n}", "engine": "", "key_class": f"key-{n}", "status": 1000 + n}
        )
        metrics.load_done(model=f"guess-{n}", engine="", seconds=1.0, ok=True)
        metrics.evicted(model=f"guess-{n}", reason=f"because {n}")
        metrics.engine_exited(model=f"guess-{n}", expected=True)
    assert "guess" not in metrics.render().decode()
    assert value(metrics, "requests_total", model="other", engine="", key_class="other", status="0") == 50
    assert value(metrics, "evictions_total", model="other", reason="other") == 50


def test_e4_models_of_a_new_configuration_become_labels():
    metrics = Metrics(["alpha"])
    metrics.request_done(**DONE)
    metrics.set_models(["beta"])
    metrics.request_done(**DONE | {"model": "beta"})
    metrics.request_done(**DONE)
    of = {"engine": "llamacpp", "key_class": "key", "status": "200"}
    assert [value(metrics, "requests_total", **of, model=name) for name in ("alpha", "beta", "other")] == [1, 1, 1]


def test_g1_awkward_model_names_are_escaped():
    name = 'a/b "quoted"\\ \n:7b'
    metrics = Metrics([name])
    metrics.switched()
    metrics.evicted(model=name, reason="ttl")
    assert value(metrics, "evictions_total", model=name, reason="ttl") == 1


def busy_fleet():
    specs = tuple(ModelSpec(name, claim={"gpu0": 4_000, "port-30000": 1}) for name in ("alpha", "beta", "gamma"))
    fleet = Fleet(specs, (Device("gpu0", 24_000), Device("port-30000", 1)))
    instance = Instance(id=7, model="alpha", phase=Phase.READY, claim={"gpu0": 4_500}, since=0, started=0)
    fleet.models["alpha"] = replace(fleet.models["alpha"], instance=instance, queue=(Ticket(1, "alpha", 0.0),))
    fleet.models["beta"] = replace(fleet.models["beta"], failure=Failure("out of memory", (1.0,), 2.0))
    fleet.instances[7] = "alpha"
    fleet.use[7] = Use(active=2, last=0.0)
    return fleet


def test_g1_gauges_show_the_state_at_the_time_of_the_scrape():
    fleet = busy_fleet()
    reading = Reading({"gpu0": 24_000}, {"gpu0": 6_000}, ours={7: {"gpu0": 4_321}, 8: {"gpu0": 1}})
    metrics = Metrics(fleet.models, lambda: Snapshot(fleet, reading))
    assert value(metrics, "up") == 1
    assert value(metrics, "requests_waiting", model="alpha") == 1
    assert value(metrics, "requests_active", model="alpha") == 2
    assert value(metrics, "requests_active", model="beta") == 0
    states = {labels for (name, labels), on in samples(metrics).items() if name == "model_state" and on}
    assert states == {
        (("model", "alpha"), ("state", "ready")),
        (("model", "beta"), ("state", "failed")),
        (("model", "gamma"), ("state", "unloaded")),
    }
    assert value(metrics, "model_memory_estimate_bytes", model="alpha", device="gpu0") == 4_000
    assert value(metrics, "model_memory_measured_bytes", model="alpha", device="gpu0") == 4_321
    assert value(metrics, "device_budget_bytes", device="gpu0") == 24_000
    assert value(metrics, "device_used_bytes", device="gpu0") == 6_000
    assert "port-30000" not in metrics.render().decode()
    fleet.use[7] = Use(active=1, last=0.0)
    assert value(metrics, "requests_active", model="alpha") == 1


def test_g1_gauges_before_the_first_measurement():
    fleet = busy_fleet()
    metrics = Metrics(fleet.models, lambda: Snapshot(fleet))
    assert not [name for name, _ in samples(metrics) if name in {"model_memory_measured_bytes", "device_used_bytes"}]


def test_g1_two_in_one_process_do_not_share_anything():
    one, two = Metrics(["alpha"]), Metrics(["alpha"])
    one.switched()
    assert (value(one, "switches_total"), value(two, "switches_total")) == (1, 0)
    assert b"process_resident_memory_bytes" in one.render()


def test_g1_what_requests_took_is_told_by_kind_of_key():
    metrics = Metrics(["alpha"])
    for key in ("admin", "admin", "anonymous"):
        metrics.request_done(**DONE | {"key_class": key})
    of = {"model": "alpha", "engine": "llamacpp"}
    assert value(metrics, "completion_tokens_total", **of, key_class="admin") == 40
    assert value(metrics, "time_to_first_token_seconds_count", **of, key_class="anonymous") == 1


def test_g1_restarts_and_lost_records_are_counted():
    metrics = Metrics(["alpha"], lambda: Snapshot(Fleet(), None, {"history": 2, "journal": 0}))
    metrics.engine_restarted(model="alpha")
    metrics.engine_restarted(model="guess")
    assert value(metrics, "engine_restarts_total", model="alpha") == 1
    assert value(metrics, "engine_restarts_total", model="other") == 1
    assert value(metrics, "records_dropped_total", what="history") == 2
    assert value(metrics, "records_dropped_total", what="journal") == 0


def test_e4_reloads_are_counted_by_outcome():
    metrics = Metrics()
    for outcome in ("applied", "applied", "failed"):
        metrics.reloaded(outcome)
    text = metrics.render().decode()
    assert 'roundhouse_reloads_total{outcome="applied"} 2.0' in text
    assert 'roundhouse_reloads_total{outcome="failed"} 1.0' in text
