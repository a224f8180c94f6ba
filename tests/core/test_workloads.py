"""Generated traffic, each with every oracle of the box and the bound of the longest wait (50; 1,000 in `make soak`)."""

from __future__ import annotations

import os

import pytest

from tests.core.traffic import traffic

COUNT = {"soak": 1000, "mutants": 20}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 50)


@pytest.mark.parametrize("seed", range(COUNT))
def test_d4_nobody_starves_whatever_is_asked(seed):
    played = traffic(seed)
    played.play()
    assert played.done
    played.check_bound()
