import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.observe.redact import HIDDEN, Secrets


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "x-api-key",
        "api_key",
        "apikey",
        "OPENAI_API_KEY",
        "hash",
        "HF_TOKEN",
        "password",
        "cookie",
        "x-admin-key",
    ],
)
def test_f4_values_of_secret_names_are_hidden_at_any_depth(name):
    fields = Secrets().fields({"a": [{"b": {name: ["hunter2"]}}], name: "hunter2"})
    assert "hunter2" not in repr(fields)
    assert fields[name] == HIDDEN


@pytest.mark.parametrize("name", ["key", "prompt_tokens", "model", "tokens_per_s", "hashes", "settings"])
def test_f4_other_names_are_left_alone(name):
    assert Secrets().fields({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("got Authorization: Bearer sk-abc.def, refused", "got Authorization: Bearer [hidden], refused"),
        ("hash sha256:" + "ab" * 32, "hash sha256:[hidden]"),
        ("llama-server --api-key hunter2 --port 1", "llama-server --api-key [hidden] --port 1"),
        ("llama-server --api-key=hunter2 --port 1", "llama-server --api-key=[hidden] --port 1"),
        ("GET /v1?api_key=hunter2&x=1", "GET /v1?api_key=[hidden]&x=1"),
        ('{"api_key": "hunter2", "x": 1}', '{"api_key": "[hidden]", "x": 1}'),
        ("https://me:hunter2@example.org/v1", "https://me:[hidden]@example.org/v1"),
        ("128 tokens at http://127.0.0.1:8002/v1", "128 tokens at http://127.0.0.1:8002/v1"),
    ],
)
def test_f4_text_of_secret_shape_is_hidden(text, left):
    assert Secrets().text(text) == left


def test_f4_header_pairs_are_hidden():
    headers = [(b"authorization", b"hunter2"), ("X-Api-Key", "hunter2"), (b"accept", b"*/*")]
    assert Secrets().fields({"headers": headers}) == {
        "headers": [["authorization", HIDDEN], ["X-Api-Key", HIDDEN], ["accept", "*/*"]]
    }


def test_f4_registered_secret_inside_another_leaves_no_rest():
    secrets = Secrets()
    secrets.add("hunter", "hunter2-long", None, "", "abc")
    assert secrets.text("hunter2-long hunter abc") == "[hidden] [hidden] abc"
    assert "hunter" not in repr(secrets)


def test_f4_a_secret_at_the_cut_of_a_long_text_is_hidden_whole():
    secrets = Secrets()
    secrets.add("hunter2")
    (text,) = secrets.fields({"text": "x" * 8189 + "hunter2"}).values()
    assert "hun" not in str(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(secret=st.text(min_size=4, max_size=20), around=st.tuples(st.text(), st.text()), value=values)
def test_f4_a_registered_secret_never_appears(secret, around, value):
    secrets = Secrets()
    secrets.add(secret)
    text = around[0] + secret + around[1]
    plain = secrets.fields({"a": text, text: [value, {text: text}], "b": text.encode("utf-8", "surrogatepass")})
    shown = secret.encode("utf-8", "backslashreplace").decode()
    marks = HIDDEN + "…ab"
    if shown not in marks:
        assert not any(shown in piece.replace(HIDDEN, "") and shown in piece for piece in _strings(plain))


def _strings(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_g6_any_value_becomes_plain_and_bounded():
    knot: list[object] = []
    knot.append(knot)
    fields = Secrets().fields(
        {"rude": Rude(), "knot": knot, "many": range(1000), "set": {1}, "long": "x" * 10_000, "lone": "\ud800"}
    )
    assert fields["rude"] == "<Rude: RuntimeError in str()>"
    assert fields["knot"] == [[[[[["…"]]]]]]
    assert fields["many"] == [*range(200), "…"]
    assert fields["set"] == [1]
    assert fields["long"] == "x" * 8192 + "… (10000 characters)"
    assert fields["lone"] == "\\ud800"
