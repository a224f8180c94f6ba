import pytest
from ruamel.yaml.error import YAMLError

from roundhouse.config import tree

TEXT = "a: &x\r\n  p: 'q' # z\r\nb: *x\r\nc:\r\n\r\nd: {e: 1, f: [2,]}\r\ng:\r\n- h\r\n- i: |\r\n    ö\r\n\r\n# end\r\n"


def test_everything_has_its_place_without_what_follows_it():
    told = [TEXT[node.start : node.end] for node in tree.read(TEXT).inner()]
    assert told[1:8] == ["a", "&x\r\n  p: 'q'", "p", "'q'", "b", "*x", "c"]
    assert told[8:] == [
        "",
        "d",
        "{e: 1, f: [2,]}",
        "e",
        "1",
        "f",
        "[2,]",
        "2",
        "g",
        "- h\r\n- i: |\r\n    ö",
        "h",
        "i: |\r\n    ö",
        "i",
        "|\r\n    ö",
    ]


def test_a_value_that_is_not_there_is_behind_its_colon():
    empty = tree.read(TEXT).own("c")[1]
    assert TEXT[: empty.start].endswith("c:")


def test_what_they_are():
    root = tree.read(TEXT)
    assert root.own("a")[1].anchor == "x"
    assert (root.own("b")[1].alias, root.own("b")[1].text) == (True, "x")
    assert (root.own("d")[1].flow, root.own("g")[1].flow) == (True, False)
    assert root.own("p") is None
    assert tree.read("# nothing\n") is None
    with pytest.raises(YAMLError):
        tree.read("a: [")
