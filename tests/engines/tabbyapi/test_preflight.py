from pathlib import Path

import pytest

from roundhouse.engines.tabbyapi import preflight
from tests.engines.tabbyapi.samples import DIR, MODELS, facts, tabby_model

EXL2 = DIR / "backends/exllamav2/model.py"


def objection(read=None, *, without=(), service=None, **said):
    model = tabby_model(model={"service": service} if service else {}, **said)
    present = frozenset(preflight.witnesses(model)) - {Path(path) for path in without}
    return preflight.objection(model, read, present)


def test_nothing_speaks_against_a_model_where_all_is_there():
    assert objection(facts()) is None
    assert objection(None) is None
    assert objection(facts(format="exl2")) is None
    assert objection(facts(format="safetensors", quantisation="bfloat16"), without=[EXL2]) is None


@pytest.mark.parametrize("read", [facts(format="exl2"), facts(format="safetensors", quantisation="gptq 4 bit")])
def test_trap_exl2_is_refused_in_words_before_anything_is_unloaded(read):
    told = objection(read, without=[EXL2])
    assert "can't load" in told
    assert "79126f9" in told


def test_an_exl2_checkout_that_we_cannot_see_is_left_to_its_unit():
    assert objection(facts(format="exl2"), without=[EXL2, DIR / "main.py"], service="tabby.service") is None


@pytest.mark.parametrize(
    ("read", "without", "said"),
    [
        (facts(), [DIR / "main.py"], "is no TabbyAPI checkout"),
        (facts(), [MODELS / "A-exl3"], "the folder /srv/models/A-exl3 does not exist"),
        (None, [MODELS / "A-exl3/config.json"], "no config.json"),
        (facts(), [DIR / "backends/exllamav3/model.py"], "too old for EXL3"),
        (facts(format="safetensors", quantisation="awq 4 bit"), [], "can't load AWQ"),
        (facts(format="safetensors", quantisation="fp8"), [], "can't load FP8"),
        (facts(format="gguf"), [], "can't load GGUF"),
    ],
)
def test_what_is_missing_or_foreign(read, without, said):
    assert said in objection(read, without=without)


@pytest.mark.parametrize("mode", ["Q5", "FP8", "9,9", "q4", "8"])
def test_trap_a_cache_mode_that_would_silently_be_fp16(mode):
    assert f"cache_mode {mode} is not known" in objection(facts(), cache_mode=mode)
    assert f"cache_mode {mode} is not known" in objection(facts(), options={"cache_mode": mode})


def test_pairs_of_bits_are_for_exl3():
    assert objection(facts(), cache_mode="8,6") is None
    assert "not known for EXL2" in objection(facts(format="exl2"), cache_mode="8,6")


@pytest.mark.parametrize("size", [1000, 0, -256, "256", 256.0])
def test_a_cache_size_that_is_no_multiple_of_256(size):
    assert "not a multiple of 256" in objection(facts(), options={"cache_size": size})


def test_a_draft_model_has_to_be_there():
    options = {"draft_model": {"draft_model_name": "D"}}
    assert objection(facts(), options=options) is None
    assert "draft model does not exist" in objection(facts(), options=options, without=[MODELS / "D"])
    elsewhere = {"draft_model": {"draft_model_name": "D", "draft_model_dir": "drafts"}}
    assert "drafts/D of its draft model" in objection(
        facts(), options=elsewhere, mode="config", without=[DIR / "drafts/D"]
    )
    assert preflight.draft_folder(tabby_model(options=options, model={"service": "t.service"})) is None


def test_a_unit_may_see_more_of_the_disk_than_we_do():
    assert (
        objection(None, without=[MODELS, MODELS / "A-exl3", MODELS / "A-exl3/config.json"], service="t.service") is None
    )
