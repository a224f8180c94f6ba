"""SGLang and vLLM for tests: their doubles always, the real ones when ROUNDHOUSE_REAL_ENGINES names them.

`make test-engines` sets it, after scripts/engines.sh has installed them below .cache/engines. Real ones compute on the
CPU with a model of ten million random weights: they need half a minute to load, and say nonsense.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.real.subject import REAL, Subject, double, real
from tests.support.house import Place
from tests.support.processes import none_left

ASKED = [("double", engine) for engine in ("sglang", "vllm")] + [("real", engine) for engine in sorted(REAL)]
SUBJECTS = [pytest.param((kind, engine), id=f"{engine}-{kind}") for kind, engine in ASKED]
SLOW = 900.0
"""Seconds for a test with a real engine on a busy machine."""


def pytest_collection_modifyitems(items):
    for item in items:
        if "real" in item.name and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(SLOW))


def make(folder: Path, kind: str, engine: str) -> Subject:
    return double(folder, engine) if kind == "double" else real(engine)


@pytest.fixture
def folder():
    """A folder whose path leaves room for socket names."""
    found = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def install():
    """An installation id; fails the test that leaves processes of it."""
    name = "test-" + secrets.token_hex(6)
    yield name
    assert none_left(name) == []


@pytest.fixture(params=SUBJECTS)
def subject(request, folder):
    """Both engines, as doubles and real."""
    return make(folder, *request.param)


@pytest.fixture(params=[p for p in SUBJECTS if p.values[0][1] == "sglang"])
def sglang(request, folder):
    return make(folder, *request.param)


@pytest.fixture(params=[p for p in SUBJECTS if p.values[0][1] == "vllm"])
def vllm(request, folder):
    return make(folder, *request.param)


@pytest.fixture
def place():
    """Folders of an installation for one test."""
    found = Place()
    yield found
    found.remove()
