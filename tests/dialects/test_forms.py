"""Where a field of a form stands, whatever stands around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects.forms import BadForm, find

KIND = b'multipart/form-data; boundary="line"'


def form(*parts: tuple[str, bytes, str | None]) -> bytes:
    out = b""
    for name, value, file in parts:
        more = f'; filename="{file}"\r\nContent-Type: audio/wav' if file else ""
        out += f'--line\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"
    return out + b"--line--\r\n"


@given(st.binary(max_size=3000), st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40), st.booleans())
def test_a2_the_model_is_found_before_and_after_files_and_changed_alone(data, model, first):
    """The oracle: a form that was made with the other name from the beginning."""
    data = data.replace(b"line", b"LINE")
    file, field = ("file", data, "a.wav"), ("model", model.encode(), None)
    parts = [field, file] if first else [file, field]
    body = form(*parts)
    found = find(body, KIND, "model")
    assert found is not None
    assert found.value == model
    changed = body[: found.start] + b"other" + body[found.end :]
    assert changed == form(*[(n, b"other", None) if n == "model" else (n, v, f) for n, v, f in parts])


def test_a_file_of_that_name_is_no_field_and_the_first_field_counts():
    assert find(form(("model", b"x", "model.bin")), KIND, "model") is None
    assert find(form(("file", b"x", "f")), KIND, "model") is None
    found = find(form(("model", b"one", None), ("model", b"two", None)), KIND, "model")
    assert found is not None
    assert found.value == "one"
    assert find(form(("model", b"\xff", None)), KIND, "model").value == "\ufffd"


def test_an_empty_field_has_no_value():
    assert find(form(("model", b"", None)), KIND, "model") is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (form(("model", b"x", None)), b"application/json"),
        (form(("model", b"x", None)), b"multipart/form-data"),
        (form(("model", b"x", None)), b"multipart/form-data; boundary=other"),
        (form(("model", b"x", None))[:-8], KIND),
        (b"", KIND),
        (b"--line\r\nno header\r\n\r\n", KIND),
        (form(*[("a", b"", None)] * 1001), KIND),
    ],
)
def test_what_is_no_whole_form_is_told(body, kind):
    with pytest.raises(BadForm):
        find(body, kind, "model")
