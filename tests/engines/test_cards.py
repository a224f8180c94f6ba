from __future__ import annotations

from pathlib import Path

import pytest

from roundhouse.engines.cards import Card, agrees, card
from tests.engines.models import CAPTURES, model

AT = Path("/models/tiny")


@pytest.mark.parametrize(
    ("engine", "told"), [("sglang", Card("tiny", "tiny", 1024)), ("vllm", Card("tiny", "models/tiny-sharded", 1024))]
)
def test_the_first_of_the_list_is_the_model(engine, told):
    assert card((CAPTURES.parent / engine / "models.json").read_bytes()) == told


@pytest.mark.parametrize(
    "body",
    [None, b"", b"nonsense", b"[]", b'{"data":[]}', b'{"data":[{"id":5}]}', b'{"data":{}}', b"[" * 100_000],
)
def test_anything_else_is_an_empty_card(body):
    assert card(body) == Card()


def test_fields_that_are_missing_or_odd_are_left_out():
    assert card(b'{"data":[{"id":"a","root":null,"max_model_len":true}]}') == Card("a")


@pytest.mark.parametrize(
    ("settings", "name", "folder", "is_it"),
    [
        ({"path": AT}, "m", "/models/tiny", True),
        ({"path": AT}, "other", "/models/tiny/", True),
        ({"path": AT}, "m", "/models/huge", False),
        ({"path": AT}, "m", "models/tiny", True),  # relative: to what, nobody knows
        ({"path": AT}, "m", None, True),
        ({"path": AT}, "other", None, False),
        ({"path": AT, "served_name": "s"}, "s", None, True),
        ({"path": AT, "served_name": "s"}, "m", None, False),
        ({"path": AT}, None, None, True),
        ({"path": None, "script": Path("/s.sh")}, "whatever", "/anywhere", True),
        ({"path": None, "script": Path("/s.sh"), "served_name": "s"}, "other", "/anywhere", False),
    ],
)
def test_e1_a_running_engine_is_this_models_by_its_folder_then_by_its_name(settings, name, folder, is_it):
    assert agrees(model(**settings), name, folder) is is_it
