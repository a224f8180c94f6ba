"""Edits of the configuration's text: what is meant is changed, all else stays as it was."""

from __future__ import annotations

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse.config import edit
from roundhouse.config.problems import EditError
from roundhouse.config.starter import STARTER
from roundhouse.errors import ConfigError

FILE = """\
# mine
models: # all
  a:
    path: 'b c' # z
    # c
    args:
      - x # first
      - y

  # about b
  b: {path: x}
  c: {path: z, context: 1}  # cc

# tail
keys: []
"""
ANCHORS = """\
base: &base {path: /x}
models:
  a: &a
    <<: *base
    load_timeout: &lt
      total: 1h
      stalled: 1m
  b:
    <<: *a
    context: 5
  c: *a
"""


def test_a_value_is_changed_where_it_stands_with_its_quotes_and_comment():
    assert edit.assign(FILE, ("models", "a", "path"), "it's") == FILE.replace("'b c'", "'it''s'")
    assert edit.assign(FILE, ("models", "c", "context"), 8192) == FILE.replace("context: 1", "context: 8192")
    assert edit.assign(FILE, ("models", "c", "context"), 1) == FILE


def test_of_a_list_only_the_items_that_differ_change():
    changed = edit.assign(FILE, ("models", "a", "args"), ["x", "--z", 3, "y"])
    assert changed == FILE.replace("      - y\n", "      - --z\n      - 3\n      - y\n")
    assert edit.assign(changed, ("models", "a", "args"), ["x", "y"]) == FILE
    assert "    args: []\n\n  # about b" in edit.assign(FILE, ("models", "a", "args"), [])


def test_a_new_setting_goes_below_the_last_one_and_out_again():
    changed = edit.assign(FILE, ("models", "a", "load_timeout", "total"), "1h")
    assert changed == FILE.replace("      - y\n", "      - y\n    load_timeout: {total: 1h}\n")
    assert edit.unset(changed, ("models", "a", "load_timeout", "total")) == FILE
    assert edit.assign(FILE, ("models", "b", "ttl"), "30m") == FILE.replace("{path: x}", "{path: x, ttl: 30m}")


def test_removing_takes_the_comments_along_that_belong_to_it():
    assert edit.remove(FILE, "b") == FILE.replace("  # about b\n  b: {path: x}\n", "")
    assert edit.remove(FILE, "a") == "# mine\nmodels: # all\n" + FILE[FILE.index("  # about b") :]
    noted = FILE.replace("  # about b", "    # deeper: of a\n\n  # about b")
    assert "deeper" not in edit.remove(noted, "a")


@pytest.mark.parametrize(
    "text",
    [
        STARTER,
        FILE,
        FILE.replace("\n", "\r\n"),
        FILE.rstrip("\n"),
        "models:\n  a:\n    path: x",
        "models:\n    a:\n       path: x\n\n    b:\n       path: y\n\nkeys: []\n",
        "models: {}",
        "models: {a: {path: x}}\n",
        "models: {a: {path: x},}\n",
        '{"models": {"a": {"path": "x"}}}',
        '{\n  "models": {\n    "a": {"path": "x"}\n  }\n}\n',
        "models: {\n  a: {path: x}, # a\n  b: {path: y} # b\n}\n",
        "models:\n  a:\n    path: x\n# at the left\n",
        "models:\n  a:\n    command: |\n      x\n      y\n\nkeys: []\n",
    ],
)
def test_added_and_removed_again_gives_the_file_back(text):
    added = edit.add(text, "new", {"path": "/m/$$x y", "context": 8192})
    assert edit.plain(added)["models"]["new"] == {"path": "/m/$$x y", "context": 8192}
    assert edit.plain(edit.assign(added, ("models", "new", "ttl"), "1h"))["models"]["new"]["ttl"] == "1h"
    gone = edit.remove(added, "new")
    # A comma and the place of a comment may stay behind in braces.
    assert gone == text or ("{" in text and "#" in text and edit.plain(gone) == edit.plain(text))


def test_a_new_model_takes_the_style_of_the_file():
    assert edit.add("models: {}\n", "new", {"path": "/x"}) == "models:\n  new:\n    path: /x\n"
    assert edit.add("listen: []\n", "new", {"path": "/x"}) == "listen: []\n\nmodels:\n  new:\n    path: /x\n"
    assert edit.add("models:\n   a:\n      path: y\n", "new", {"path": "/x"}).endswith("   new:\n      path: /x\n")
    assert edit.add(FILE, "new", {"path": "/x"}) == FILE.replace("# cc\n", "# cc\n  new:\n    path: /x\n")
    short = "models:\n  a: {path: y} # a\n"
    assert edit.add(short, "new", {"path": "/x"}) == f"{short}  new: {{path: /x}}\n"
    spaced = "models:\n  a:\n    path: x\n\n  b:\n    path: y\n"
    assert edit.add(spaced, "new", {"path": "/x"}) == f"{spaced}\n  new:\n    path: /x\n"
    json = '{\n  "models": {\n    "a": {"path": "x"}\n  }\n}\n'
    assert edit.add(json, "new", {"path": "/x"}) == json.replace('"x"}', '"x"},\n    "new": {"path": "/x"}')


def test_what_comes_by_an_anchor_is_changed_for_one_model_only():
    changed = edit.plain(edit.assign(ANCHORS, ("models", "b", "load_timeout", "total"), "2h"))["models"]
    assert changed["b"]["load_timeout"] == {"total": "2h", "stalled": "1m"}
    assert changed["a"]["load_timeout"]["total"] == "1h"
    changed = edit.plain(edit.assign(ANCHORS, ("models", "c", "context"), 7))["models"]
    assert (changed["c"]["context"], "context" in changed["a"], changed["c"]["path"]) == (7, False, "/x")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda: edit.assign(ANCHORS, ("models", "a", "context"), 7), "also change c,"),
        (lambda: edit.remove(ANCHORS, "a"), "anchor &a"),
        (lambda: edit.unset(ANCHORS, ("models", "b", "path")), "comes by an anchor"),
        (lambda: edit.unset(FILE, ("models", "a", "ttl")), "not set"),
        (lambda: edit.remove(FILE, "no"), "not set"),
        (lambda: edit.add(FILE, "a", {}), "already"),
        (lambda: edit.assign(FILE, ("models", "a", "path", "x"), 1), "no mapping"),
        (lambda: edit.assign(FILE, ("models", "a", "x"), float("inf")), "can't be written"),
        (lambda: edit.entry(FILE, "no"), "no entry"),
        (lambda: edit.put_entry(FILE, "b", "b2: {path: x}\n"), "its name stays"),
        (lambda: edit.put_entry(FILE, "b", "b: {path: x}\nd: {}\n"), "its name stays"),
        (lambda: edit.put_entry(ANCHORS, "a", "a: &b {path: x}\n"), "undefined alias"),
    ],
)
def test_what_can_not_be_done_is_refused(change, told):
    with pytest.raises((EditError, ConfigError), match=told):
        change()


def test_an_entry_goes_out_to_the_left_and_back():
    assert edit.entry(FILE, "b") == "# about b\nb: {path: x}\n"
    assert edit.entry(FILE, "a").startswith("a:\n  path: 'b c' # z\n  # c\n")
    for name in "abc":
        assert edit.put_entry(FILE, name, edit.entry(FILE, name)) == FILE
    changed = edit.put_entry(FILE, "b", "# more\nb:\n  path: x\n\n  ttl: 1h\n")
    assert changed == FILE.replace("  # about b\n  b: {path: x}\n", "  # more\n  b:\n    path: x\n\n    ttl: 1h\n")
    windows = FILE.replace("\n", "\r\n")
    assert edit.put_entry(windows, "a", edit.entry(windows, "a")) == windows
    assert edit.put_entry("models: {a: {path: x}}", "a", "a: {path: y}\n") == "models: {a: {path: y}}"


@pytest.mark.parametrize(
    ("written", "keys"),
    [("a", ("a",)), ("a.b", ("a", "b")), ('aliases."gpt-4.1".x', ("aliases", "gpt-4.1", "x"))],
)
def test_paths_of_settings(written, keys):
    assert edit.keys_of(written) == keys


@pytest.mark.parametrize("written", ["", ".", "a.", ".a", "a..b", '"a"b', "a b", 'a."b'])
def test_what_is_no_path(written):
    with pytest.raises(ValueError, match="no setting"):
        edit.keys_of(written)


def test_values_as_in_yaml():
    assert edit.value_of("8192") == 8192
    assert edit.value_of("[a, '$x']") == ["a", "$x"]
    assert edit.value_of("") is None
    for wrong in ("[a", "x\nother: 1", "*x", "a: b"):
        with pytest.raises(ValueError, match="no value"):
            edit.value_of(wrong)


NAMES = st.sampled_from(["a", "qwen3-8b", "x.y", "on", "1", "größe", "a b"])
WORDS = st.sampled_from(["x", "30m", "a b", "it's", "${PORT}", "$$", "8", "null", "#", "a: b", "x #y", "-"])
SCALARS = WORDS | st.integers(-9, 10**12) | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(["path", "args", "env", "set"]), VALUES, min_size=1)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """A file in a style of its own, with a numbered comment wherever one may stand, and what it says."""
    count = 0
    step = draw(st.integers(1, 4))

    def remark() -> str:
        nonlocal count
        count += 1
        return f"# remark {count}"

    def block(value: object, indent: int) -> list[str]:
        from roundhouse.config import splice

        pad = " " * indent
        if isinstance(value, dict) and value and draw(st.booleans()):
            lines = []
            for key, inner in value.items():
                if draw(st.booleans()):
                    lines += [""] * draw(st.integers(0, 1)) + [pad + remark()]
                first, *rest = block(inner, indent + step)
                name = splice.flow(key, strict=draw(st.booleans()))
                lines += [f"{pad}{name}:{first}", *rest]
            return [f"  {remark()}" if draw(st.booleans()) else "", *lines]
        if isinstance(value, list) and value and draw(st.booleans()):
            return ["", *(f"{pad}- {splice.flow(item, strict=False)} {remark()}" for item in value)]
        end = f"  {remark()}" if draw(st.booleans()) else ""
        return [f" {splice.flow(value, strict=draw(st.booleans()))}{end}"]

    told = {"listen": 1, "models": draw(st.dictionaries(NAMES, BODIES, max_size=4)), "keys": []}
    if draw(st.booleans()):
        del told["keys"]
    lines = ["# head"]
    for key, value in told.items():
        first, *rest = block(value, step)
        lines += [f"{key}:{first}", *rest]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    assert edit.plain(text) == told
    return text, told


def comments(text: str) -> list[str]:
    return re.findall(r"# (?:remark \d+|head)\b", text)


@settings(deadline=None, max_examples=60)
@given(files(), NAMES, BODIES)
def test_property_a_model_added_leaves_every_line_and_goes_again(made, name, body):
    text, told = made
    if name in told["models"]:
        return
    added = edit.add(text, name, body)
    assert edit.plain(added) == told | {"models": told["models"] | {name: body}}
    assert comments(added) == comments(text)
    assert edit.remove(added, name) == text


@settings(deadline=None, max_examples=60)
@given(files(), st.data())
def test_property_a_setting_changed_changes_nothing_else(made, data):
    text, told = made
    if not told["models"]:
        return
    name = data.draw(st.sampled_from(sorted(told["models"])))
    model = told["models"][name]
    key = data.draw(st.sampled_from(["ttl", *model]))
    value = data.draw(VALUES)
    wanted = copy.deepcopy(told)
    wanted["models"][name][key] = value
    changed = edit.assign(text, ("models", name, key), value)
    assert edit.plain(changed) == wanted
    start, end = changed_part(text, changed)
    assert comments(text[:start]) == comments(changed[:start])
    lost = len(comments(text)) - len(comments(changed))
    assert lost == 0 or isinstance(model[key], dict | list), "a comment is lost only with the lines it stands on"
    assert text[end:] == changed[len(changed) - (len(text) - end) :]


def changed_part(old: str, new: str) -> tuple[int, int]:
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return start, len(old) - end


@settings(deadline=None, max_examples=60)
@given(files(), st.data())
def test_property_a_model_removed_takes_only_its_own_lines(made, data):
    text, told = made
    if not told["models"]:
        return
    name = data.draw(st.sampled_from(sorted(told["models"])))
    removed = edit.remove(text, name)
    del told["models"][name]
    assert edit.plain(removed) == told
    start, end = changed_part(text, removed)
    gone = set(comments(text)) - set(comments(removed))
    assert all(remark in text[start - len(remark) : end + len(remark)] for remark in gone)
    for other in told["models"]:
        assert edit.entry(removed, other) == edit.entry(text, other)
