"""vLLM's options: which we give, which the user has given, and what other versions call them. Reads no output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Kind
from roundhouse.engines import options, paged, parallel
from roundhouse.engines.options import Option
from roundhouse.engines.trades import Trade

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from roundhouse.config.models import ModelConfig, Profile
    from roundhouse.ports import Build, ModelFacts

MODEL: Final = Option(("--model",))
NAME: Final = Option(("--served-model-name",))
CONTEXT: Final = Option(("--max-model-len",))
SLOTS: Final = Option(("--max-num-seqs",))
SHARE: Final = Option(("--gpu-memory-utilization",))
BLOCKS: Final = Option(("--num-gpu-blocks-override",))
CACHE: Final = Option(("--kv-cache-memory-bytes",), instead=(*SHARE.names, *BLOCKS.names))
CACHE_TYPE: Final = Option(("--kv-cache-dtype",))
TYPE: Final = Option(("--dtype",))
TENSOR: Final = Option(("--tensor-parallel-size", "-tp"))
PIPELINE: Final = Option(("--pipeline-parallel-size", "-pp"))
POOLING: Final = Option(("--runner",), instead=("--task", "--convert"))
DRAINING: Final = Option(("--shutdown-timeout",))
_COMPILATION: Final = (
    "--enforce-eager", "--no-enforce-eager", "--compilation-config", "-cc", "--optimization-level", "-O", "-O0", "-O1",
    "-O2", "-O3", "--cudagraph-capture-sizes", "--max-cudagraph-capture-size", "--performance-mode",
)  # fmt: skip
EAGER: Final = Option(("--enforce-eager",), instead=_COMPILATION)
MODE: Final = Option(("--performance-mode",), instead=_COMPILATION)

DRAIN: Final = 5
"""Seconds. Its default of 0 kills its engine process under open streams, whose clients then hear nothing more."""
LEAST_SHARE: Final = "0.01"
USUAL_SHARE: Final = 0.92
"""Its default, which it keeps where only the number of blocks is said."""

TRADES: Final[Mapping[Profile, tuple[Trade, ...]]] = {
    "fast-start": (
        Trade(
            (EAGER,),
            "neither compiled nor captured in CUDA graphs: minutes of a first start, seconds of each later one",
            "answers are slower, most of all for small models and few requests",
        ),
    ),
    "balanced": (),
    "fast-answers": (
        Trade(
            (MODE, "interactivity"),
            "a CUDA graph for each number of tokens up to 32: few requests are not padded to a larger one",
            "more graphs are captured at each start, and take memory",
        ),
    ),
}
"""By profile. What `interactivity` does is read in 0.32.0's `config/vllm.py`; versions without it get nothing."""


def said(model: ModelConfig, facts: ModelFacts | None = None, gpus: int = 1) -> paged.Said:
    """What the user's `args` say of context, requests and memory, and how it is cut across so many GPUs."""
    cut = parallel.cut(model.args, TENSOR, PIPELINE, facts, gpus)
    cache = options.value(model.args, CACHE_TYPE) or "auto"
    plain = 4 if options.value(model.args, TYPE) in {"float", "float32"} else 2
    return paged.Said(
        context=options.number(model.args, CONTEXT),
        slots=options.number(model.args, SLOTS),
        wide=1 if cache.startswith(("fp8", "int8")) else plain,
        tensor=cut.tensor,
        pipeline=cut.pipeline,
    )


def wanted(model: ModelConfig, facts: ModelFacts | None, build: Build, gpus: int = 1) -> Iterator[options.Said]:
    """All that we would say.

    Its own default for memory is a share of the whole device, all of it taken and none of it to be in use by others
    when it starts (0.92 in 0.32.0). We set the size of the cache (spec D1); then the share sizes nothing any more, but
    is still compared with what is free (`v1/worker/utils.py`), so that it has to be small. Versions before 0.11 or so
    know no size; there the default share stays.
    """
    mine = said(model, facts, gpus)
    pool = paged.pool(model, facts, mine)
    yield MODEL, str(model.path)
    yield NAME, model.served_name or model.id
    yield CONTEXT, str(pool.context)
    yield SLOTS, str(pool.slots)
    yield CACHE, str(pool.size)
    if (not build.flags or CACHE.names[0] in build.flags) and not options.given(model.args, BLOCKS):
        yield SHARE, LEAST_SHARE
    if mine.tensor > 1:
        yield TENSOR, str(mine.tensor)
    if mine.pipeline > 1:
        yield PIPELINE, str(mine.pipeline)
    yield DRAINING, str(DRAIN)
    if paged.kind_of(model, facts) is not Kind.CHAT:
        yield POOLING, "pooling"
    yield from (trade.said for trade in TRADES[model.profile])
