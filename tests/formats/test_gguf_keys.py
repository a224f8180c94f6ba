from __future__ import annotations

from roundhouse.formats.gguf_header import Skipped
from roundhouse.formats.gguf_keys import Keys

KEYS = Keys({"a.text": "x", "a.yes": True, "a.many": [3, -1, 2**41, 5], "a.skipped": Skipped(9), "a.one": 7}, "a.")


def test_a_key_of_another_type_counts_as_absent():
    assert (KEYS.text("text"), KEYS.text("one"), KEYS.text("none")) == ("x", "", "")
    assert KEYS.truth("yes", default=False)
    assert not KEYS.truth("one", default=False)
    assert (KEYS.number("one"), KEYS.number("text"), KEYS.number("text", 4)) == (7, 0, 4)


def test_figures_are_those_that_can_be_meant():
    assert KEYS.numbers("many") == [3, 5]
    assert KEYS.number("many") == 3


def test_arrays_are_told_from_single_figures_kept_or_not():
    assert [KEYS.is_array(key) for key in ("many", "skipped", "one", "none")] == [True, True, False, False]
    assert [KEYS.length(key) for key in ("many", "skipped", "one", "none")] == [4, 9, 0, 0]
    assert KEYS.has("one")
    assert not KEYS.has("none")


def test_the_same_keys_below_another_prefix():
    assert KEYS.below("").number("a.one") == 7
