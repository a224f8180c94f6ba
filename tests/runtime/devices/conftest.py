from __future__ import annotations

import pytest

from tests.runtime.devices.machine import Machine


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)
