import pytest

from roundhouse.engines.tabbyapi import replies
from tests.engines.tabbyapi.samples import capture


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail":"Invalid admin key"}', "Invalid admin key"),
        (b'{"error":{"message":"out","trace":null}}', "out"),
        (b'{"error":"out"}', "out"),
        (b"Internal  Server\nError", "Internal Server Error"),
        (b'"x"', ""),
        (b"\xff", "\ufffd"),
        (b'{"detail":[7]}', "7"),
    ],
)
def test_the_words_of_an_error_whatever_its_shape(body, words):
    assert replies.text_of(body) == words


def test_what_pydantic_complains_of_names_the_field():
    _, body = capture("22-load-missing-body-type.txt")
    words = replies.text_of(body)
    assert words == "max_seq_len: Input should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"software": 1}', b'{"software": {}}', b"nonsense"])
def test_a_value_that_is_not_there_is_none(body):
    assert replies.answer(body, "software", "name") is None


def test_a_value_inside_an_answer():
    assert replies.answer(capture("02-serviceinfo.txt")[1], "software", "name") == "TabbyAPI"
