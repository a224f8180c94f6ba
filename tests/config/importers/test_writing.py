from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from roundhouse.config import document
from roundhouse.config.importers.result import PORT, Entry, Imported, template
from roundhouse.config.importers.writing import flow, scalar, text
from roundhouse.config.problems import Problems

TEXT = st.text(max_size=20) | st.sampled_from(
    [
        "off",
        "null",
        "~",
        "1e3",
        "0x1",
        ".5",
        "-1",
        "60s",
        "- a",
        "a: b",
        "#c",
        "$$",
        "${A}",
        "$HOME",
        "=",
        "<<",
        "🚂",
        "a\u2028b",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def loaded(written):
    problems = Problems(Path("x.yaml"))
    data = document.read(written, {}, problems)
    problems.raise_if_any()
    return data


def without_ours(value):
    return "${PORT}" not in repr(value) and "${ID}" not in repr(value)


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=3).filter(without_ours))
def test_every_value_is_read_back_as_it_was(body):
    imported = Imported(Path("src"), "folder", {"m": Entry(body, "here")})
    assert loaded(text(imported)) == {"models": {"m": body}}


@given(TEXT)
def test_every_name_is_read_back_as_it_was(name):
    imported = Imported(Path("src"), "folder", {name: Entry({"a": 1}, name, (name,), (name,))}, lost=(name,))
    assert loaded(text(imported)) == {"models": {name: {"a": 1}}}


@given(TEXT)
def test_other_readers_of_yaml_take_texts_for_texts_too(value):
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)
    assert reader.load(f"a: {scalar(value)}\n")["a"] == value.replace("$", "$$")


def test_templates_keep_their_variables_and_other_dollars_are_doubled():
    assert scalar(template("a $b ", PORT, " ${C}")) == '"a $$b ${PORT} $${C}"'
    assert loaded(f"a: {scalar('${PATH} $$')}\n") == {"a": "${PATH} $$"}


def test_long_lists_and_mappings_have_an_item_a_line():
    entry = Entry({"args": ["--word"] * 30, "tabby": {"dir": "/x" * 40, "model_dir": "/y" * 40}}, "here")
    lines = text(Imported(Path("src"), "folder", {"m": entry})).splitlines()
    assert lines.count("      - --word") == 30
    assert "    tabby:" in lines
    assert f"      dir: {'/x' * 40}" in lines


def test_the_file_says_where_things_are_from_and_what_is_missing():
    entry = Entry({"path": "/m.gguf"}, "router.py:7", ("this",), ("that",))
    written = text(
        Imported(
            Path("router.py"),
            "original",
            {"m": entry},
            {"listen": ["127.0.0.1:1"]},
            {"listen": "why"},
            ("all",),
            (),
            ("KEY",),
        )
    )
    assert written.splitlines() == [
        "# Imported from the multi-backend router's models: router.py",
        "# Look it over; `roundhouse check` says how each model will be run.",
        "# not carried over: all",
        "# needs these environment variables: KEY",
        "",
        "# why",
        'listen: ["127.0.0.1:1"]',
        "",
        "models:",
        "  m:",
        "    # from router.py:7",
        "    # not carried over: this",
        "    # advice: that",
        "    path: /m.gguf",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x"])
def test_what_yaml_has_no_words_for_is_refused(value):
    with pytest.raises(ValueError, match="is no"):
        flow([value])


def test_no_models_at_all():
    assert loaded(text(Imported(Path("x"), "folder", {}))) == {"models": {}}
