"""llama.cpp's `llama-server`: how it is started, when it is ready, and what it says of itself.

Pure: what it says of builds comes from their `--help` (`Build.flags`), what it says of models from `ModelFacts`.
Facts were taken from builds b10434 and b11434 on small models, CPU only; where a number is measured, it says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Kind
from roundhouse.engines import visible
from roundhouse.engines.llamacpp import devices, flags, layout, log, profiles, slots
from roundhouse.ports import Choice, Command, Engine, Served

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Progress
    from roundhouse.engines.llamacpp.flags import Names
    from roundhouse.ports import Build, ModelFacts, Place, Wish

PROGRESS: Final = "LLAMA_SERVER_ROUTER_PORT"
"""The environment variable that makes it a child of its router."""


class LlamaCpp(Engine):
    """`engine: llamacpp`. A non-streaming request runs to its end when its client leaves, so all are streamed (A8)."""

    name = "llamacpp"
    binaries: tuple[str, ...] = ("llama-server",)
    module: str | None = None
    default_port = 8080
    stop_grace = 10.0
    streams_to_abort = True
    facts_paths: tuple[str, ...] = ("/props",)

    def command(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None = None
    ) -> Command:
        """Our flags, then the user's `args`, which win, then the address, which is ours alone (`port:` sets it)."""
        ours = [word for flag in _chosen(model, facts, build, port, place) for word in flag]
        address = ("--host", "127.0.0.1", "--port", str(port))
        environment = _environment(model, place)
        watches = environment.get(PROGRESS) == "1" and "--models-max" in build.flags
        return Command((*build.argv, *ours, *model.args, *address), environment, eof_ends=watches)

    def choices(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, place: Place | None = None
    ) -> tuple[Choice, ...]:
        """By the table in `profiles`."""
        return tuple(
            Choice(" ".join(words), trade.buys, trade.costs) for trade, words in profiles.chosen(model, build, place)
        )

    def ready_paths(self, model: ModelConfig) -> tuple[str, ...]:
        """It answers 503 from some 10 ms after the start on, and 200 when the model is loaded."""
        return (model.health or "/health",)

    def is_ready(self, status: int, body: bytes) -> bool:
        """`{"status":"ok"}`; the body is looked at because another program could have taken the port."""
        return status == 200 and b'"ok"' in body

    def served(self, replies: Mapping[str, bytes]) -> Served:
        """`/props` tells `total_slots`, the context of one slot, and the build."""
        try:
            props = json.loads(replies["/props"])
            context = _count(props["default_generation_settings"]["n_ctx"])
            return Served(_count(props["total_slots"]), context, build=str(props.get("build_info", "")))
        except (ValueError, LookupError, TypeError):
            return Served()

    def conversations(self, model: ModelConfig, facts: ModelFacts | None) -> slots.LlamaSlots | str | None:
        """Its slots, where they can be saved (`slots.why_not`)."""
        if layout.kind_of(model, facts) is not Kind.CHAT:
            return None
        window = facts.window if facts is not None else 0
        return slots.why_not(model, facts) or slots.LlamaSlots(slots.per_token(model, facts), model.args, window)

    def progress(self, line: str) -> Progress | None:
        """Fractions where the build has progress mode, else stages."""
        return log.progress(line)

    def held(self, lines: Sequence[str]) -> int | None:
        """The buffers that it lists (builds that hide them are told to, see `_wanted`)."""
        return log.held(lines)

    def failure(self, lines: Sequence[str]) -> str:
        """The reason in words, without a full stop; '' when the log tells none (it was killed, say)."""
        return log.failure(lines)

    def out_of_memory(self, lines: Sequence[str]) -> bool:
        """By its own words."""
        return log.out_of_memory(lines)

    def plan(self, model: ModelConfig, facts: ModelFacts | None) -> Served:
        """The layout's."""
        plan = layout.layout(model, facts)
        return Served(plan.slots, plan.context)

    def footprint(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset()
    ) -> int | None:
        """Estimated bytes (see `layout.footprint` for how far off); None without facts."""
        if facts is None or not facts.weights:
            return None
        repacked = layout.repacked(model, facts, processor)
        return layout.footprint(layout.layout(model, facts), facts, repacked)

    def wish(self, model: ModelConfig) -> Wish:
        """What `-ngl 0`, `--device`, `--split-mode`, `--main-gpu` and `--tensor-split` come to."""
        return devices.wish(model)

    def split(self, model: ModelConfig, facts: ModelFacts | None, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """By size (see `devices.split`); None without facts."""
        if facts is None or not facts.weights:
            return None
        return devices.split(layout.layout(model, facts), facts, sizes)


def _chosen(
    model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None
) -> Iterator[tuple[str, ...]]:
    """Our flags that this build knows and about which the user has said nothing."""
    for names, *words in (*_wanted(model, facts, build, port), *devices.wanted(model, build, place)):
        known = next((name for name in names if not build.flags or name in build.flags), None)
        if known is not None and not flags.given(model.args, names):
            yield (known, *words)
    for _, said in profiles.chosen(model, build, place):
        yield said


def _wanted(
    model: ModelConfig, facts: ModelFacts | None, build: Build, port: int
) -> Iterator[tuple[Names] | tuple[Names, str]]:
    """All that we would say. Left to the engine: its web page (reached through `/upstream`), threads, repacking."""
    plan, kind = layout.layout(model, facts), layout.kind_of(model, facts)
    yield flags.MODEL, str(model.path)
    yield flags.ALIAS, model.served_name or model.id
    yield flags.CONTEXT, str(plan.cells)
    yield flags.SLOTS, str(plan.slots)
    if build.flags and not flags.given(tuple(build.flags), flags.FIT):
        yield flags.GPU_LAYERS, "999"  # builds from before fitting leave the GPU unused by default
    if flags.given(tuple(build.flags), flags.LOAD_MODE):
        # Of these builds' levels, 4 is the first that tells the size of each buffer (`held`). A request then takes some
        # 20 lines more, none with its text. Builds from before tell it always, and have debugging at that level.
        yield flags.VERBOSITY, "4"
    if plan.swa_full:
        yield (flags.SWA_FULL,)
    if kind is Kind.CHAT:
        yield (flags.JINJA,)  # tools need it where it is not the default; it must stand before a user's --chat-template
    else:
        yield (flags.RERANK if kind is Kind.RERANK else flags.EMBEDDING,)
        yield flags.BATCH, str(plan.ubatch)
        yield flags.UBATCH, str(plan.ubatch)
    if model.mmproj is not None:
        yield flags.MMPROJ, str(model.mmproj)
    # By default any web page may read what a server on this machine answers.
    yield flags.CORS, f"http://127.0.0.1:{port}"


def _environment(model: ModelConfig, place: Place | None) -> dict[str, str]:
    """Progress mode, which llama-server has for children of its own router (undocumented).

    It writes lines to stdout, and ends at once when its stdin closes. So it needs a launcher that holds stdin, as our
    keeper does, and closes it instead of sending SIGTERM: that alone would wait for stdin too, and after both at once
    one in ten or so aborts (b11434) and keeps its memory until a core file is written. Elsewhere stdin is /dev/null.
    """
    mode = {PROGRESS: "1"} if model.launcher in {None, "process"} else {}
    return {**mode, **visible.environment(place, model.env), **model.env}


def _count(number: object) -> int | None:
    return number if isinstance(number, int) and number > 0 else None
