"""On which GPUs TabbyAPI loads a model: `gpu_split`, GB for each GPU that the process sees.

A process takes models for several places one after another, so its environment can't hide GPUs; a 0 in `gpu_split`
does. It fills the GPUs in their order, each up to its figure; with one GPU it reads none of this (exllamav3's and
TabbyAPI's `model.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from roundhouse.engines import visible
from roundhouse.ports import Wish

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import Place

GPU_SPLIT: Final = "gpu_split"
AUTO: Final = "gpu_split_auto"
OWN: Final = frozenset({GPU_SPLIT, AUTO, "autosplit_reserve", "tensor_parallel"})
"""Options by which a user decides it."""
GIB: Final = 2**30
SPARE: Final = 1.25
"""Times what is claimed of the last GPU: what an estimate falls short of finds room there, if there is any."""


def environment(place: Place | None) -> dict[str, str]:
    """GPUs are counted as we do."""
    return {visible.ORDER: visible.BY_PCI} if place is not None and place.machine else {}


def options(model: ModelConfig, place: Place | None) -> dict[str, Any]:
    """What is asked for beside the user's options; nothing where they decide, and for the only GPU of a machine."""
    assert model.tabby is not None
    decided = not OWN.isdisjoint(model.tabby.options) or visible.said(model.env)
    if place is None or place.free or not place.gpus or len(place.machine) < 2 or decided:
        return {}
    sizes = dict(zip((gpu.index or 0 for gpu in place.gpus), place.sizes, strict=True))
    last = max(sizes)
    split = [sizes.get(index, 0) * (SPARE if index == last else 1) for index in range(last + 1)]
    return {GPU_SPLIT: [math.ceil(size / GIB * 10) / 10 for size in split], AUTO: False}


def wish(model: ModelConfig) -> Wish:
    """The user's `gpu_split`; all GPUs where its like is said."""
    said: Mapping[str, Any] = model.tabby.options if model.tabby is not None else {}
    split = said.get(GPU_SPLIT)
    if isinstance(split, list) and all(isinstance(size, int | float) for size in split) and any(split):
        used = {index: float(size) for index, size in enumerate(split) if size > 0}
        return Wish(gpus=tuple(used), shares=tuple(used.values()))
    return Wish(everywhere=bool(said.get(AUTO) or said.get("autosplit_reserve") or said.get("tensor_parallel")))
