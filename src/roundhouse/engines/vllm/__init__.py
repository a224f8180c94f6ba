"""vLLM: how it is started, when it is ready, and what it says of itself.

Pure: what it says of builds comes from their `--help` (`Build.flags`), what it says of models from `ModelFacts`. Facts
are of vLLM 0.32.0: its source, and runs on a CPU.

Not used yet: sleeping. Level 1 (`POST /sleep?level=1`, with VLLM_SERVER_DEV_MODE=1 and `--enable-sleep-mode`) keeps the
weights in RAM and forgets the cache, level 2 forgets both; a CPU has neither. Requests hang until `/wake_up`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from roundhouse.engines import cards, options, paged, parallel, trades, visible
from roundhouse.engines.vllm import flags, log
from roundhouse.ports import Command, Engine, Served, Share, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Progress
    from roundhouse.ports import Build, Choice, ModelFacts, Place

MODELS: Final = "/v1/models"
NOT_OURS: Final = frozenset({"exl2", "exl3"})
OVERHEAD: Final = 3072 * paged.MIB
ENVIRONMENT: Final = MappingProxyType({"PYTHONUNBUFFERED": "1", "VLLM_NO_USAGE_STATS": "1"})


class VLLM(Engine):
    """`engine: vllm`. A request ends when its client leaves, streamed or not (seen with 0.32.0).

    It answers 404 to a model name that is not its own.
    """

    name = "vllm"
    binaries: tuple[str, ...] = ()
    module: str | None = "vllm.entrypoints.openai.api_server"
    default_port = 8000
    # It waits for open connections without limit, whatever `--shutdown-timeout` says of requests. Ours are closed by
    # then; a stranger's must not hold the memory.
    stop_grace = flags.DRAIN + 10.0
    streams_to_abort = False
    facts_paths: tuple[str, ...] = (MODELS,)

    def command(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None = None
    ) -> Command:
        """Our flags, then the user's `args`, which win, then the address, which is ours alone (`port:` sets it)."""
        gpus = len(place.gpus) if place is not None and place.gpus else 1
        ours = options.chosen(flags.wanted(model, facts, build, gpus), model.args, build.flags)
        address = ("--host", "127.0.0.1", "--port", str(port))
        seen = visible.environment(place, model.env, numbers=True)
        return Command((*build.argv, *ours, *model.args, *address), {**ENVIRONMENT, **seen, **model.env})

    def choices(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, place: Place | None = None
    ) -> tuple[Choice, ...]:
        """Compilation and graphs."""
        return trades.choices(flags.TRADES[model.profile], model.args, build.flags)

    def ready_paths(self, model: ModelConfig) -> tuple[str, ...]:
        """It binds its port when all is loaded, and says 200 from then on."""
        return (model.health or "/health",)

    def is_ready(self, status: int, body: bytes) -> bool:
        """200, with an empty body."""
        return status == 200

    def served(self, replies: Mapping[str, bytes]) -> Served:
        """Name and context. It tells neither how many requests it takes at once (see `command`) nor its memory."""
        listed = cards.card(replies.get(MODELS))
        return Served(slots=paged.DEFAULT_SLOTS, context=listed.context, name=listed.name)

    def serves(self, model: ModelConfig, replies: Mapping[str, bytes]) -> bool:
        """By the folder that it tells, else by the name; true where neither can be told."""
        listed = cards.card(replies.get(MODELS))
        return cards.agrees(model, listed.name, listed.root)

    def objection(self, model: ModelConfig, facts: ModelFacts | None, present: frozenset[Path]) -> str | None:
        """EXL2 and EXL3 are ExLlama's alone."""
        if facts is None or facts.format not in NOT_OURS:
            return None
        return f"{model.path} is in the format {facts.format.upper()}, which vLLM can't load: set `engine: tabbyapi`"

    def progress(self, line: str) -> Progress | None:
        """Stages and progress bars of its log."""
        return log.progress(line)

    def held(self, lines: Sequence[str]) -> int | None:
        """Weights, cache and graphs of one GPU, by its log."""
        return log.held(lines)

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
        """Weights and cache on one GPU, of so many, and 3 GiB; None without facts.

        The last is what three processes take on a CPU with a toy model (0.64 + 0.61 + 1.8 GB measured). That a GPU
        needs as much for its context, activations and graphs is a guess; measured figures replace the sum.
        """
        return sum(self.parts(model, facts, processor, gpus=gpus).values()) or None

    def parts(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset(), *, gpus: int = 1
    ) -> Mapping[str, int]:
        """On one of so many GPUs."""
        if facts is None or not facts.weights:
            return {}
        said = flags.said(model, facts, gpus)
        cache = options.number(model.args, flags.CACHE) or paged.pool(model, facts, said).size
        return {"weights": paged.weights(facts, said), "cache": cache, "program": OVERHEAD}

    def share(self, model: ModelConfig) -> Share | None:
        """With a share or a number of blocks of the user's and no size of the cache, a share is kept (spec D1).

        So much of the *whole* device has to be free when it starts (`v1/worker/utils.py`).
        """
        shared = options.given(model.args, flags.SHARE) or options.given(model.args, flags.BLOCKS)
        if not shared or options.value(model.args, flags.CACHE) is not None:
            return None
        return Share("total", options.part(model.args, flags.SHARE) or flags.USUAL_SHARE)

    def wish(self, model: ModelConfig) -> Wish:
        """As many GPUs as it is told to be cut across."""
        count = parallel.cut(model.args, flags.TENSOR, flags.PIPELINE, None).gpus
        return Wish(count=count if count > 1 else None)

    def split(self, model: ModelConfig, facts: ModelFacts | None, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """The same on each, whatever their sizes."""
        each = self.footprint(model, facts, gpus=len(sizes))
        return None if each is None else (each,) * len(sizes)
