"""What a model takes of memory in TabbyAPI: weights, cache, and what the program adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from roundhouse.engines.tabbyapi import settings

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import ModelFacts

PROGRAM: Final = 10**9
"""Bytes: a CUDA context (0.4 to 0.6 GB), activations, and exllamav3's margin of 256 + 96 MiB for its split."""


def footprint(model: ModelConfig, facts: ModelFacts) -> int:
    """Bytes when loaded, 5 % above the sum. Not counted: a draft model; weights that stay on the CPU count too.

    The cache, per token and attention layer: numbers of keys and values times their bits. Against users' measurements
    (exllamav3 issue 50): Gemma 3 27B with Q6 within 1 %, a 49B at FP16 10 % too little.
    """
    want = settings.wanted(model, facts)
    keys, values = settings.mode_bits(want.mode) or (16.0, 16.0)
    bits = facts.key_length * keys + facts.value_length * values
    return int((facts.weights + want.cache * _heads(facts) * bits / 8) * 1.05) + PROGRAM


def _heads(facts: ModelFacts) -> int:
    """Key and value heads of all layers that keep the whole context; sliding ones keep a window that doesn't count."""
    slides = facts.sliding if len(facts.sliding) == len(facts.heads_kv) else (False,) * len(facts.heads_kv)
    return sum(heads for heads, slide in zip(facts.heads_kv, slides, strict=True) if not slide)
