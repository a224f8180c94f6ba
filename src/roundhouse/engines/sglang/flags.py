"""SGLang's options: which we give, which the user has given, and what older versions call them. Reads no output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Kind
from roundhouse.engines import options, paged, parallel
from roundhouse.engines.options import Option
from roundhouse.engines.trades import Trade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import ModelFacts

MODEL: Final = Option(("--model-path", "--model"))
NAME: Final = Option(("--served-model-name",))
IDLE: Final = Option(("--sleep-on-idle",))
CONTEXT: Final = Option(("--context-length",))
SLOTS: Final = Option(("--max-running-requests",))
FRACTION: Final = Option(("--mem-fraction-static",))
TOKENS: Final = Option(("--max-total-tokens",), instead=FRACTION.names)
CHUNK: Final = Option(("--chunked-prefill-size",))
CACHE_TYPE: Final = Option(("--kv-cache-dtype",))
TYPE: Final = Option(("--dtype",))
TENSOR: Final = Option(("--tensor-parallel-size", "--tp-size", "--tp"))
PIPELINE: Final = Option(("--pipeline-parallel-size", "--pp-size", "--pp"))
FIRST_GPU: Final = Option(("--base-gpu-id",))
EMBEDDING: Final = Option(("--is-embedding",))
NO_WARMUP: Final = Option(("--skip-server-warmup",), instead=("--warmups",))

_GRAPHS: Final = ("--disable-cuda-graph", "--cuda-graph-config", "--cuda-graph-max-bs", "--cuda-graph-bs")
_DECODE_GRAPHS: Final = (
    *_GRAPHS, "--cuda-graph-backend-decode", "--cuda-graph-max-bs-decode", "--cuda-graph-bs-decode",
    "--disable-decode-cuda-graph", "--disable-cuda-graph-padding",
)  # fmt: skip
NO_DECODE_GRAPH: Final = Option(("--disable-decode-cuda-graph", "--disable-cuda-graph"), instead=_DECODE_GRAPHS)
GRAPH_SIZES: Final = Option(("--cuda-graph-bs-decode", "--cuda-graph-bs"), instead=_DECODE_GRAPHS)
LARGEST_GRAPH: Final = Option(("--cuda-graph-max-bs",), instead=_DECODE_GRAPHS)
NO_PREFILL_GRAPH: Final = Option(
    ("--disable-prefill-cuda-graph", "--disable-piecewise-cuda-graph"),
    instead=(*_GRAPHS, "--cuda-graph-backend-prefill", "--cuda-graph-max-bs-prefill", "--cuda-graph-bs-prefill"),
)

MOST_OF_FREE: Final = "0.95"
MOST_GRAPHS: Final = 32
"""Slots above which a graph for each number of requests would take a start too long."""

_FAST_START: Final = (
    Trade(
        (NO_DECODE_GRAPH,),
        "no CUDA graphs are captured for answers, seconds to minutes of a start; their memory stays free",
        "each token of an answer is launched kernel by kernel: slower, most of all for small models and few requests",
    ),
    Trade(
        (NO_PREFILL_GRAPH,),
        "none are captured for prompts either",
        "short prompts are computed slower",
    ),
    Trade(
        (NO_WARMUP,),
        "ready without answering a request of its own first, 2 to 3 s on a CPU",
        "the first answer does that work instead",
    ),
)


def said(model: ModelConfig, facts: ModelFacts | None = None, gpus: int = 1) -> paged.Said:
    """What the user's `args` say of context, requests and memory, and how it is cut across so many GPUs."""
    cut = parallel.cut(model.args, TENSOR, PIPELINE, facts, gpus)
    cache = options.value(model.args, CACHE_TYPE) or "auto"
    plain = 4 if options.value(model.args, TYPE) in {"float", "float32"} else 2
    return paged.Said(
        context=options.number(model.args, CONTEXT),
        slots=options.number(model.args, SLOTS),
        tokens=options.number(model.args, TOKENS),
        wide=1 if cache.startswith(("fp8", "mxfp8", "fp4", "nvfp4")) else plain,
        tensor=cut.tensor,
        pipeline=cut.pipeline,
    )


def wanted(
    model: ModelConfig, facts: ModelFacts | None, gpus: int = 1, known: frozenset[str] = frozenset()
) -> Iterator[options.Said]:
    """All that we would say to a build that knows these options; empty: to the newest.

    Its own default for memory is to fill most of what is free, so that no second engine finds room; we set the number
    of tokens (spec D1). A fraction is then only a bound, of what is free when it starts: it has to leave room for our
    number on a device with little to spare, where its own would silently make the pool smaller.
    """
    mine = said(model, facts, gpus)
    pool = paged.pool(model, facts, mine)
    yield MODEL, str(model.path)
    yield NAME, model.served_name or model.id
    yield (IDLE,)  # without it, its processes poll: a core each, busy at idle
    yield CONTEXT, str(pool.context)
    yield SLOTS, str(pool.slots)
    yield TOKENS, str(pool.tokens)
    yield FRACTION, MOST_OF_FREE
    if mine.tensor > 1:
        yield TENSOR, str(mine.tensor)
    if mine.pipeline > 1:
        yield PIPELINE, str(mine.pipeline)
    if paged.kind_of(model, facts) is not Kind.CHAT:
        yield (EMBEDDING,)
    yield from (trade.said for trade in trades(model, facts, known))


def trades(model: ModelConfig, facts: ModelFacts | None, known: frozenset[str]) -> Iterator[Trade]:
    """What is said for the sake of the model's profile, to a build that knows these options.

    0.5.23 captures graphs for 1, 2, 4, 8, 12, 16, 24 and so on requests up to a number by the GPU's memory (8 below
    20 GiB), at most as many as it takes at once (`arg_groups/memory_hook.py`). Versions whose option is called
    `--cuda-graph-max-bs` are told that they will not get more.
    """
    if model.profile == "fast-start":
        yield from _FAST_START
        return
    slots = paged.pool(model, facts, said(model, facts)).slots
    if model.profile == "fast-answers" and slots <= MOST_GRAPHS:
        sizes = map(str, range(1, slots + 1))
        yield Trade(
            (GRAPH_SIZES, *sizes),
            f"a CUDA graph for each number of requests up to {slots}: none is padded to a larger one or goes without",
            "more graphs are captured at each start, and take memory",
        )
    elif LARGEST_GRAPH.names[0] in known:
        yield Trade(
            (LARGEST_GRAPH, str(slots)),
            f"CUDA graphs for up to {slots} requests, instead of for more than there ever are at once",
            "nothing",
        )
