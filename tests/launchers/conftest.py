"""Folders with short names (socket paths are limited), an installation of its own for each test, and nothing left after it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.processes import none_left


@pytest.fixture
def runtime():
    """A folder whose path leaves room for socket names."""
    folder = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def install():
    """An installation id; fails the test that leaves processes of it."""
    name = "test-" + secrets.token_hex(6)
    yield name
    assert none_left(name) == []
