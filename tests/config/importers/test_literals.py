import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.config.importers.literals import LONGEST, read
from roundhouse.errors import ConfigError


def names(text, tmp_path):
    return read(text, tmp_path / "router.py").names


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


@given(plain)
def test_what_is_written_out_has_its_value(value):
    assert read(f"X = {value!r}\n", "x.py").names == {"X": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("A = '/opt'\nX = A + '/x.sh'", "/opt/x.sh"),
        ("A = '/opt'\nX = f'{A}/x{1}.sh'", "/opt/x1.sh"),
        ("A = {'k': 1}\nX = {**A, 'l': A}", {"k": 1, "l": {"k": 1}}),
        ("X: dict = {'k': ('a', 'b')}", {"k": ["a", "b"]}),
        ("X = {}\nX['k'] = 'v'", {"k": "v"}),
        ("X = 1\nX = 2", 2),
        ("X = -5", -5),
    ],
)
def test_names_texts_and_parts_put_together(written, value, tmp_path):
    assert names(written, tmp_path)["X"] == value


@pytest.mark.parametrize(
    ("written", "line", "said"),
    [
        ("X = dict(a=1)", 1, "`dict(a=1)` would have to be run"),
        ("\nX = {'a': open('x').read()}", 2, "would have to be run"),
        ("import os\nP = os.environ['P']\nX = {'a': P}", 3, "P is set by code on line 2; write its value"),
        ("X = {'a': NOWHERE}", 1, "NOWHERE is not set to a value above"),
        ("X = [n for n in 'ab']", 1, "would have to be run"),
        ("X = {('a', 'b'): 1}", 1, "key is no plain text"),
        ("X = f'{1:>9}'", 1, "would have to be run"),
        ("X = b'bytes'", 1, "would have to be run"),
        ("A = 'x' + 'y' * 3\nX = A", 2, "set by code"),
    ],
)
def test_what_would_have_to_be_run_is_refused_with_its_line(written, line, said, tmp_path):
    refused = read(written, tmp_path / "x.py").refused["X"]
    assert refused.line == line
    assert said in str(refused)


def test_texts_do_not_grow_without_bound(tmp_path):
    text = "A = 'xxxxxxxxxx'\n" + "".join(f"A = A + A  # {turn}\n" for turn in range(9))
    refused = read(text, tmp_path / "x.py").refused["A"]
    assert str(LONGEST) in str(refused)


@pytest.mark.parametrize(
    ("text", "line"), [("X = {\n'a': 1\n'b': 2}", 2), ("x = = 1", 1), ("a\x00b", 1), ("X = " + "(" * 5000, 1)]
)
def test_what_is_no_python_is_told_with_its_line(text, line, tmp_path):
    with pytest.raises(ConfigError, match=r"x\.py") as error:
        read(text, tmp_path / "x.py")
    assert f"x.py:{line}:" in str(error.value) or "can't be read as Python" in str(error.value)


def test_lines_of_keys_and_of_changes_by_code(tmp_path):
    source = read("M = {\n  'a': {\n    'port': 1},\n}\nM.update(x)\nM |= x\ndel M['a']\nM[k] = 1\n", tmp_path / "x.py")
    assert source.where("M", "a", "port").endswith(":3")
    assert source.where("M", "a", "other").endswith(":2")
    assert source.where("N").endswith(":1")
    assert source.changed == {"M": [5, 6, 7, 8]}


def test_arguments_of_calls_and_texts_anywhere(tmp_path):
    source = read(
        "P = 9\ndef f():\n    uvicorn.run(app, port=P, host=h())\n    x = '/a/config.yml'\n", tmp_path / "x.py"
    )
    assert source.keyword(("uvicorn", "run"), "port") == 9
    assert source.keyword(("uvicorn", "run"), "host") is None
    assert source.keyword(("other", "run"), "port") is None
    assert "/a/config.yml" in list(source.texts())
