from __future__ import annotations

import pytest

from roundhouse.engines.options import Option
from roundhouse.engines.parallel import Cut, cut
from tests.engines.models import llama_8b

TENSOR, PIPELINE = Option(("--tensor", "-tp")), Option(("--pipeline", "-pp"))


@pytest.mark.parametrize(
    ("heads", "gpus", "found"),
    [
        (8, 1, Cut(1, 1)),
        (8, 2, Cut(2, 1)),
        (8, 8, Cut(8, 1)),
        (8, 3, Cut(1, 3)),
        (6, 3, Cut(3, 1)),
        (1, 2, Cut(1, 2)),
        (0, 2, Cut(2, 1)),
    ],
)
def test_d2_layers_are_cut_where_heads_can_be_divided(heads, gpus, found):
    assert cut((), TENSOR, PIPELINE, llama_8b(heads_kv=(heads,) * 32), gpus) == found
    assert found.gpus == gpus


def test_with_nothing_known_powers_of_two_are_taken_to_go():
    assert cut((), TENSOR, PIPELINE, None, 4) == Cut(4, 1)
    assert cut((), TENSOR, PIPELINE, None, 3) == Cut(1, 3)


def test_the_users_words_win():
    assert cut(("-tp", "2"), TENSOR, PIPELINE, llama_8b(), 8) == Cut(2, 1)
    assert cut(("-tp=2", "-pp", "3"), TENSOR, PIPELINE, None, 8).gpus == 6
