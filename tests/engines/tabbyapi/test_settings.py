import json

import pytest

from roundhouse.engines.tabbyapi import settings
from roundhouse.engines.tabbyapi.settings import Card, Wanted
from roundhouse.errors import ConfigError
from tests.engines.models import model
from tests.engines.tabbyapi.samples import capture, facts, tabby_model

LOADED = settings.card_of(capture("31-model-loaded.txt")[1])


def test_the_card_of_the_real_server():
    assert Card("Fake-8B-exl3-4.0bpw", 16384, 16384, "Q8", 128) == LOADED


@pytest.mark.parametrize(
    "body", [b"", b"null", b'{"detail":"No models are currently loaded."}', b'{"id":7,"object":"model"}', b'{"id":"x"}']
)
def test_what_is_no_card(body):
    assert settings.card_of(body) is None


def test_an_old_card_without_figures():
    assert settings.card_of(b'{"id":"x","object":"model","parameters":null}') == Card("x")


@pytest.mark.parametrize(
    ("said", "around", "read", "want"),
    [
        ({}, {}, facts(), Wanted(16384, 16384, "FP16")),
        ({}, {}, None, Wanted(16384, 16384, "FP16")),
        ({}, {}, facts(context=4096), Wanted(4096, 4096, "FP16")),
        ({}, {"context": 9000}, facts(), Wanted(9000, 9216, "FP16")),
        ({"max_seq_len": 32768, "cache_mode": "Q8"}, {"context": 9000}, facts(), Wanted(32768, 32768, "Q8")),
        (
            {"options": {"max_seq_len": 512, "cache_size": 1024, "cache_mode": "8,6"}},
            {},
            facts(),
            Wanted(512, 1024, "8,6"),
        ),
        ({"options": {"max_seq_len": -1}}, {}, facts(context=4096), Wanted(4096, 4096, "FP16")),
        ({"options": {"max_seq_len": -1}}, {}, facts(context=131072), Wanted(131072, 131072, "FP16")),
    ],
)
def test_what_is_asked_for(said, around, read, want):
    assert settings.wanted(tabby_model(model=around, **said), read) == want


def test_context_and_cache_are_always_sent_and_the_figures_win_over_options():
    options = {"gpu_split": [20, 22], "model_name": "other", "cache_mode": "Q4"}
    asked = json.loads(settings.load_request(tabby_model(max_seq_len=8192, cache_mode="Q8", options=options), facts()))
    assert asked == {
        "gpu_split": [20, 22], "model_name": "A-exl3", "max_seq_len": 8192, "cache_size": 8192, "cache_mode": "Q8",
    }  # fmt: skip


def test_a_draft_model_is_a_section_of_its_own_in_the_file():
    found = settings.sections(tabby_model(options={"draft_model": {"draft_model_name": "d"}, "vision": True}), facts())
    assert found["draft_model"] == {"draft_model_dir": "/srv/models", "draft_model_name": "d"}
    assert found["model"]["vision"] is True
    assert "draft_model" not in found["model"]


def test_differences_in_words():
    assert settings.differences(LOADED, Wanted(16384, 16384, "q8")) == []
    assert settings.differences(Card("x"), Wanted(1, 256, "Q4")) == []  # old cards tell nothing
    assert settings.differences(LOADED, Wanted(8192, 16384, "Q4")) == [
        "max_seq_len 16384 instead of 8192", "cache_mode Q8 instead of Q4",
    ]  # fmt: skip


def test_a_card_proves_only_what_it_tells():
    name = "Fake-8B-exl3-4.0bpw"
    same = tabby_model(name=name, max_seq_len=16384, cache_mode="Q8")
    assert settings.proven(LOADED, same, settings.wanted(same, None))
    for other in (
        tabby_model(name=name, max_seq_len=4096, cache_mode="Q8"),
        tabby_model(name=name, max_seq_len=16384, cache_mode="Q8", options={"draft_model": {"draft_model_name": "d"}}),
        tabby_model(name=f"exl3/{name}", max_seq_len=16384, cache_mode="Q8"),  # another folder may have this last name
    ):
        assert not settings.proven(LOADED, other, settings.wanted(other, None))


@pytest.mark.parametrize(
    ("said", "yes"),
    [
        ({"cache_mode": "Q8"}, True),
        ({"cache_mode": "Q8", "max_seq_len": 16384}, True),
        ({"cache_mode": "Q8", "max_seq_len": 8192}, False),
        ({"cache_mode": "Q4"}, False),
        ({}, False),  # FP16, as nothing else was said
        ({"cache_mode": "Q8", "options": {"cache_size": 32768}}, False),
        ({"cache_mode": "Q8", "name": "Other"}, False),
        ({"cache_mode": "Q8", "name": "sub/Fake-8B-exl3-4.0bpw"}, True),
    ],
)
def test_e1_a_card_fits_a_model_where_every_figure_said_agrees(said, yes):
    assert settings.fits(LOADED, tabby_model(**{"name": "Fake-8B-exl3-4.0bpw", **said})) is yes


@pytest.mark.parametrize(
    ("mode", "bits"),
    [
        ("FP16", (16, 16)),
        ("Q8", (8.5, 8.5)),
        ("Q4", (4.5, 4.5)),
        ("8,6", (8.5, 6.5)),
        ("2 , 8", (2.5, 8.5)),
        ("Q5", None),
        ("9,8", None),
        ("FP8", None),
        ("q4", None),
        ("", None),
    ],
)
def test_bits_of_a_cache_mode(mode, bits):
    assert settings.mode_bits(mode) == bits


def test_a_model_without_tabby_is_told():
    with pytest.raises(ConfigError, match="no `tabby:`"):
        settings.tabby_of(model(engine="tabbyapi"))
