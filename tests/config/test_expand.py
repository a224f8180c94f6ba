"""`${VAR}` and friends (spec C1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.config.expand import expand, from_environment

ENV = {"HOME": "/home/me", "EMPTY": "", "DOLLAR": "a$$b", "TRICK": "${PORT}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${HOME}/models", "/home/me/models"),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b}", "a:-b"),
        ("$$HOME", "$HOME"),
        ("$${HOME}", "${HOME}"),
        ("$$${HOME}", "$/home/me"),
        ("$HOME is kept", "$HOME is kept"),
        ("${DOLLAR}", "a$$b"),
        ("--port ${PORT} ${ID}", "--port ${PORT} ${ID}"),
    ],
)
def test_c1_environment(text, expected):
    assert from_environment(text, ENV) == expected


@pytest.mark.parametrize("text", ["${NONE}", "${", "${}", "${1A}", "${a b}", "${HOME", "${HOME-x}"])
def test_c1_what_can_not_be_filled_in_is_an_error_with_a_remedy(text):
    with pytest.raises(ValueError, match="write"):
        from_environment(text, ENV)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--port ${PORT}", "--port 80"),
        ("$${PORT} ${PORT}", "${PORT} 80"),
        ("$$$$ ${PORT}", "$$ 80"),
        ("$$$$", "$$"),
        ("${ID} ${HOME}", "m /home/me"),
        ("${DOLLAR} ${PORT}", "a$$b 80"),
        ("${TRICK} ${PORT}", "${PORT} 80"),
    ],
)
def test_c1_our_own_variables_are_filled_in_later_and_escapes_are_undone_once(text, expected):
    assert expand(from_environment(text, ENV), {"PORT": "80", "ID": "m"}) == expected


@given(st.text(alphabet="${}PORTIDa:-", max_size=30))
def test_escaped_text_survives_both_passes(text):
    """Doubling every dollar sign makes any text literal."""
    once = from_environment(text.replace("$", "$$"), {})
    assert expand(once, {"PORT": "80", "ID": "m"}) == text
