"""NVIDIA's compatibility rules; the original's own build (`sm_90` for a Blackwell card, which is 12.0) among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.app.doctor.cuda import archs_in, name_of, runs, runs_as_built


@pytest.mark.parametrize(
    ("archs", "capability", "built", "at_all"),
    [
        ({"sm_90"}, "9.0", True, True),
        ({"sm_90"}, "12.0", False, False),
        ({"sm_90", "compute_90"}, "12.0", False, True),
        ({"sm_80"}, "8.6", True, True),
        ({"sm_86"}, "8.0", False, False),
        ({"sm_90a"}, "9.0", True, True),
        ({"sm_100a"}, "10.3", False, False),
        ({"sm_100f"}, "10.3", True, True),
        ({"compute_90a"}, "12.0", False, False),
        ({"compute_120"}, "9.0", False, False),
        ({"sm_120"}, "12.0", True, True),
        (set(), "9.0", False, False),
        ({"nonsense"}, "9.0", False, False),
    ],
)
def test_g4_what_runs_where(archs, capability, built, at_all):
    assert runs_as_built(archs, capability) is built
    assert runs(archs, capability) is at_all


def test_listings_are_read():
    listing = "ELF file    1: libggml-cuda.1.sm_86.cubin\nPTX file 1: libggml-cuda.1.sm_120a.ptx\n"
    assert archs_in(listing) == {"sm_86", "sm_120a"}
    assert archs_in("2.9.0 12.9 sm_80 sm_90 sm_120 compute_120") == {"sm_80", "sm_90", "sm_120", "compute_120"}
    assert archs_in("2.9.0+cpu None") == frozenset()


def test_the_name_of_a_capability():
    assert name_of("12.0") == "sm_120"
    assert name_of("8.6") == "sm_86"


@given(
    st.sets(st.sampled_from(["sm_80", "sm_86", "sm_90a", "compute_80", "compute_90"])),
    st.sampled_from(["8.0", "8.9", "9.0", "12.0"]),
)
def test_what_runs_as_built_runs_and_more_code_never_hurts(archs, capability):
    assert runs(archs, capability) or not runs_as_built(archs, capability)
    assert runs(archs | {"compute_80"}, capability)
