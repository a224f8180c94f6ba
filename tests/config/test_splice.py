import pytest

from roundhouse.config import splice, tree


@pytest.mark.parametrize(
    ("value", "style", "strict", "written"),
    [
        ("${NAME}/x", "", False, '"${NAME}/x"'),
        ("it's", "'", False, "'it''s'"),
        ("a\nb", "'", False, '"a\\nb"'),
        ("x", '"', False, '"x"'),
        (3, '"', False, "3"),
        ({"a": [1, None, True]}, "", False, "{a: [1, null, true]}"),
        ({"a": [1, None, True]}, "", True, '{"a": [1, null, true]}'),
    ],
)
def test_values_on_one_line(value, style, strict, written):
    assert splice.flow(value, strict=strict, style=style) == written


def test_a_comment_belongs_to_the_entry_below_it_or_if_it_is_deeper_to_the_one_above():
    text = "m:\n  # apart\n\n  # of a\n  a:\n    x: 1\n\n    # of a too\n  # of b\n  b:\n    y: 2\n# at the left\n"
    a, b = tree.read(text).own("m")[1].pairs
    cut = [text[slice(*splice.span(text, pair))] for pair in (a, b)]
    assert cut == ["  # of a\n  a:\n    x: 1\n\n    # of a too\n", "  # of b\n  b:\n    y: 2\n"]


def test_a_comment_between_pairs_in_braces_stays():
    text = "m: {a: 1, # one\n    b: 2, # two\n    c: 3}\n"
    m = tree.read(text).own("m")[1]
    assert splice.take_out(text, m, m.pairs[1]) == "m: {a: 1, # one\n     # two\n    c: 3}\n"
    assert splice.take_out(text, m, m.pairs[0]) == "m: { # one\n    b: 2, # two\n    c: 3}\n"
