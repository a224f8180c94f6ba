from __future__ import annotations

import argparse

import pytest
from hypothesis import given as checked
from hypothesis import strategies as st

from roundhouse.engines.options import Option, chosen, given, number, value

LENGTH = Option(("--max-len", "--old-len"))
GRAPHS = Option(("--no-graphs",), instead=("--graph-sizes",))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--max-len", "5"), "5"),
        (("--max-len=5",), "5"),
        (("--max_len", "5"), "5"),
        (("--max_len=a_b",), "a_b"),
        (("--old-len", "4", "--max-len", "5"), "5"),
        (("--max-len=5", "--old-len", "4"), "4"),
        (("--other", "--max-len"), None),
        (("--other", "max-len"), None),
        ((), None),
    ],
)
def test_the_last_value_counts_however_it_is_written(args, said):
    assert value(args, LENGTH) == said


@checked(st.lists(st.tuples(st.sampled_from(["--max-len", "--old-len", "--x"]), st.integers(0, 99), st.booleans())))
def test_a_value_is_what_argparse_would_take(rows):
    args = [word for name, n, joined in rows for word in ([f"{name}={n}"] if joined else [name, str(n)])]
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-len", "--old-len", dest="length")
    parser.add_argument("--x")
    assert value(args, LENGTH) == parser.parse_args(args).length


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("4096", 4096),
        ("16k", 16000),
        ("16K", 16384),
        ("16Ki", 16384),
        ("25.6k", 25600),
        ("1M", 2**20),
        ("auto", None),
        ("-1", None),
        ("0", None),
        ("٣", 3),
        ("", None),
        ("9" * 40, None),
    ],
)
def test_numbers_as_engines_write_them(text, meant):
    assert number(("--max-len", text), LENGTH) == meant


def test_what_takes_an_options_place_is_a_decision_too():
    assert given(("--graph-sizes=1",), GRAPHS)
    assert not given(("--graphs", "no"), GRAPHS)


def test_a_build_that_nobody_asked_is_taken_for_the_newest():
    assert list(chosen([(LENGTH, "5"), (GRAPHS,)], (), frozenset())) == ["--max-len", "5", "--no-graphs"]


def test_older_names_are_used_where_newer_ones_are_missing_and_unknown_options_are_left_out():
    assert list(chosen([(LENGTH, "5"), (GRAPHS,)], (), frozenset({"--old-len", "--graph-sizes"}))) == ["--old-len", "5"]


def test_what_the_user_has_said_is_left_to_him():
    assert list(chosen([(LENGTH, "5"), (GRAPHS,)], ("--old-len=7", "--graph-sizes", "1"), frozenset())) == []
