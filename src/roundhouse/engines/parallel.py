"""How SGLang and vLLM are cut across several GPUs: every layer (tensor parallel), or layers dealt out (pipeline).

Pure; knows models by their facts, and no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.engines import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.engines.options import Option
    from roundhouse.ports import ModelFacts


@dataclass(frozen=True, slots=True)
class Cut:
    """`tensor` x `pipeline` GPUs."""

    tensor: int = 1
    pipeline: int = 1

    @property
    def gpus(self) -> int:
        """How many it takes."""
        return self.tensor * self.pipeline


def cut(args: Sequence[str], tensor: Option, pipeline: Option, facts: ModelFacts | None, gpus: int = 1) -> Cut:
    """As the user's arguments say, which win; else over so many GPUs.

    Every layer is cut where that goes: a GPU computes whole heads, so their number has to be divisible (vLLM's
    `verify_with_parallel_config`, SGLang's model code). The heads of keys and values are looked at, of which there are
    as many as attention heads or a fraction. Where it does not go, and for odd numbers of GPUs with nothing known of
    the model, layers are dealt out.
    """
    if options.given(args, tensor) or options.given(args, pipeline):
        return Cut(options.number(args, tensor) or 1, options.number(args, pipeline) or 1)
    return Cut(gpus, 1) if _goes(facts, gpus) else Cut(1, gpus)


def _goes(facts: ModelFacts | None, gpus: int) -> bool:
    if facts is None or not facts.heads_kv:
        return gpus & (gpus - 1) == 0
    return all(heads % gpus == 0 for heads in facts.heads_kv)
