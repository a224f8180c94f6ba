"""What a model takes of memory in TabbyAPI: weights, cache, and what the program adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from roundhouse.engines.tabbyapi import settings

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import ModelFacts

PROGRAM: Final = 10**9
"""Bytes: a CUDA context (0.4 to 0.6 GB), activations, and exllamav3's margin of 256 + 96 MiB for its split."""


STATES: Final = 4
"""TabbyAPI's `max_batch_size` for models with windows or states (`default_mbs` in `backends/exllamav3/model.py`)."""
PAGE: Final = 256
SPARE: Final = 2 * PAGE
"""Tokens that a sliding layer keeps beyond its window, in whole pages (`modules/sliding_attn.py`)."""
POSITIONS: Final = 64
"""Numbers of a latent key that tell positions, in all published models; never quantised (`cache/mla.py`)."""


def footprint(model: ModelConfig, facts: ModelFacts) -> int:
    """Bytes when loaded, 5 % above the sum. Not counted: a draft model; weights that stay on the CPU count too.

    Against users' measurements (exllamav3 issue 50, a version in which all layers kept the whole context): Gemma 3 27B
    with Q6 within 1 %, a 49B at FP16 10 % too little.
    """
    return sum(parts(model, facts).values())


def parts(model: ModelConfig, facts: ModelFacts) -> dict[str, int]:
    """What the footprint is the sum of; the 5 % are told as `compute`."""
    held = cache(model, facts)
    above = int((facts.weights + held) * 1.05) - facts.weights - held
    return {"weights": facts.weights, "cache": held, "compute": above, "program": PROGRAM}


def cache(model: ModelConfig, facts: ModelFacts) -> int:
    """Bytes of the cache and of states.

    Per token and layer with full attention: numbers of keys and values times their bits. Sliding layers keep a window,
    and linear ones a state, for each of the requests at once (`max_batch_size`), in FP16 whatever the mode; in EXL2's
    backend they slide in name only.
    """
    want = settings.wanted(model, facts)
    slides = facts.sliding if facts.format == "exl3" and facts.sliding else (False,) * len(facts.heads_kv)
    full = sum(heads for heads, slide in zip(facts.heads_kv, slides, strict=True) if not slide)
    windows = sum(facts.heads_kv) - full
    window = -(-(facts.window + SPARE) // PAGE) * PAGE * (facts.key_length + facts.value_length) * 2
    said = settings.tabby_of(model).options.get("max_batch_size")
    at_once = said if isinstance(said, int) and said > 0 else STATES
    return int(want.cache * full * _bits(want.mode, facts) / 8) + at_once * (windows * window + facts.state)


def _bits(mode: str, facts: ModelFacts) -> float:
    """Of one head's key and value."""
    keys, values = settings.mode_bits(mode) or (16.0, 16.0)
    if facts.value_length:
        return facts.key_length * keys + facts.value_length * values
    positions = min(POSITIONS, facts.key_length)
    return (facts.key_length - positions) * keys + positions * 16
