"""On which GPUs llama.cpp runs a model: what it is told for a place, what users say to it, what each GPU then holds.

Its `docs/multi-gpu.md`: layers are dealt out over all devices that it sees (`--split-mode layer`, the default) by
`--tensor-split`, else by what is free on them. Which devices it sees is said by environment (`engines.visible`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from roundhouse.engines.llamacpp import flags, layout
from roundhouse.ports import Wish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from roundhouse.config.models import ModelConfig
    from roundhouse.engines.llamacpp.flags import Names
    from roundhouse.engines.llamacpp.layout import Layout
    from roundhouse.ports import Build, ModelFacts, Place

OWN: Final = (*flags.DEVICES, *flags.SPLIT_MODE, *flags.TENSOR_SPLIT, *flags.MAIN_GPU)
"""Whoever says one of these decides it all."""

_NUMBERED: Final = re.compile(r"(?:CUDA|ROCm)(\d+)")
"""Names of GPUs whose numbers are ours too; those of Vulkan are in an order of its own."""


def wanted(model: ModelConfig, build: Build, place: Place | None) -> Iterator[tuple[Names, str]]:
    """What is said of devices beside the environment: for several GPUs, and for none where there are some."""
    if place is None or place.free or flags.given(model.args, OWN):
        return
    if len(place.gpus) > 1:
        whole = sum(place.shares)
        yield flags.TENSOR_SPLIT, ",".join(f"{share / whole:.3f}" for share in place.shares)
    elif not place.gpus and not flags.given(model.args, flags.GPU_LAYERS):
        if not build.flags or flags.given(tuple(build.flags), flags.DEVICES):
            yield flags.DEVICES, "none"
        else:
            yield flags.GPU_LAYERS, "0"


def wish(model: ModelConfig) -> Wish:
    """What the user's own arguments come to."""
    args = model.args
    named = flags.value(args, flags.DEVICES)
    if flags.number(args, flags.GPU_LAYERS) == 0 or named == "none":
        return Wish(ram=True)
    shares = _proportions(flags.value(args, flags.TENSOR_SPLIT))
    if named is not None:
        numbers = [_NUMBERED.fullmatch(name.strip()) for name in named.split(",")]
        known = tuple(int(found[1]) for found in numbers if found is not None)
        return Wish(gpus=known, shares=shares) if len(known) == len(numbers) else Wish()
    if flags.value(args, flags.SPLIT_MODE) == "none":
        return Wish(gpus=(flags.number(args, flags.MAIN_GPU) or 0,))
    if shares:
        return Wish(shares=shares)
    return Wish(everywhere=flags.given(args, OWN))


def split(plan: Layout, facts: ModelFacts, sizes: Sequence[int]) -> tuple[int, ...]:
    """Bytes on each GPU: its part of weights and cache, a layer more as layers are not cut, and buffers of its own."""
    total, each = layout.footprint(plan, facts), layout.compute(plan, facts)
    layer = facts.weights // max(1, facts.layers)
    return tuple((total - each) * size // sum(sizes) + layer + each for size in sizes)


def _proportions(text: str | None) -> tuple[float, ...]:
    """`3,1` or `3/1`; () for anything else."""
    try:
        found = tuple(float(word) for word in re.split(r"[,/]", text or ""))
    except ValueError:
        return ()
    return found if all(part >= 0 for part in found) and sum(found) > 0 else ()
