from __future__ import annotations

import math
from dataclasses import replace

import pytest

from roundhouse.core.model import Device, ModelSpec, Policy
from roundhouse.simulate.setup import POLICIES, Setup, Timing
from tests.simulate.play import setup


def test_policies_differ_in_how_long_models_wait_and_linger():
    made = replace(setup({"a": 1.0}), policy=Policy(max_wait=120.0, linger=5.0, task_model="a"))
    named = {name: made.with_policy(name).policy for name in POLICIES}
    assert {name: (policy.max_wait, policy.linger) for name, policy in named.items()} == {
        "turns": (120.0, 5.0),
        "fifo": (0.0, 0.0),
        "run-first": (math.inf, 0.0),
    }
    assert {policy.task_model for policy in named.values()} == {"a"}


def test_a_load_time_is_also_what_the_planner_expects():
    made = setup({"a": 1.0, "b": 2.0}).with_load(60.0, "b")
    assert [made.timing[name].load for name in "ab"] == [1.0, 60.0]
    assert [spec.expected for spec in made.specs] == [1.0, 60.0]
    assert [timing.load for timing in made.with_load(9.0).timing.values()] == [9.0, 9.0]


def test_slowdown_is_that_of_all():
    made = setup({"a": 1.0, "b": 2.0}).with_slowdown(0.5)
    assert made.timing == {"a": Timing(1.0, slowdown=0.5), "b": Timing(2.0, slowdown=0.5)}


@pytest.fixture
def two():
    seats = Device("unit:tabby", 1)
    specs = (ModelSpec("part", claim={"gpu0": 4, "unit:tabby": 1}), ModelSpec("whole", claim={"gpu0": 10}))
    return Setup(specs, (Device("gpu0", 10, 10), seats), {"part": Timing(1.0), "whole": Timing(1.0)})


def test_a_larger_device_is_had_whole_by_who_had_it_whole(two):
    made = two.with_device(Device("gpu0", 20, 20))
    assert made.devices == (Device("gpu0", 20, 20), Device("unit:tabby", 1))
    assert [dict(spec.claim) for spec in made.specs] == [{"gpu0": 4, "unit:tabby": 1}, {"gpu0": 20}]


def test_a_new_device_is_another_place_for_models(two):
    made = two.with_device(Device("gpu1", 24, 24))
    assert [device.id for device in made.devices] == ["gpu0", "unit:tabby", "gpu1"]
    assert [spec.claim for spec in made.specs] == [spec.claim for spec in two.specs]
    whole = {"gpu1": 24}
    assert [spec.elsewhere for spec in made.specs] == [({"unit:tabby": 1, "gpu1": 4},), (whole,)]


def test_a_model_on_two_devices_is_not_moved(two):
    split = replace(
        two, specs=(ModelSpec("part", claim={"gpu0": 4, "ram": 2}),), devices=(*two.devices, Device("ram", 9))
    )
    assert split.with_device(Device("gpu1", 24)).specs == split.specs
