"""Programs that tests share: each module says which models it needs, and starts one Roundhouse for all of its tests."""

from __future__ import annotations

import pytest

from tests.support.house import Place


@pytest.fixture
def place():
    """Folders of an installation for one test."""
    found = Place()
    yield found
    found.remove()


@pytest.fixture(scope="module")
def shared_place():
    """Folders of an installation for a module."""
    found = Place()
    yield found
    found.remove()
