from __future__ import annotations

import pytest
from pydantic import ValidationError

from roundhouse.core.model import Device, Kind, ModelSpec
from roundhouse.simulate.boxes import Box, to_json, to_setup
from roundhouse.simulate.setup import Setup, Timing

RICH = Setup(
    (
        ModelSpec(
            "a",
            kind=Kind.EMBEDDING,
            claim={"gpu0": 4, "port:8080": 1},
            elsewhere=({"gpu1": 4},),
            slots=3,
            pinned=True,
            preload=True,
            priority=-2,
            ttl=60.0,
            min_resident=5.0,
            expected=7.0,
            remote=True,
        ),
        ModelSpec("b", claim={"gpu0": 4}, slots=1, expected=2.0),
        ModelSpec("c", slots=1, expected=3.0, ttl_auto=True),
    ),
    (Device("gpu0", 10, 10), Device("gpu1", 6, 6), Device("port:8080", 1, 1)),
    {"a": Timing(7.0, 1.5, 0.25), "b": Timing(2.0), "c": Timing(3.0)},
)


def test_a_box_is_read_as_it_was_written():
    assert to_setup(Box.model_validate(to_json(RICH))) == RICH


def test_what_is_at_its_default_is_left_out():
    assert to_json(RICH)["models"]["b"] == {"load": 2.0, "claim": {"gpu0": 4}}


def test_slots_that_the_engine_reports_are_kept():
    reported = Setup((ModelSpec("a"),), (), {"a": Timing(1.0, slots=6)})
    assert to_setup(Box.model_validate(to_json(reported))).specs[0].slots == 6


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"load": -1},
        {"load": 1, "slots": 0},
        {"load": 1, "claim": {"gpu9": 1}},
        {"load": 1, "elsewhere": [{"x": 1}]},
        {"load": 1, "lod": 1},
    ],
)
def test_a_model_that_makes_no_sense(model):
    with pytest.raises(ValidationError):
        Box.model_validate({"devices": {"gpu0": 10}, "models": {"a": model}})
