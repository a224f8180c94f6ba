"""Advice about one model: what is known to go badly or to be better, by its settings, files and start script (G4).

Pure: whoever calls has read the files. `check` prints it beside the model, `doctor` among its findings. Only what is
true of this model is said; what would keep it from loading at all is a problem and not told here.
Sources: the original's "Performance Tips" and "Troubleshooting", and what was measured on its engines.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from roundhouse.app import start_script
from roundhouse.core.model import Kind
from roundhouse.engines import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.app.start_script import Launch
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import ModelFacts

GIB = 1024**3
LARGE = 60 * GIB
"""Bytes of weights of the 123B class, where quantisation decides whether anything fits beside it."""
SLOW = 16 * GIB
"""Bytes of weights that take a client's patience to load: some 20 s and more."""
SHORT = 600.0
"""Seconds of `ttl` below which a model is started again at each pause of its users."""
CHOOSING = frozenset({"llamacpp", "sglang", "vllm"})
"""Engines that a profile has something to choose for."""
EVERYWHERE = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 -- compared with, not bound to
FRACTIONS = ("--mem-fraction-static", "--gpu-memory-utilization")
CACHE_MODES = re.compile(r"FP16|FP8|Q[468]|[2-8],[2-8]", re.IGNORECASE)
"""Cache precisions that TabbyAPI knows; it takes others for FP16 without a word."""
MOST_BITS = 6.0
"""Bits per weight above which EXL2 costs memory without answers that differ."""

_WIDE = re.compile(r"(Q[5-9]|Q\d\d|F16|BF16|F32)")
_WHOLE_TYPES = frozenset({"bfloat16", "float16", "float32"})
_BITS = re.compile(r"EXL2 ([\d.]+) bpw")


class Advice(NamedTuple):
    """One piece: what is so, what to do, and whether it does harm as it is (`grave`)."""

    what: str
    remedy: str
    grave: bool = False

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def advise(model: ModelConfig, facts: ModelFacts | None, script: str | None = None) -> tuple[Advice, ...]:
    """All advice about a model. `script` is the text of its start script."""
    if model.any_of is not None or model.url is not None:
        return ()
    launch = _launch(model, script)
    return (
        *(_script(model, launch) if launch and script is not None else ()),
        *(_command_line(model, launch) if launch else ()),
        *_memory(model, launch),
        *_weights(facts),
        *_context(model, facts),
        *_cache(model),
        *_waiting(model, facts),
        *_profile(model),
        *_kind(model, launch),
    )


def _launch(model: ModelConfig, script: str | None) -> Launch | None:
    """The words that are the user's own, wherever they stand."""
    if script is not None:
        return start_script.launch_in(script)
    words = (*shlex.split(model.command or ""), *model.args)
    return start_script.Launch(words, replaces_shell=True) if words else None


def _script(model: ModelConfig, launch: Launch) -> Iterator[Advice]:
    """What only scripts get wrong: for a `path:` Roundhouse writes the command itself."""
    if not launch.replaces_shell:
        yield Advice(
            "its start script does not `exec` the engine, so a SIGTERM for the script ends the shell alone",
            f"write `exec {launch.words[0]} …` (Roundhouse itself signals the whole tree)",
        )
    if model.engine == "sglang" and not launch.has("--sleep-on-idle"):
        yield Advice(
            "its start script lacks --sleep-on-idle: each SGLang scheduler then burns a whole core while idle",
            "add --sleep-on-idle; it costs 1 to 2 ms on the first request after a pause",
            grave=True,
        )
    yield from _port(model, launch.value("--port", "-p"))


def _port(model: ModelConfig, written: str | None) -> Iterator[Advice]:
    if written is None or start_script.takes_port(written) or not written.isdecimal():
        return
    expected = model.port or _default_port(model)
    if expected is not None and int(written) != expected:
        yield Advice(
            f"its start script serves on port {written}, but Roundhouse waits for it on port {expected}",
            f"set `port: {written}`, or write --port {expected} in the script",
            grave=True,
        )


def _default_port(model: ModelConfig) -> int | None:
    engine = ENGINES.get(model.engine or "")
    return engine.default_port if engine is not None else None


def _command_line(model: ModelConfig, launch: Launch) -> Iterator[Advice]:
    host = launch.value("--host")
    if host in EVERYWHERE and model.path is None:  # for a `path:` the address is ours, whatever `args` say
        yield Advice(
            f"its command has the engine listen on {host}: other machines reach it past Roundhouse and its keys",
            "write --host 127.0.0.1",
            grave=True,
        )
    if (key := launch.value("--api-key", "--admin-api-key")) is not None and not key.startswith("$"):
        yield Advice(
            "an API key stands on its command line, where every user of this machine can read it",
            "remove it: the engine listens on this machine only; or set `api_key:` and give the key by `env:`",
            grave=True,
        )
    if model.engine == "sglang" and launch.has("--enable-torch-compile"):
        yield Advice(
            "--enable-torch-compile makes each load minutes longer (a 123B model: 4 to 10 minutes instead of 30 s)",
            "remove it for a model that is switched often",
        )


def _memory(model: ModelConfig, launch: Launch | None) -> Iterator[Advice]:
    """What it takes of its device, where that is all of it, or can't be known before it has run."""
    engine = ENGINES.get(model.engine or "")
    fraction = next((f"{name} {text}" for name in FRACTIONS if launch and (text := launch.value(name))), None)
    hidden = model.memory is None and model.command is not None
    share = engine.share(model) if engine is not None else None
    if share is not None:
        told = f" ({fraction})" if fraction else ""
        rest = "so it runs alone there" if share.of == "free" else f"{share.part:.0%} of all that there is"
        yield Advice(
            f"its `args:` have it take its device's memory whatever it needs{told}, {rest}",
            "leave that out for models side by side: Roundhouse then sets a limit that fits",
        )
    elif model.script is not None and model.memory is None:
        yield Advice(
            "nothing says how much memory its script takes, so until that was measured it has its device for itself",
            "set `memory:` to what you expect it to take, and others may stay beside it",
        )
    elif fraction is not None and hidden:
        yield Advice(
            f"{fraction} takes that share of its device, whatever it needs, and Roundhouse does not know of it",
            "set `memory:` to what that is, so that room is made before its start",
            grave=True,
        )
    elif hidden:
        yield Advice(
            "how much memory it needs is known only after its first load", "set `memory:` to what you expect it to take"
        )


def _weights(facts: ModelFacts | None) -> Iterator[Advice]:
    """The original's VRAM tips, for models that they would help."""
    if facts is None or not facts.weights:
        return
    kind, size = facts.quantisation or "", facts.weights
    shown = f"{size / GIB:.0f} GiB"
    if facts.format == "gguf" and size >= LARGE and _WIDE.match(kind):
        yield Advice(
            f"its weights are {kind} and take {shown}", "IQ4_NL or Q4_K_M is what fits well for models of this size"
        )
    elif facts.format == "safetensors" and size >= SLOW and kind in _WHOLE_TYPES:
        yield Advice(
            f"its weights are not quantised ({kind}) and take {shown}",
            "an AWQ version takes about a quarter, and SGLang serves that the fastest",
        )
    elif (bits := _BITS.match(kind)) and float(bits[1]) > MOST_BITS:
        yield Advice(
            f"it has {bits[1]} bits per weight and takes {shown}",
            "EXL2 versions of 3.0 to 6.0 bits leave room for context, or for another model",
        )


def _context(model: ModelConfig, facts: ModelFacts | None) -> Iterator[Advice]:
    asked = model.context or (model.tabby.max_seq_len if model.tabby else None)
    if asked and facts is not None and facts.context and asked > facts.context:
        yield Advice(
            f"its context is set to {asked} tokens, but it was trained for {facts.context}",
            "set no more than that, unless its rope scaling is set up for it: answers to longer prompts fall apart",
        )


def _cache(model: ModelConfig) -> Iterator[Advice]:
    if model.tabby is None:
        return
    mode = model.tabby.cache_mode
    if mode is None:
        yield Advice(
            "its cache is FP16, the default", "`cache_mode: Q8` needs half of that for the same context, Q4 a quarter"
        )
    elif not CACHE_MODES.fullmatch(mode):
        yield Advice(
            f"TabbyAPI knows no cache_mode {mode} and would use FP16 without a word", "write FP16, Q8, Q6 or Q4", True
        )


def _waiting(model: ModelConfig, facts: ModelFacts | None) -> Iterator[Advice]:
    if facts is None or facts.weights < SLOW or model.preload or model.pinned:
        return
    yield Advice(
        f"its first answer after a switch waits for {facts.weights / GIB:.0f} GiB to be read (20 to 60 s as a rule)",
        "give clients a time-out above that; `preload: true` or `pinned: true` spares the wait where it matters",
    )


def _profile(model: ModelConfig) -> Iterator[Advice]:
    """A profile that does not go with how often the model is started."""
    if model.profile == "balanced":
        return
    if model.path is None or model.engine not in CHOOSING:
        yield Advice(
            f"`profile: {model.profile}` changes nothing: it chooses flags of {', '.join(sorted(CHOOSING))}, "
            "where Roundhouse writes the command line",
            "remove it, or give the flags yourself",
        )
    elif model.profile == "fast-start" and (model.pinned or model.preload):
        why = "pinned" if model.pinned else "preloaded"
        yield Advice(
            f"`profile: fast-start` makes its starts short, but it is {why}, so that few ever wait for one",
            "set `profile: balanced`, or `fast-answers`: its answers are what people wait for",
        )
    elif model.profile == "fast-answers" and isinstance(model.ttl, float) and model.ttl < SHORT and not model.pinned:
        yield Advice(
            f"`profile: fast-answers` makes its starts longer, and its `ttl` of {model.ttl:.0f} s makes them frequent",
            "set `ttl: auto` or a longer one, or `profile: balanced`",
        )


def _kind(model: ModelConfig, launch: Launch | None) -> Iterator[Advice]:
    """Nothing can be read of what a script or a command serves, so its kind is taken to be chat."""
    if model.path is not None or model.kind != "auto" or launch is None:
        return
    for kind, names in (
        (Kind.EMBEDDING, ("--embedding", "--embeddings", "--is-embedding")),
        (Kind.RERANK, ("--rerank", "--reranking")),
    ):
        if launch.has(*names):
            yield Advice(
                f"its command serves {kind.value}, which Roundhouse can't see and takes for chat",
                f"set `kind: {kind.value}`",
                True,
            )
