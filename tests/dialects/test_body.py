import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects import body
from roundhouse.dialects.sse import DialectError
from roundhouse.errors import BadRequest

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
KEYS = st.one_of(st.sampled_from(["model", "stream", "event", "usage"]), st.text(max_size=4))
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=6)  # duplicates on purpose
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), VALUES), max_size=4)
SPACE = st.text(" \t\r\n", max_size=2)


@st.composite
def spans(draw):
    """A JSON object as [(key, text of the member)], with spacing and escapes of every kind."""
    members = []
    for key, value in draw(PAIRS):
        indent = draw(st.sampled_from([None, 1]))
        ascii_only = draw(st.booleans())
        escaped = "".join(f"\\u{unit:04x}" for unit in _units(key))
        quoted = draw(st.sampled_from([json.dumps(key), f'"{escaped}"']))
        value_text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
        members.append((key, f"{quoted}{draw(SPACE)}:{draw(SPACE)}", value_text))
    return members


def _units(text):
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


@given(spans(), CHANGES, SPACE, SPACE)
def test_a2_edit_means_what_a_dictionary_would_and_touches_nothing_else(members, changes, before, after):
    raw = f"{before}{{{after}{f'{after},{before}'.join(head + value for _, head, value in members)}{after}}}{before}".encode()
    edited = body.edit(
        raw, {key: None if value is None else json.dumps(value).encode() for key, value in changes.items()}
    )
    expected = {**json.loads(raw)}
    for key, value in changes.items():
        expected.pop(key, None) if value is None else expected.__setitem__(key, value)
    assert json.loads(edited) == expected
    at = 0
    for key, head, value in members:  # every untouched member is there, byte for byte and in order
        if key not in changes:
            at = edited.index((head + value).encode(), at) + len(head + value)


@given(spans())
def test_a2_no_change_is_identity(members):
    raw = ("{" + " , ".join(head + value for _, head, value in members) + " }").encode()
    assert body.edit(raw, {}) == raw
    assert body.edit(raw, {"absent key": None}) == raw


def test_a2_numbers_duplicates_and_order_survive():
    raw = b'{ "n": 123456789012345678901234567890, "x":1e400,\n "model" : "a", "n":2, "seed":0.10, "t":{"model":"no"} }'
    assert body.edit(raw, {"model": b'"b"', "z": b"1"}) == raw.replace(b'"a"', b'"b"').replace(b"} }", b'},"z":1 }')


@pytest.mark.parametrize(
    ("raw", "changes", "expected"),
    [
        (b"{}", {"a": b"1", "b": b"2"}, b'{"a":1,"b":2}'),
        (b'{"a":1}', {"a": None}, b"{}"),
        (b'{"a":1}', {"a": None, "b": b"2"}, b'{"b":2}'),
        (b'{"a":1, "b":2, "c":3}', {"a": None}, b'{"b":2, "c":3}'),
        (b'{"a":1, "b":2, "c":3}', {"b": None}, b'{"a":1, "c":3}'),
        (b'{"a":1, "b":2, "c":3}', {"c": None}, b'{"a":1, "b":2}'),
        (b'{"a":1, "b":2, "c":3}', {"b": None, "c": None}, b'{"a":1}'),
        (b'{"a":1,"a":2}', {"a": b"0"}, b'{"a":0,"a":0}'),
        (b'{"\\u0065vent":{"a":["}"]},"b":"{"}', {"event": None}, b'{"b":"{"}'),
        (b'{"a":"\\\\","b":"\\""}', {"b": b"1"}, b'{"a":"\\\\","b":1}'),
        (b'{"a":{"b":{"c":{"d":[[],{}]}}},"e":1}', {"e": b"2"}, b'{"a":{"b":{"c":{"d":[[],{}]}}},"e":2}'),
    ],
)
def test_edit(raw, changes, expected):
    assert body.edit(raw, changes) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[1]",
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1',
        b'{"a":[1,{"b":2}',
        b'{"a":1 "b":2}',
        b'{"a":"x',
        b'{"\\q":1}',
        b'{"a":]}',
    ],
)
def test_edit_refuses_what_is_no_object(raw):
    with pytest.raises(DialectError):
        body.edit(raw, {"a": b"1"})


@given(st.text(alphabet=string.printable, max_size=40))
def test_edit_never_hangs_nor_fails_otherwise(text):
    for raw in (text.encode(), b'{"a":' + text.encode()):
        try:
            body.edit(raw, {"model": b'"x"'})
        except DialectError:
            pass


@pytest.mark.parametrize("filler", ["QUJD" * 1_300_000, '\n"\\' * 1_000_000, "[{" * 1_000_000])
def test_a2_a_huge_string_is_one_pass(filler):
    raw = json.dumps({"image": filler, "model": "a"}).encode()
    assert body.edit(raw, {"model": b'"b"'}) == raw[: -len('"a"}')] + b'"b"}'


def test_a2_deep_nesting_is_one_pass():
    raw = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b',"model":"a"}'
    assert body.edit(raw, {"model": b'"b"'}).endswith(b',"model":"b"}')


def test_parse():
    parsed = body.RequestBody.parse(b' {"model": "m"} ')
    assert parsed.fields == {"model": "m"}
    assert parsed.raw == b' {"model": "m"} '


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "not an array"),
        (b'"x"', "not a string"),
        (b"1", "not a number"),
        (b"true", "not a boolean"),
        (b"null", "not null"),
        (b'{"a":\n 1,}', "line 2, column 3"),
        (b'{"a":NaN}', "line 1, column 6"),
        (b'{"a":Infinity}', "line 1, column 6"),
        (b'{"a":"\\ud800"}', "surrogate.* at line 1"),
        (b'{"a":"\xff"}', "not UTF-8: byte 0xff at offset 6"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8: byte 0xed at offset 6"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{}{}", "not valid JSON"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a2_bodies_that_json_does_not_allow_are_a_400(raw, says):
    with pytest.raises(BadRequest, match=says) as caught:
        body.RequestBody.parse(raw)
    assert caught.value.status == 400
