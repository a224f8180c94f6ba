"""What vLLM's output says: how far a load is, and why it failed.

The lines are of 0.32.0, from runs on a CPU, and for GPUs from its source.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from roundhouse.engines import torchlog
from roundhouse.engines.torchlog import ROOM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.core.model import Progress

PREFIX: Final = re.compile(
    r"^(?:\([\w-]+ pid=\d+\) )?(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]+\] ?)?"
)
"""Process, level, time and source: `(EngineCore pid=12) ERROR 11-22 22:19:02 [core.py:1510] `."""

STAGES: Final = torchlog.stages(
    (r"non-default args:", 0.02, "starting"),
    (r"Initializing a V\d LLM engine", 0.05, "starting"),
    (r"Starting to load model", 0.08, "reading weights"),
    (r"Loading weights took", 0.60, "preparing the model"),
    (r"Model loading took", 0.61, "preparing the model"),
    (r".*(?:Dynamo bytecode transform time|Compiling a graph)", 0.65, "compiling"),
    (r".*torch\.compile (?:takes|took)", 0.70, "allocating the cache"),
    (r"Available KV cache memory", 0.72, "allocating the cache"),
    (r"\w+ KV cache size:", 0.75, "allocating the cache"),
    (r"Graph capturing finished", 0.92, "warming up"),
    (r"init engine \(", 0.94, "starting to serve"),
    (r"Starting vLLM (?:API )?server", 0.97, "starting to serve"),
    (r"INFO: +Application startup complete", 1.0, "ready"),
)
"""The parts are a guess: how long each takes differs by model and disk, and with compilation a hundredfold."""
BARS: Final = torchlog.bars(
    (r"(?:Loading|Multi-thread loading) .*shards", 0.08, 0.60, "reading weights"),
    (r"Capturing CUDA graphs \(.*PIECEWISE", 0.76, 0.84, "capturing graphs"),
    (r"Capturing CUDA graphs \(.*FULL", 0.84, 0.92, "capturing graphs"),
    (r"Capturing CUDA graph", 0.76, 0.92, "capturing graphs"),
)

MEMORY: Final = (
    *torchlog.causes(
        (
            r"Free memory on device \S+ \((?P<free>[\d.]+)/(?P<all>[\d.]+) GiB\) on startup",
            (
                "only {free} of {all} GiB of the GPU are free, less than --gpu-memory-utilization asks for: "
                "take it out of `args`, or lower it"
            ),
        ),
        (
            r"is less than requested memory for kv|No available memory for the cache blocks",
            f"not enough memory for the cache: {ROOM}",
        ),
        (r"out of memory occurred when warming up|not enough GPU memory", f"not enough GPU memory: {ROOM}"),
    ),
    *torchlog.MEMORY,
)
"""Of a cache too small for the context not: its size is told to it, and room beside it is of no use."""
CAUSES: Final = (
    *torchlog.causes(
        (
            (
                r"model's max seq len \((?P<context>\d+)\)[^\n]*?\((?P<needed>[\d.]+) GiB[^\n]*?"
                r"available KV cache memory \((?P<given>[\d.]+) GiB"
            ),
            (
                "a context of {context} tokens takes {needed} GiB of cache, and it has {given}: "
                "set a smaller `context`, or a larger --kv-cache-memory-bytes in `args`"
            ),
        ),
    ),
    *MEMORY,
    *torchlog.COMMON,
)
CHILD: Final = re.compile(r"(?:died unexpectedly \(exit code: |Failed core proc\(s\): \{'[^']*': )(?P<code>-?\d+)")
"""From `v1/executor/multiproc_executor.py` and `v1/engine/utils.py`."""


WEIGHTS: Final = re.compile(r"Model loading took (?P<gib>[\d.]+) GiB")
CACHE: Final = re.compile(
    r"Available KV cache memory: (?P<gib>[\d.]+) GiB|reserved (?P<said>[\d.]+) GiB memory for KV Cache"
)
"""As it works it out, or as `--kv-cache-memory-bytes` says."""
GRAPHS: Final = re.compile(r"Graph capturing finished in .* took (?P<gib>[\d.]+) GiB")


def held(lines: Sequence[str]) -> int | None:
    """Bytes of weights, cache and graphs on the GPU that has most of them; None where one of the first two is missing.

    Each GPU's process logs its own. Activations and the CUDA context are in none of these figures. On CPUs it does not
    tell what the weights take.
    """
    weights, cache, graphs = (_most(pattern, lines) for pattern in (WEIGHTS, CACHE, GRAPHS))
    return int((weights + cache + graphs) * 2**30) if weights and cache else None


def _most(pattern: re.Pattern[str], lines: Sequence[str]) -> float:
    found = (pattern.search(line) for line in lines)
    return max((float(next(filter(None, match.groups()))) for match in found if match), default=0.0)


def progress(line: str) -> Progress | None:
    """Fractions of the whole load; None where a line says nothing."""
    return torchlog.progress(PREFIX.sub("", line), STAGES, BARS)


def failure(lines: Sequence[str]) -> str:
    """The reason in words, without a full stop; '' when the log tells none."""
    return torchlog.failure([PREFIX.sub("", line) for line in lines], CAUSES, CHILD)


def out_of_memory(lines: Sequence[str]) -> bool:
    """Whether the reason is want of memory."""
    return torchlog.out_of_memory([PREFIX.sub("", line) for line in lines], MEMORY, CHILD)
