from pathlib import Path

from roundhouse.config.importers.result import PORT, Entry, Imported, Template, template


def test_templates_are_put_together_of_text_and_variables():
    made = template("$1 for ", PORT, Template("${KEY}"))
    assert isinstance(made, Template)
    assert made == "$$1 for ${PORT}${KEY}"


def test_all_that_is_lost_and_advised_names_its_model():
    found = Imported(
        Path("x"),
        "folder",
        {"m": Entry({}, "here", ("a",), ("b",)), "n": Entry({}, "there")},
        lost=("c",),
        advice=("d",),
    )
    assert found.all_lost() == ("c", "m: a")
    assert found.all_advice() == ("d", "m: b")
