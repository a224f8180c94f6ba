"""YAML with lines: plain data, and every fault with its place."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roundhouse.config.document import read
from roundhouse.config.problems import Problems
from roundhouse.errors import ConfigError


def parse(text, env=None):
    problems = Problems(Path("x.yaml"))
    return read(text, env or {}, problems), problems


def message(text):
    _, problems = parse(text)
    with pytest.raises(ConfigError) as error:
        problems.raise_if_any()
    return error.value.message


def test_c1_yaml_1_2_words_are_no_truth_values():
    assert parse("a: off\nb: no\nc: true\nd: null\ne: 1:30\nf: 012")[0] == {
        "a": "off", "b": "no", "c": True, "d": None, "e": "1:30", "f": 12,
    }  # fmt: skip


def test_keys_are_text():
    assert parse("7: a\ntrue: b")[0] == {"7": "a", "true": "b"}


def test_lines_of_keys_and_items():
    _, problems = parse("a:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert [problems.where(p) for p in [("a",), ("a", "b"), ("a", "c"), ("a", "c", 1), ("a", "c", 1, "z"), ("q",)]] == [
        1, 2, 3, 5, 5, 1,
    ]  # fmt: skip


def test_anchors_and_merge_keys():
    data, problems = parse("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n")
    assert data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert not len(problems)


def test_of_several_merged_mappings_the_first_wins():
    data, _ = parse("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n")
    assert data is not None
    assert data["c"] == {"x": 1, "y": 2}
    data, _ = parse("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: *a\n  <<: *b\n")
    assert data is not None
    assert data["c"] == {"x": 1, "y": 2}


def test_c1_every_duplicate_key_is_told_with_both_lines():
    assert message("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n").splitlines() == [
        "x.yaml:4: b.c: written twice (first on line 3); remove one",
        "x.yaml:5: a: written twice (first on line 1); remove one",
    ]


def test_c1_a_missing_variable_is_told_with_its_line():
    assert message("a: 1\nb: [x, '${NOT_THERE}']").startswith(
        "x.yaml:2: b[1]: the environment variable NOT_THERE is not set"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.yaml:1: the file is empty"),
        ("# nothing", "the file is empty"),
        ("- a", "not a mapping"),
        ("word", "not a mapping"),
        ("a: [1,\n", "not YAML"),
        ("a: 1\n\t- b", "x.yaml:2: not YAML"),
        ("a: *unknown", "x.yaml:1: not YAML"),
        ("a: 1\n---\nb: 1", "x.yaml:2: not YAML: expected a single document"),
        ("a: \x01", "not YAML"),
        ("a: &a {b: *a}", "nested too deeply"),
        ("a: " + "[" * 40 + "]" * 40, "nested too deeply"),
        ("a: " + "[" * 1500, "not YAML"),
        ("a: !!python/object:os.system x", "x.yaml:1: a: "),
        ("a: 2027-13-45", "x.yaml:1: a: '2027-13-45' can't be read"),
        ("{[a]: 1}", "a key is a list"),
        ("a: {<<: 5}", "`<<` takes an alias"),
    ],
)
def test_c1_what_is_no_configuration_is_told(text, said):
    assert said in message(text)


def test_aliases_that_multiply_without_bound_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "repeat too much" in message("\n".join(lines))


@given(st.text(alphabet=" \n\t-:[]{}&*!#'\"<>|$ab1~,?%@`\\", max_size=60))
@example("? a\n: b")
@example("{a: ~, ? [b] : c}")
@example("<<: <<")
@example("a: !!int 'x'")
@example("a: !!timestamp x")
@example("a: !!float x\nb: !!null x\nc: !!bool x\nd: !!map x\ne: !!seq {}\nf: !!set {a}\ng: !!omap [a: 1]")
def test_any_text_is_data_or_a_problem_and_never_an_exception(text):
    data, problems = parse(text)
    assert isinstance(data, dict) or len(problems)
