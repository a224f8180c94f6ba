import json
from difflib import ndiff

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from roundhouse.engines.tabbyapi import configfile
from roundhouse.errors import LoadFailed
from tests.support.tabby_checkout import CONFIG

SAMPLE = CONFIG.format(port=5000)
VALUES = {"model_dir": "/srv/models", "model_name": "A-exl3", "max_seq_len": 8192, "cache_mode": "Q8"}

KEYS = st.sampled_from(["model_dir", "model_name", "max_seq_len", "cache_size", "cache_mode", "gpu_split", "vision"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)
    | st.sampled_from(["8,6", "a b", "1e3", "yes", "null", "~", "'", '"', "# x", "a: b", "4.0bpw", "-", "*x"])
)
NEW = st.dictionaries(KEYS, SCALARS | st.lists(st.integers(0, 99), max_size=3), min_size=1)


def loaded(text: str):
    return YAML(typ="safe", pure=True).load(text)


def lines_changed(old: str, new: str) -> tuple[list[str], list[str]]:
    found = list(ndiff(old.splitlines(), new.splitlines()))
    return [line[2:] for line in found if line.startswith("- ")], [line[2:] for line in found if line.startswith("+ ")]


def test_b5_only_the_lines_that_have_to_change_do():
    gone, come = lines_changed(SAMPLE, configfile.edited(SAMPLE, {"model": VALUES}))
    assert gone == ["  model_dir: models", "  model_name:", "  max_seq_len:", "  cache_mode: 'Q6'   # mine"]
    assert come == [
        "  model_dir: /srv/models",
        "  model_name: A-exl3",
        "  max_seq_len: 8192",
        "  cache_mode: Q8   # mine",
    ]


def test_b5_network_and_keys_are_never_touched():
    new = configfile.edited(SAMPLE, {"model": VALUES})
    before = SAMPLE.index("model:\n")
    assert new[:before] == SAMPLE[:before]
    assert loaded(new)["network"] == loaded(SAMPLE)["network"]


def test_new_keys_stand_first_in_their_section_and_comments_keep_their_keys():
    new = configfile.edited(SAMPLE, {"model": {"cache_size": 8192}, "draft_model": {"draft_model_name": "d"}})
    assert (
        "model:\n  cache_size: 8192\n  # Directory to look for models (default: models).\n  model_dir: models\n" in new
    )
    assert new.endswith("draft_model:\n  draft_model_name: d\n")


def test_a_block_of_lines_gives_way_to_one_value_and_its_comments_stay():
    new = configfile.edited(SAMPLE, {"model": {"gpu_split": [10, 12]}})
    assert "  gpu_split: [10, 12]\n    # GB\n  # the end of the model\n" in new


def test_what_is_right_already_stays_as_it_is_written():
    assert (
        configfile.edited(SAMPLE, {"model": {"cache_mode": "Q6", "model_dir": "models", "gpu_split": [20, 22.5]}})
        == SAMPLE
    )


def test_a_number_and_its_text_are_not_the_same():
    assert "cache_mode: '8'" not in configfile.edited("model:\n  cache_mode: 8\n", {"model": {"cache_mode": "8"}})
    assert loaded(configfile.edited("model:\n  cache_mode: 8\n", {"model": {"cache_mode": "8"}}))["model"] == {
        "cache_mode": "8"
    }
    assert loaded(configfile.edited("model:\n  vision: 1\n", {"model": {"vision": True}}))["model"]["vision"] is True


@pytest.mark.parametrize(
    "text",
    [
        "", "# only a comment\n", "network:\n  port: 1", "model:\n", "model:", "model: # none\n# more\nother: 1\n", "model: {}\n",
        "model: {model_name: x, cache_mode: 'Q4'}\n", "model:\r\n  model_name: x # c\r\n\r\nother:\r\n- 1\r\n", "\ufeffmodel:\n  model_name:\n",
        "a: &x Q4\nmodel:\n  cache_mode: *x # alias\n", "model:\n      model_name: |\n        x\n      # c\n", "model:\n  'model_name' : \"x\"\n",
        "base: &b {max_seq_len: 4}\nmodel:\n  <<: *b\n  model_name: y\n", "model:\n  model_name: !!str 4\n", "---\nmodel:\n  model_name: x\n",
        "model:\n  nested:\n    model_name: deep\n  model_name: x\nother:\n  model_name: far\n",
    ],
)  # fmt: skip
def test_files_of_all_kinds(text):
    new = configfile.edited(text, {"model": VALUES})
    before = loaded(text) or {}
    assert loaded(new) == {**before, "model": {**(before.get("model") or {}), **VALUES}}
    assert new.count("\r\n") == new.count("\n") or "\r\n" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in new.splitlines() if line.startswith("#")
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model:\n  a: [\n", "not YAML"),
        ("model:\n\ta: 1\n", "line 2"),
        ("model:\n  a: 1\n  a: 2\n", "not YAML"),
        ("- 1\n", "not a mapping of sections"),
        ("model: 7\n", "`model` in TabbyAPI's config.yml is not a mapping"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("{a: 1}\n", "can't be changed safely: set model.model_dir"),
        ("model:\n  model_name: &n x\nother: *n\n", "can't be changed safely"),
    ],
)
def test_trap_a_file_that_can_not_be_changed_safely_is_refused_in_words(text, said):
    """TabbyAPI would start with its defaults: other port, other keys."""
    with pytest.raises(LoadFailed) as failed:
        configfile.edited(text, {"model": VALUES})
    assert said in failed.value.message


@settings(deadline=None)  # a slow machine is no fault of the file's
@given(NEW)
def test_b5_any_values_come_back_and_all_else_stays(values):
    new = configfile.edited(SAMPLE, {"model": values})
    before = loaded(SAMPLE)
    assert loaded(new) == {**before, "model": {**before["model"], **values}}
    comments = [line for line in SAMPLE.splitlines() if line.lstrip().startswith("#")]
    assert [line for line in new.splitlines() if line.lstrip().startswith("#")] == comments
    assert "  # mine" in new
    assert configfile.edited(new, {"model": values}) == new


@settings(deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1), SCALARS, max_size=4),
    st.dictionaries(KEYS, SCALARS, max_size=4),
    NEW,
    st.sampled_from(["\n", "\r\n"]),
)
def test_b5_any_file_written_in_blocks(around, old, values, eol):
    assume("model" not in around)
    lines = [
        f"{key}: {json.dumps(value, ensure_ascii=False)} # {number}"
        for number, (key, value) in enumerate(around.items())
    ]
    lines += [
        "model:",
        *(f"   {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in old.items()),
        "# end",
        "",
    ]
    text = eol.join(lines)
    new = configfile.edited(text, {"model": values})
    assert loaded(new) == {**around, "model": {**old, **values}}
    for line in lines[: len(around)]:
        assert line in new.split(eol)


@settings(deadline=None)
@given(SCALARS | st.lists(SCALARS, max_size=3))
def test_a_value_is_rendered_on_one_line_and_read_again(value):
    text = configfile.rendered(value)
    assert "\n" not in text
    assert loaded(f"a: {text}\n") == {"a": value}
