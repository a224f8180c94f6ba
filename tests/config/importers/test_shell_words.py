import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.config.importers.shell_words import UnreadableError, tokens, words

# Everything that shlex and a shell take alike: no variables, no operators, no comments, no line ends.
PLAIN = st.text(alphabet="ab- =/.:,\\'\"\t%@+", max_size=40)


@given(PLAIN)
def test_words_are_split_as_shlex_does(text):
    try:
        wanted = shlex.split(text, comments=False)
    except ValueError:
        if text.endswith("\\"):  # shlex wants a character after it, a shell does not
            return
        with pytest.raises(UnreadableError):
            words(text)
        return
    assert words(text) == wanted


@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12), max_size=6
    )
)
def test_quoted_words_come_back_letter_by_letter(wanted):
    assert words(shlex.join(wanted)) == wanted


@pytest.mark.parametrize(("text", "line"), [("a\nb 'c", 2), ('a "b', 1), ("a\n\n$(b", 3), ("`x", 1), ("${x", 1)])
def test_what_is_never_closed_is_told_with_its_line(text, line):
    with pytest.raises(UnreadableError, match=f"line {line}: .*never closed"):
        list(tokens(text))
