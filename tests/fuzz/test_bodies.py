"""Spoilt requests to every route (issue 6, bad input): never a mistake of ours, and errors in the words of the API.

`make fuzz` does the same for an hour, with a real llama-server. A failing example is printed by hypothesis whole.
"""

from __future__ import annotations

import random as randomness
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.judging import Asker, judge
from tests.fuzz.mutations import FLAT, any_ask, post
from tests.support.house import Place, Running, Scripted

PATHS = sorted(path for _, bodies in FLAT for path in bodies)


@pytest.fixture(scope="module")
def house():
    place = Place()
    kinds = {"alpha": "chat", "vectors": "embedding", "ranker": "rerank"}
    models = [Scripted(place.folder, name, preload=True, kind=kind) for name, kind in kinds.items()]
    place.write(models)
    with Running(place) as running:
        asker = Asker(place.port)
        yield SimpleNamespace(asker=asker, running=running)
        asker.close()


@pytest.mark.parametrize("path", PATHS)
def test_spoilt_bodies(house, path):
    @settings(max_examples=40)
    @given(st.integers(0, 2**32))
    def run(seed):
        ask = post(randomness.Random(seed), path)
        got = house.asker.ask(ask)
        assert judge(ask, got) == "", f"{ask}: {got}"

    run()


def test_spoilt_looks_and_orders(house):
    @settings(max_examples=150)
    @given(st.integers(0, 2**32))
    def run(seed):
        ask = any_ask(randomness.Random(seed))
        got = house.asker.ask(ask)
        assert judge(ask, got) == "", f"{ask}: {got}"

    run()


def test_nothing_of_it_was_a_surprise(house):
    assert "Traceback" not in house.running.log()
    assert [line for line in house.running.log_lines() if line.get("level") in {"error", "critical"}] == []
