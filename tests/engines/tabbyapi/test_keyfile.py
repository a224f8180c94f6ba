import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse.engines.tabbyapi import keyfile
from roundhouse.errors import LoadFailed

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)


@settings(deadline=None)
@given(HEX, HEX)
def test_f_a_fresh_file_is_read_again_whatever_the_keys(api, admin):
    keys = itertools.chain([api, admin])
    assert keyfile.read(keyfile.fresh(lambda: next(keys))) == admin


@pytest.mark.parametrize("line", ["api_key: x", "api_key: [x, y]", "api_key:\n  - x\n  - 'y'"])
def test_the_admin_key_is_used_whatever_api_keys_there_are(line):
    assert keyfile.read(f"{line}\nadmin_key: abc123\n") == "abc123"


@pytest.mark.parametrize("value", ["12345678", "1e5", "0x10", "true"])
def test_trap_an_unquoted_key_of_digits_is_a_number_and_said_so(value):
    with pytest.raises(LoadFailed, match="put it in quotes"):
        keyfile.read(f"api_key: a\nadmin_key: {value}\n")


@pytest.mark.parametrize(
    "text",
    ["", "api_key: a", "admin_key:", "admin_key: [a]", "admin_key: ''", 'admin_key: "a\\nb"', 'admin_key: "é"', "- a"],
)
def test_a_file_without_a_usable_key(text):
    with pytest.raises(LoadFailed, match="no usable admin_key"):
        keyfile.read(text)


def test_f_a_broken_file_is_not_quoted():
    with pytest.raises(LoadFailed) as failed:
        keyfile.read("admin_key: 'sesame\n")
    assert "sesame" not in failed.value.message
    assert failed.value.__cause__ is None
