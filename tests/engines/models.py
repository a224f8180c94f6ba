"""Models and facts as the tests of engines need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from roundhouse.config.models import ModelConfig
from roundhouse.core.model import Kind
from roundhouse.ports import Gpu, ModelFacts, Place

CAPTURES = Path(__file__).parent.parent / "captures" / "llamacpp"
MIB = 2**20
GIB = 2**30

GPUS = tuple(Gpu(f"GPU-{letter * 8}", "nvidia", index) for index, letter in enumerate("abc"))
"""A machine with three."""
ONE = Place(GPUS[1:2], (8 * GIB,), (1.0,), GPUS)
TWO = Place((GPUS[0], GPUS[2]), (16 * GIB, 8 * GIB), (2.0, 1.0), GPUS)
NONE = Place(machine=GPUS)


def model(**settings: Any) -> ModelConfig:
    plain = {"id": "m", "path": Path("/models/m.gguf"), "engine": "llamacpp", "launcher": "process"}
    return ModelConfig(**{**plain, **settings})


def llama_8b(**other: Any) -> ModelFacts:
    """Figures of a Llama 3.1 8B in Q4_K_M."""
    known: dict[str, Any] = {
        "format": "gguf",
        "architecture": "llama",
        "weights": 4_912_000_000,
        "context": 131072,
        "kind": Kind.CHAT,
        "layers": 32,
        "embedding": 4096,
        "feed_forward": 14336,
        "vocabulary": 128256,
        "queries": 4096,
        "heads_kv": (8,) * 32,
        "key_length": 128,
        "value_length": 128,
    }
    return ModelFacts(**{**known, **other})


def gemma_270m(**other: Any) -> ModelFacts:
    """Figures of Gemma 3 270M: five of six layers slide over 512 tokens."""
    known: dict[str, Any] = {
        "format": "gguf",
        "architecture": "gemma3",
        "weights": 246_587_904,
        "context": 32768,
        "kind": Kind.CHAT,
        "layers": 18,
        "embedding": 640,
        "feed_forward": 2048,
        "vocabulary": 262144,
        "queries": 1024,
        "heads_kv": (1,) * 18,
        "key_length": 256,
        "value_length": 256,
        "window": 512,
        "sliding": tuple(layer % 6 < 5 for layer in range(18)),
    }
    return ModelFacts(**{**known, **other})


def embedder(**other: Any) -> ModelFacts:
    known: dict[str, Any] = {
        "format": "gguf",
        "architecture": "bert",
        "weights": 25 * MIB,
        "context": 512,
        "kind": Kind.EMBEDDING,
        "layers": 6,
        "embedding": 384,
        "feed_forward": 1536,
        "vocabulary": 30522,
        "heads_kv": (0,) * 6,
        "key_length": 32,
        "value_length": 32,
        "causal": False,
    }
    return ModelFacts(**{**known, **other})
