"""How fast weights are read here: measured once, kept, and measured again when that is old."""

from __future__ import annotations

import os

import pytest

from roundhouse.runtime import links
from roundhouse.runtime.links import Links, Rates, measure


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "weights"
    made.write_bytes(os.urandom(links.LEAST_BYTES + 123))
    return made


def test_both_links_are_measured(file):
    rates = measure(file, 7.0)
    assert rates.disk > 0
    assert rates.cache > 0
    assert rates.at == 7.0


def test_a_small_file_says_nothing(tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 1000)
    assert measure(tmp_path / "small", 7.0) == Rates(0.0, 0.0, 7.0)


def test_it_is_measured_once_and_kept_for_a_month(file, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(links, "measure", lambda path, at: asked.append(path) or Rates(1.0, 2.0, at))
    now = [1000.0]
    kept = tmp_path / "links.json"
    known = Links(kept, lambda: now[0])
    assert known.of(file) == Rates(1.0, 2.0, 1000.0)
    assert known.of(file).at == 1000.0
    assert Links(kept, lambda: now[0]).of(file).at == 1000.0
    assert len(asked) == 1
    now[0] += links.FRESH + 1
    assert Links(kept, lambda: now[0]).of(file).at == now[0]


@pytest.mark.parametrize("text", ["", "[]", '{"1": 7}', '{"1": {"disk": 1}}'])
def test_a_file_that_says_something_else_is_as_none(file, tmp_path, text):
    (tmp_path / "links.json").write_text(text)
    assert Links(tmp_path / "links.json").of(file).cache > 0


def test_a_file_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Links(tmp_path / "links.json").of(tmp_path / "gone")
