"""What SGLang's output says: how far a load is, and why it failed.

The lines are of 0.5.23, from runs and its source, and of versions from 0.4 on where they differ. Lines come split at
carriage returns too, as its progress bars have nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from roundhouse.engines import torchlog
from roundhouse.engines.torchlog import ROOM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundhouse.core.model import Progress

PREFIX: Final = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: [A-Z]+\d+)*\] ")
"""Time, and with several GPUs the rank: `[2026-11-22 17:14:52 TP0] `."""

STAGES: Final = torchlog.stages(
    (r"server_args=", 0.02, "starting"),
    (r"Init (?:parallel|torch distributed) begin", 0.05, "starting"),
    (r"Load weight begin", 0.08, "reading weights"),
    (r"Load weight end\. (?:elapsed|type)", 0.65, "allocating the cache"),
    (r"KV Cache is allocated", 0.68, "allocating the cache"),
    (r"Memory pool end", 0.70, "allocating the cache"),
    (r"Capture (?:\w+ )?prefill CUDA graph begin", 0.70, "capturing graphs"),
    (r"Capture (?:\w+ decode CUDA|cuda) graph begin", 0.78, "capturing graphs"),
    (r"max_total_num_tokens=", 0.95, "starting to serve"),
    (r"INFO:     Uvicorn running", 0.97, "warming up"),
    (r"The server is fired up", 1.0, "ready"),
)
"""The parts are a guess: how long each takes differs by model and disk, and with compilation a hundredfold."""
BARS: Final = torchlog.bars(
    (r"(?:Loading|Multi-thread loading) .*shards", 0.08, 0.65, "reading weights"),
    (r"Capturing prefill shape", 0.70, 0.78, "capturing graphs"),
    (r"Capturing batches", 0.78, 0.90, "capturing graphs"),
    (r"(?:Compiling|Capturing) num tokens", 0.90, 0.95, "capturing graphs"),
)
"""In the order they come in: prefill before decode in 0.5.23; versions with piecewise graphs have those last."""

MEMORY: Final = (
    *torchlog.causes(
        (
            r"Loaded weights leave no GPU memory|Not enough memory\. Please try to increase --mem-fraction-static",
            (
                "the weights leave no memory for the cache: free some of the GPU, take a smaller model, "
                "or raise --mem-fraction-static if `args` has it"
            ),
        ),
        (
            r"Capture (?:cuda|CUDA) graph failed: .*out of memory",
            f"not enough GPU memory for CUDA graphs: {ROOM}, or set `profile: fast-start`, which does without",
        ),
    ),
    *torchlog.MEMORY,
)
CAUSES: Final = (*MEMORY, *torchlog.COMMON)
CHILD: Final = re.compile(
    r"(?:died during initialization \(exit code: |Exit code: |crashed with exit code )(?P<code>-?\d+)"
)
"""From `entrypoints/engine.py` and `utils/watchdog.py`. The child's own last words tell more, where it had any."""


def progress(line: str) -> Progress | None:
    """Fractions of the whole load; None where a line says nothing."""
    return torchlog.progress(PREFIX.sub("", line), STAGES, BARS)


def failure(lines: Sequence[str]) -> str:
    """The reason in words, without a full stop; '' when the log tells none."""
    return torchlog.failure([PREFIX.sub("", line) for line in lines], CAUSES, CHILD)


def out_of_memory(lines: Sequence[str]) -> bool:
    """Whether the reason is want of memory."""
    return torchlog.out_of_memory([PREFIX.sub("", line) for line in lines], MEMORY, CHILD)
