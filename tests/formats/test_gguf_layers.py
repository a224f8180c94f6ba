"""Which layers keep what, where no server's log is recorded for it (those are in tests/engines/llamacpp/test_shapes)."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse.formats.gguf_keys import Keys
from roundhouse.formats.gguf_layers import Layers, layers


def read(architecture: str, count: int, **keys: Any) -> Layers:
    """`__` in a key stands for a dot."""
    named = {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    return layers(
        Keys({f"{architecture}.attention.head_count_kv": 2, **named}, f"{architecture}."), architecture, count
    )


def test_the_first_layer_of_a_period_has_full_attention_in_some():
    found = read("smallthinker", 5, attention__sliding_window=100)
    assert (found.window, found.sliding) == (4096, (False, True, True, True, False))


def test_exaone_4_slides_in_its_large_model_only():
    assert read("exaone4", 64).window == 4096
    assert read("exaone4", 30, attention__sliding_window=4096).window == 0


def test_llama_4_without_chunks():
    assert read("llama4", 8, attention__sliding_window=0) == Layers((2,) * 8)


def test_a_list_is_looked_at_where_no_period_is_built_in():
    pattern = [True, False, True]
    assert read("step35", 3, attention__sliding_window=64, attention__sliding_window_pattern=pattern) == Layers(
        (2, 2, 2), 64, (True, False, True)
    )


def test_layers_that_only_draft_have_a_cache_in_some_architectures():
    assert read("glm4moe", 4, nextn_predict_layers=1).heads_kv == (2, 2, 2, 2)
    assert read("mimo2", 4, nextn_predict_layers=1).heads_kv == (2, 2, 2, 0)
    found = read("qwen35", 5, nextn_predict_layers=1, ssm__inner_size=8, ssm__state_size=4, ssm__conv_kernel=1)
    assert found == Layers((0, 0, 0, 2, 0), state=3 * 32 * 4)


def test_a_file_may_list_its_recurrent_layers():
    assert read("qwen3next", 4, attention__recurrent_layers=[True, False, True, False]).heads_kv == (0, 2, 0, 2)


def test_nemotron_h_has_layers_without_attention_that_keep_nothing():
    found = read(
        "nemotron_h", 3, attention__head_count_kv=[0, 0, 2], feed_forward_length=[0, 64, 0],
        ssm__inner_size=8, ssm__state_size=4,
    )  # fmt: skip
    assert found == Layers((0, 0, 2), state=32 * 4)


@pytest.mark.parametrize(
    ("architecture", "keys", "numbers"),
    [
        ("rwkv7", {"wkv__head_size": 64, "embedding_length": 128}, 2 * 128 + 128 * 64),
        ("kimi-linear", {"kda__head_dim": 8, "attention__head_count": 3, "ssm__conv_kernel": 4}, 3 * 3 * 24 + 8 * 24),
    ],
)
def test_states_of_other_kinds(architecture, keys, numbers):
    assert read(architecture, 1, attention__head_count_kv=[0], **keys).state == numbers * 4


def test_embedders_keep_nothing():
    assert read("bert", 2) == Layers((0, 0))
    assert read("t5encoder", 2).heads_kv == (2, 2)
