"""A machine with two GPUs, and what models claim on it."""

from __future__ import annotations

from roundhouse.app.places import Box
from roundhouse.app.specs import Looked, fingerprint, make_spec
from roundhouse.config.models import ModelConfig
from roundhouse.core.margins import run_at
from roundhouse.engines import ENGINES
from roundhouse.ports import Gpu
from tests.engines.models import GIB, llama_8b

A, B = Gpu("GPU-aaaa", "nvidia", 0), Gpu("GPU-bbbb", "nvidia", 1)
FACTS = llama_8b()
LARGE = llama_8b(weights=20 * GIB)


def box(gpu0=24 * GIB, gpu1=16 * GIB, budgets=None) -> Box:
    there = {"ram": 64 * GIB, "gpu1": gpu1, "gpu0": gpu0}
    return Box({**there, **(budgets or {})}, there, {"gpu0": A, "gpu1": B})


RAM_ONLY = Box({"ram": 64 * GIB}, {"ram": 64 * GIB})


def spec(asked: ModelConfig, facts=FACTS, on=None, peaks=None):
    found = make_spec(asked, Looked(facts, None, 0), on or box(), {}, peaks or {})
    return (found.claim, *found.elsewhere)


def estimate(asked, facts=FACTS) -> int:
    return ENGINES[asked.engine].footprint(asked, facts)


def measured(asked, *figures, facts=FACTS):
    settings = fingerprint(asked, Looked(facts, None, 0))
    return {(asked.id, run_at(settings, figure)): {d: [size] for d, size in figure.items()} for figure in figures}
