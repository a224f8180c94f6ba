"""Tests for the test of the lab itself: one of each outcome. Not collected by the suite, being named so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.inside_lab


def test_that_passes():
    assert Path("/proc/1/comm").read_text() == "systemd\n"


def test_that_fails():
    assert Path("/proc/1/comm").read_text() == "not this"


@pytest.mark.skip(reason="on purpose")
def test_that_is_skipped():
    pass


def test_that_takes_its_process_with_it():
    os._exit(3)
