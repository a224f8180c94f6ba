from pathlib import Path

import pytest

from roundhouse.config.load import parse
from roundhouse.config.mentions import mentions, without
from roundhouse.config.problems import EditError

TEXT = """\
scheduling: {task_model: tiny, linger: off}
models:
  a: {url: "http://h/v1", aliases: [tiny]}
  b: {url: "http://h/v1"}
  both: {any_of: [a, b]}  # either
keys:
  - {name: k, hash: "sha256:0", models: [a]}
"""


def test_who_names_a_model_by_id_or_alias_but_keys_are_left_alone():
    config = parse(TEXT, Path("c.yaml"), {})
    assert mentions(config, "a") == ("models.both.any_of", "scheduling.task_model")
    assert mentions(config, "b") == ("models.both.any_of",)
    changed = without(TEXT, config, "a")
    assert changed == TEXT.replace("[a, b]", "[b]").replace("task_model: tiny, ", "")


def test_a_group_of_one_is_not_emptied():
    text = TEXT.replace("[a, b]", "[b]")
    with pytest.raises(EditError, match="both stands for b alone"):
        without(text, parse(text, Path("c.yaml"), {}), "b")
