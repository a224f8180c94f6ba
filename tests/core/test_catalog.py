"""Names: ids, aliases, any-of models, paths."""

from __future__ import annotations

import pytest

from roundhouse.config.models import ModelConfig
from roundhouse.core.catalog import Catalog
from roundhouse.errors import BadRequest, UnknownModel


def model(name: str, **fields: object) -> ModelConfig:
    source = (
        {} if "any_of" in fields else {"command": "serve --port ${PORT}", "engine": "openai", "launcher": "process"}
    )
    return ModelConfig.model_validate({"id": name, **source, **fields})


@pytest.fixture
def catalog() -> Catalog:
    models = [
        model("qwen3-32b", aliases={"gpt-4o": {}, "thinker": {"temperature": 0.6}}),
        model("org/model"),
        model("org/model/long"),
        model("org"),
        model("hidden", unlisted=True),
        model("best", any_of=("qwen3-32b", "org/model"), aliases={"top": {"top_p": 0.9}}),
    ]
    return Catalog({m.id: m for m in models})


def nobody(_: str) -> bool:
    return False


def test_a6_ids_and_aliases_with_their_defaults(catalog):
    assert catalog.find("qwen3-32b", nobody).model.id == "qwen3-32b"
    match = catalog.find("thinker", nobody)
    assert (match.asked, match.model.id, match.defaults, match.virtual) == (
        "thinker",
        "qwen3-32b",
        {"temperature": 0.6},
        None,
    )
    assert catalog.find("gpt-4o", nobody).defaults == {}


def test_a6_an_id_wins_over_an_alias():
    catalog = Catalog({m.id: m for m in [model("b"), model("a", aliases={"b": {}})]})
    assert catalog.find("b", nobody).model.id == "b"


def test_a6_any_of_takes_the_first_loaded_else_the_first(catalog):
    assert catalog.find("best", nobody).model.id == "qwen3-32b"
    match = catalog.find("top", lambda name: name == "org/model")
    assert (match.asked, match.model.id, match.virtual.id, match.defaults) == (
        "top",
        "org/model",
        "best",
        {"top_p": 0.9},
    )
    assert catalog.find("best", lambda name: True).model.id == "qwen3-32b"


def test_a4_no_name_or_no_text_is_a_bad_request_that_names_some(catalog):
    for name in (None, ""):
        with pytest.raises(BadRequest, match="qwen3-32b") as caught:
            catalog.find(name, nobody)
        assert caught.value.param == "model"
        assert "hidden" not in caught.value.message
    with pytest.raises(BadRequest, match="must be a text"):
        catalog.find(7, nobody)


def test_a4_unknown_models_name_the_closest(catalog):
    with pytest.raises(UnknownModel, match=r"'qwen3-32' does not exist; did you mean 'qwen3-32b'\?") as caught:
        catalog.find("qwen3-32", nobody)
    assert caught.value.param == "model"
    with pytest.raises(UnknownModel, match="there are: qwen3-32b, org/model"):
        catalog.find("zzzzzzzz", nobody)


def test_a4_nobody_is_told_of_unlisted_models(catalog):
    with pytest.raises(UnknownModel) as caught:
        catalog.find("hiddenn", nobody)
    assert "'hidden'" not in caught.value.message
    assert catalog.find("hidden", nobody).model.id == "hidden"


def test_a6_all_names_on_the_way(catalog):
    assert catalog.find("top", nobody).names == ("top", "best", "qwen3-32b")
    assert catalog.find("gpt-4o", nobody).names == ("gpt-4o", "qwen3-32b")


def test_a4_a_long_wrong_name_is_not_echoed_whole(catalog):
    with pytest.raises(UnknownModel) as caught:
        catalog.find("z" * 5000, nobody)
    assert len(caught.value.message) < 400


def test_a4_many_models_are_not_all_named():
    names = [f"model-{n}" for n in range(9)]
    with pytest.raises(BadRequest, match="model-7, …"):
        Catalog({n: model(n) for n in names}).find(None, nobody)
    with pytest.raises(BadRequest, match=r"model-7\."):
        Catalog({n: model(n) for n in names[:8]}).find(None, nobody)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("org/model/long/v1/chat", ("org/model/long", "/v1/chat")),
        ("org/model/longer/v1", ("org/model", "/longer/v1")),
        ("org/other", ("org", "/other")),
        ("org/model", ("org/model", "")),
        ("org/model/", ("org/model", "/")),
        ("gpt-4o/props", ("gpt-4o", "/props")),
        ("nobody/props", None),
        ("", None),
    ],
)
def test_a5_paths_match_the_longest_known_name(catalog, path, expected):
    assert catalog.split_path(path) == expected
