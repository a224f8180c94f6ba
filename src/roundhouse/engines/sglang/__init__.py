"""SGLang: how it is started, when it is ready, and what it says of itself.

Pure: what it says of builds comes from their `--help` (`Build.flags`), what it says of models from `ModelFacts`. Facts
are of SGLang 0.5.23: its source, and runs on a CPU.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from roundhouse.engines import cards, options, paged, parallel, trades, visible
from roundhouse.engines.sglang import flags, info, log
from roundhouse.ports import Command, Engine, Served, Share, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Progress
    from roundhouse.ports import Build, Choice, ModelFacts, Place

NOT_OURS: Final = frozenset({"exl2", "exl3"})
ASIDE: Final = 1024 * paged.MIB
CHUNK_TOKENS: Final = 2048
PER_CHUNK_TOKEN: Final = 3 * paged.MIB // 2


class SGLang(Engine):
    """`engine: sglang`. A request ends when its client leaves, streamed or not (seen with 0.5.23)."""

    name = "sglang"
    binaries: tuple[str, ...] = ()
    module: str | None = "sglang.launch_server"
    default_port = 30000
    # On SIGTERM it finishes what it has taken, without limit, and looks every 5 s whether that is done; ours is closed
    # by then. Without requests it took 2 to 8 s, and 22 on a busy machine, for which no switch should wait.
    stop_grace = 10.0
    # Seen on 0.5.23: after its scheduler's death the process lives on for 65 s, waiting for a core dump.
    dying: re.Pattern[str] | None = re.compile(
        r"^\[[^]]*\] (?:Subprocess \S+ \(pid=\d+\) crashed with exit code|SIGQUIT received\.)"
    )
    streams_to_abort = False
    facts_paths: tuple[str, ...] = (info.MODELS, *info.SERVER)

    def command(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None = None
    ) -> Command:
        """Our flags, then the user's `args`, which win, then the address, which is ours alone (`port:` sets it)."""
        told = options.given(model.args, flags.FIRST_GPU)  # counts from where the user says, and only as far
        gpus = len(place.gpus) if place is not None and place.gpus and not told else 1
        ours = options.chosen(flags.wanted(model, facts, gpus, build.flags), model.args, build.flags)
        address = ("--host", "127.0.0.1", "--port", str(port))
        seen = visible.environment(place, model.env, numbers=True)
        return Command((*build.argv, *ours, *model.args, *address), {"PYTHONUNBUFFERED": "1", **seen, **model.env})

    def choices(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, place: Place | None = None
    ) -> tuple[Choice, ...]:
        """Graphs and warm-up."""
        return trades.choices(flags.trades(model, facts, build.flags), model.args, build.flags)

    def ready_paths(self, model: ModelConfig) -> tuple[str, ...]:
        """`/ready` answers at once; `/health`, all that older versions have, computes a token and takes a second.

        The port is bound only when the model is loaded; then both say 503 until the warm-up is done. `/v1/models` says
        200 at that time already.
        """
        return (model.health,) if model.health else ("/ready", "/health")

    def is_ready(self, status: int, body: bytes) -> bool:
        """200, with an empty body."""
        return status == 200

    def served(self, replies: Mapping[str, bytes]) -> Served:
        """Name, context, requests at once, and bytes of weights, cache and graphs on its first GPU."""
        return info.served(replies)

    def serves(self, model: ModelConfig, replies: Mapping[str, bytes]) -> bool:
        """By the folder that it tells, else by the name; true where neither can be told."""
        return cards.agrees(model, cards.card(replies.get(info.MODELS)).name, info.folder(replies))

    def objection(self, model: ModelConfig, facts: ModelFacts | None, present: frozenset[Path]) -> str | None:
        """EXL2 and EXL3 are ExLlama's alone."""
        if facts is None or facts.format not in NOT_OURS:
            return None
        return f"{model.path} is in the format {facts.format.upper()}, which SGLang can't load: set `engine: tabbyapi`"

    def progress(self, line: str) -> Progress | None:
        """Stages and progress bars of its log."""
        return log.progress(line)

    def failure(self, lines: Sequence[str]) -> str:
        """The reason in words, without a full stop; '' when the log tells none (it was killed, say)."""
        return log.failure(lines)

    def out_of_memory(self, lines: Sequence[str]) -> bool:
        """By its own words."""
        return log.out_of_memory(lines)

    def plan(self, model: ModelConfig, facts: ModelFacts | None) -> Served:
        """The pool's."""
        pool = paged.pool(model, facts, flags.said(model))
        return Served(pool.slots, pool.context)

    def footprint(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset(), *, gpus: int = 1
    ) -> int | None:
        """Weights and cache on one GPU, of so many, and what SGLang keeps aside; None without facts.

        The last is its own rule for GPUs below 60 GB (`arg_groups/memory_hook.py`): 512 MiB and 1.5 MiB per token of a
        prefill chunk, for activations and graphs. The 512 MiB more for the CUDA context are a guess; no GPU was at
        hand. Measured figures replace the sum.
        """
        return sum(self.parts(model, facts, processor, gpus=gpus).values()) or None

    def parts(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset(), *, gpus: int = 1
    ) -> Mapping[str, int]:
        """On one of so many GPUs."""
        if facts is None or not facts.weights:
            return {}
        said = flags.said(model, facts, gpus)
        chunk = max(options.number(model.args, flags.CHUNK) or 0, CHUNK_TOKENS)
        return {
            "weights": paged.weights(facts, said),
            "cache": paged.pool(model, facts, said).size,
            "compute": chunk * PER_CHUNK_TOKEN,
            "program": ASIDE,
        }

    def share(self, model: ModelConfig) -> Share | None:
        """With a fraction of the user's and no number of tokens, it fills that share of what is free (spec D1)."""
        if not options.given(model.args, flags.FRACTION) or options.value(model.args, flags.TOKENS) is not None:
            return None
        return Share("free", options.part(model.args, flags.FRACTION) or 1.0)

    def wish(self, model: ModelConfig) -> Wish:
        """As many GPUs as it is told to be cut across, from `--base-gpu-id` on."""
        count = parallel.cut(model.args, flags.TENSOR, flags.PIPELINE, None).gpus
        first = options.number(model.args, flags.FIRST_GPU)
        if first is not None:
            return Wish(gpus=tuple(range(first, first + count)))
        return Wish(count=count if count > 1 else None)

    def split(self, model: ModelConfig, facts: ModelFacts | None, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """The same on each, whatever their sizes."""
        each = self.footprint(model, facts, gpus=len(sizes))
        return None if each is None else (each,) * len(sizes)
