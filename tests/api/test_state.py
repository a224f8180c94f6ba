"""`/health` and `/v1/models` from pictures of the box (spec A1, H)."""

from __future__ import annotations

from roundhouse.api import state
from roundhouse.core import planner
from roundhouse.core.model import (
    Arrived,
    Asked,
    BecameReady,
    Departed,
    Device,
    Exited,
    Fleet,
    Kind,
    ModelSpec,
    Ticket,
    Want,
)
from roundhouse.ports import Endpoint


def fleet(*specs: ModelSpec) -> Fleet:
    return Fleet(specs, [Device("ram", 100), Device("port:1", 1)])


def load(box: Fleet, model: str, now: float = 0.0) -> int:
    planner.step(box, Asked(model, Want.LOAD), now)
    instance = box.models[model].instance
    assert instance is not None
    planner.step(box, BecameReady(instance.id, 4, 1.0), now)
    return instance.id


def shown(box: Fleet, **endpoints: Endpoint):
    engines = dict.fromkeys(box.models, "llamacpp")
    return state.health(box, engines, endpoints, version="1", uptime=1.25, now=10.0)


def test_h_current_model_is_the_chat_model_used_last():
    box = fleet(ModelSpec("a"), ModelSpec("b"), ModelSpec("e", kind=Kind.EMBEDDING))
    assert shown(box)["current_model"] is None
    for name in ("a", "b", "e"):
        load(box, name)
    planner.step(box, Arrived(Ticket(1, "a", 5.0)), 5.0)
    planner.step(box, Departed(1), 6.0)
    assert shown(box)["current_model"] == "a"


def test_h_devices_without_seats_and_what_is_ours():
    box = fleet(ModelSpec("a", claim={"ram": 60, "port:1": 1}))
    box.devices["ram"] = Device("ram", 100, 100, foreign=10)
    load(box, "a")
    found = shown(box)
    assert found["devices"] == {"ram": {"total": 100, "used": 70, "ours": 60, "foreign": 10}}
    assert found["models"]["a"]["device"] == {"ram": 60}
    assert found["models"]["a"]["since"] == 10.0


def test_h_backends_show_the_most_alive_model():
    box = fleet(ModelSpec("a"), ModelSpec("b"))
    load(box, "b")
    assert shown(box, b=Endpoint("127.0.0.1", 7))["backends"] == {
        "llamacpp": {"state": "ready", "url": "http://127.0.0.1:7"}
    }


def test_h_a_failure_makes_it_degraded_and_is_shown():
    box = fleet(ModelSpec("a"))
    planner.step(box, Asked("a", Want.LOAD), 8.0)
    instance = box.models["a"].instance
    assert instance is not None
    planner.step(box, Exited(instance.id, "broken"), 8.0)
    found = shown(box)
    assert found["status"] == "degraded"
    assert found["models"]["a"]["state"] == "failed"
    assert found["models"]["a"]["error"] == "broken"


def test_a_load_tells_how_long_it_is_expected_to_take():
    box = fleet(ModelSpec("a", expected=30.0), ModelSpec("b"))
    planner.step(box, Asked("a", Want.LOAD), 0.0)
    assert shown(box)["models"]["a"]["expected_s"] == 30.0
    assert "expected_s" not in shown(box)["models"]["b"]
