from __future__ import annotations

import pytest

from roundhouse.app.simulation import ASSUMED_LOAD, ASSUMED_STOP, entries_of, installation, past_of
from roundhouse.app.specs import fingerprint, look
from roundhouse.config.load import parse
from roundhouse.observe.past import Past, UnreadablePast
from roundhouse.observe.store import Request
from roundhouse.simulate.setup import Timing

CONFIG = """
state_dir: state
devices: {ram: 8GiB}
scheduling: {tasks: queue}
models:
  small: {command: "serve --port ${PORT}", memory: 1GiB, slots: 3}
  fixed: {command: "serve", memory: {ram: 2GiB}, port: 8080}
  slow: {command: "serve --port ${PORT}", memory: 1GiB, load_timeout: {expected: 90s}}
  far: {url: "http://127.0.0.1:9/v1"}
  any: {any_of: [small, slow]}
"""
MODELS = {"a": Timing(1.0), "b": Timing(1.0)}


@pytest.fixture
def config(tmp_path):
    return parse(CONFIG, tmp_path / "roundhouse.yaml", {"HOME": str(tmp_path)})


def past_with(config, **expected):
    named = {(name, fingerprint(config.models[name], look(config.models[name]))): s for name, s in expected.items()}
    return Past(expected=named)


def test_the_box_is_the_configured_one(config):
    here = installation(config, Past())
    specs = {spec.id: spec for spec in here.setup.specs}
    assert list(specs) == ["small", "fixed", "slow", "far"]
    assert specs["small"].claim == {"ram": 2**30}
    assert (specs["small"].slots, specs["far"].remote) == (3, True)
    totals = {device.id: device.total for device in here.setup.devices}
    assert (totals["ram"], totals["port:8080"]) == (8 * 2**30, 1)
    assert here.setup.policy.tasks == "queue"


def test_the_box_with_other_devices(config):
    before, after = (
        installation(config, Past()).setup,
        installation(config, Past(), {"ram": 2**30, "gpu7": 2**34}).setup,
    )
    sizes = {device.id: (device.total, device.physical) for device in after.devices}
    assert (sizes["ram"], sizes["gpu7"]) == ((2**30, 2**30), (2**34, 2**34))
    assert sizes["port:8080"][0] == 1
    assert [spec.id for spec in after.specs] == [spec.id for spec in before.specs]


def test_load_times_are_learned_else_configured_else_assumed(config):
    here = installation(config, past_with(config, small=7.0))
    assert {name: timing.load for name, timing in here.setup.timing.items()} == {
        "small": 7.0,
        "fixed": ASSUMED_LOAD,
        "slow": 90.0,
        "far": 0.0,
    }
    assert {name: timing.stop for name, timing in here.setup.timing.items()} == {
        **dict.fromkeys(("small", "fixed", "slow"), ASSUMED_STOP),
        "far": 0.0,
    }
    assert here.assumed == {"fixed"}
    assert here.notes(["small", "fixed"]) == ["never loaded here, so a load is taken to need 20 s (--load): fixed"]
    assert here.notes(["small"]) == []


def test_what_was_learned_goes_before_what_is_configured_and_with_other_settings_before_nothing(config):
    assert installation(config, past_with(config, slow=30.0)).setup.timing["slow"].load == 30.0
    other = Past(expected={("small", "other settings"): 11.0})
    assert installation(config, other).setup.timing["small"].load == 11.0


def test_without_a_history_there_is_no_past(config):
    with pytest.raises(UnreadablePast, match=r"roundhouse\.db"):
        past_of(config, None)


def request(at, model="a", status=200, service=2.0, total=5.0, **more):
    return Request("r", at, model, "anna", "", status, total_s=total, wanted=model, service_s=service, **more)


def test_requests_become_a_trace_from_the_first_on():
    told = request(105.0, session="5e55", user="a5e4", priority=2)._replace(task="title")
    entries, notes = entries_of([told, request(100.0, total=2.0)], MODELS)
    assert notes == []
    first, second = entries
    assert (first.at, first.seconds, first.waited, first.session) == (0.0, 2.0, 0.0, "")
    assert (second.at, second.seconds, second.waited) == (5.0, 2.0, 3.0)
    assert (second.key, second.session, second.user, second.priority, second.task) == ("anna", "5e55", "a5e4", 2, True)


def test_a_task_that_another_model_answered_asks_for_its_own():
    moved = request(0.0)._replace(model="b")
    assert entries_of([moved], MODELS)[0][0].model == "a"


def test_who_was_refused_or_gave_up_counts_with_the_usual_time():
    answered = [request(float(n), service=float(n)) for n in (1, 2, 9)]
    lost = [request(10.0 + n, status=status, service=None) for n, status in enumerate((429, 499, 503, 504))]
    others = [request(20.0, status=400, service=None), request(21.0, "b", status=503, service=None)]
    entries, notes = entries_of([*answered, *lost, *others], MODELS)
    assert [(entry.seconds, entry.waited) for entry in entries[3:]] == [(2.0, 3.0)] * 4
    assert notes == ["4 requests that were refused, or whose clients gave up, count with their model's usual time"]


def test_answers_that_failed_say_nothing_of_the_usual_time():
    entries, _ = entries_of([request(0.0, service=50.0, status=500), request(1.0, status=503, service=None)], MODELS)
    assert [entry.seconds for entry in entries] == [50.0]


def test_models_that_are_gone_are_left_out_and_told():
    entries, notes = entries_of([request(0.0), request(1.0, "old"), request(2.0, "old")], MODELS)
    assert len(entries) == 1
    assert notes == ["2 requests for old left out: it is not in the configuration any more"]
