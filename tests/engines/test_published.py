"""Caches of published models in vLLM, SGLang and TabbyAPI, against figures worked out by hand from their config.json."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from roundhouse.engines.paged import Said, cell_size
from roundhouse.engines.tabbyapi import memory
from roundhouse.formats import safetensors
from roundhouse.ports import ModelFacts
from tests.engines.tabbyapi.samples import tabby_model
from tests.formats.published import CONFIGS


def facts(name: str) -> ModelFacts:
    return safetensors.facts(json.dumps(CONFIGS[name]).encode(), [])


# Layers x key heads x (key length + value length) x 2 bytes.
@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("Llama-3.1-8B", 32 * 8 * (128 + 128) * 2),
        ("Qwen2.5-7B", 28 * 4 * (128 + 128) * 2),
        ("Gemma-3-27B", 62 * 16 * (128 + 128) * 2),
        ("Gemma-3-4B", 34 * 4 * (256 + 256) * 2),
        ("DeepSeek-V2-Lite", 27 * (512 + 64) * 2),
        ("Mistral-Small-24B", 40 * 8 * (128 + 128) * 2),
        ("Qwen3-30B-A3B", 48 * 4 * (128 + 128) * 2),
        ("Qwen3-Next-80B-A3B", 12 * 2 * (256 + 256) * 2),
        ("gpt-oss-20b", 24 * 8 * (64 + 64) * 2),
    ],
)
def test_d1_a_token_in_a_paged_cache(name: str, cell: int):
    assert cell_size(facts(name), Said()) == cell
    assert cell_size(facts(name), Said(wide=1)) == cell // 2


def test_d1_heads_are_divided_among_gpus_and_latent_ones_copied():
    assert cell_size(facts("Llama-3.1-8B"), Said(tensor=2)) == 65536
    assert cell_size(facts("Qwen3-30B-A3B"), Said(tensor=8)) == 48 * 256 * 2  # 4 heads: two GPUs each hold one
    assert cell_size(facts("DeepSeek-V2-Lite"), Said(tensor=8)) == 31104


def test_d1_layers_that_slide_or_are_linear():
    gemma, small, gpt = facts("Gemma-3-27B"), facts("Gemma-3-4B"), facts("gpt-oss-20b")
    assert (gemma.window, sum(gemma.sliding), gemma.sliding[:6]) == (1024, 52, (True,) * 5 + (False,))
    assert (small.window, sum(small.sliding)) == (1024, 29)
    assert (gpt.window, sum(gpt.sliding)) == (128, 12)
    assert (facts("Qwen2.5-7B").window, facts("Mistral-Small-24B").sliding) == (0, ())
    # 36 layers: 3 of 4 places of the convolution over queries, keys and values, and a square per value head; in f32.
    # llama-server logs 75.38 MiB for a request.
    assert facts("Qwen3-Next-80B-A3B").state == 36 * 4 * (3 * (2 * 16 * 128 + 32 * 128) + 32 * 128 * 128)


# With a cache of 32768 tokens.
@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [
        ("Llama-3.1-8B", "FP16", 32768 * 131072),
        ("Llama-3.1-8B", "Q8", 32768 * 32 * 8 * 256 * 8.5 / 8),
        ("Llama-3.1-8B", "Q6", 32768 * 32 * 8 * 256 * 6.5 / 8),
        ("Llama-3.1-8B", "Q4", 32768 * 32 * 8 * 256 * 4.5 / 8),
        ("Llama-3.1-8B", "8,4", 32768 * 32 * 8 * 128 * (8.5 + 4.5) / 8),
        ("Qwen2.5-7B", "Q6", 32768 * 28 * 4 * 256 * 6.5 / 8),
        ("Gemma-3-27B", "Q6", 32768 * 10 * 16 * 256 * 6.5 / 8 + 4 * 52 * (1024 + 512) * 16 * 256 * 2),
        ("DeepSeek-V2-Lite", "FP16", 32768 * 27 * 1152),
        ("DeepSeek-V2-Lite", "Q8", 32768 * 27 * 672),
        ("Mistral-Small-24B", "Q8", 32768 * 40 * 8 * 256 * 8.5 / 8),
        ("Qwen3-30B-A3B", "Q4", 32768 * 48 * 4 * 256 * 4.5 / 8),
        ("Qwen3-Next-80B-A3B", "FP16", 32768 * 24576 + 4 * 79036416),
    ],
)
def test_d1_a_cache_in_tabbyapi(name: str, mode: str, size: float):
    read = replace(facts(name), format="exl3")
    assert memory.cache(tabby_model(max_seq_len=32768, cache_mode=mode), read) == size
