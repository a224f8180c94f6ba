"""TabbyAPI: a process that takes models in and out by its admin API, or is restarted with another config.yml (spec C6).

Pure. What is asked for is in `settings`, the conversations in `talks`, changes of files in `configfile` and `keyfile`.
Facts are of commits 84bb1ce, 79126f9 and e632af4, run with a stand-in for exllamav3, without a GPU.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from roundhouse.engines.tabbyapi import configfile, keyfile, log, memory, preflight, replies, settings, split
from roundhouse.engines.tabbyapi.talks import TabbyLoads
from roundhouse.ports import Command, Edit, Engine, KeyFile, Served

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import Progress
    from roundhouse.ports import Build, Loads, ModelFacts, Place, Wish

CARD: Final = "/v1/model"
HEALTHY: Final = frozenset({"healthy", "unhealthy"})


NO_CHECKOUT = (
    "TabbyAPI is to load it, and nothing says where that is; set `engines.tabbyapi.dir` or the model's `tabby:`"
)


class TabbyAPI(Engine):
    """`engine: tabbyapi`. A request ends when its client leaves, so none needs to be streamed for that (A8)."""

    name = "tabbyapi"
    binaries: tuple[str, ...] = ()
    module: str | None = None
    default_port = 5000
    stop_grace = 30.0
    streams_to_abort = False
    facts_paths: tuple[str, ...] = (CARD,)

    def command(
        self, model: ModelConfig, facts: ModelFacts | None, build: Build, port: int, place: Place | None = None
    ) -> Command:
        """`python main.py` in the checkout; settings of ours by environment, which wins over config.yml.

        Flags would too, but are all ignored beside a user's `--config`. Its start.sh asks questions and installs.
        """
        tabby = settings.tabby_of(model)
        edits: tuple[Edit, ...] = ()
        if tabby.mode == "config":
            change = partial(configfile.edited, sections=settings.sections(model, facts, place))
            edits = (Edit(tabby.dir / configfile.NAME, change),)
        return Command(
            (*build.argv, preflight.MAIN, *model.args),
            {**_environment(model, port), **split.environment(place), **model.env},
            cwd=str(tabby.dir),
            unit=model.service,
            edits=edits,
        )

    def ready_paths(self, model: ModelConfig) -> tuple[str, ...]:
        """The process, which takes models afterwards; else (`mode: config`, a script) the model it started with."""
        usual = "/health" if self.loads(model) is not None else CARD
        return (model.health or usual,)

    def is_ready(self, status: int, body: bytes) -> bool:
        """A model's card, or TabbyAPI's kind of health report, whatever it reports.

        After one failed answer /health stays at 503 until a restart, although the next load works again.
        """
        if status == 200 and settings.card_of(body) is not None:
            return True
        return status in {200, 503} and replies.answer(body, "status") in HEALTHY

    def served(self, replies: Mapping[str, bytes]) -> Served:
        """The model's card."""
        card = settings.card_of(replies.get(CARD, b""))
        return Served() if card is None else Served(card.slots, card.context, card.name)

    def serves(self, model: ModelConfig, replies: Mapping[str, bytes]) -> bool:
        """The loaded folder's last name and the figures that were configured; more the card does not tell.

        Where the model's own tabby_config.yml overrules those figures the answer is no, and it is loaded once more.
        What a start script loads is not known: any model will do.
        """
        card = settings.card_of(replies.get(CARD, b""))
        return card is not None and (model.tabby is None or settings.fits(card, model))

    def loads(self, model: ModelConfig) -> Loads | None:
        """By the admin API; not in `mode: config`, where a process is started for each model."""
        return TabbyLoads() if model.tabby is not None and model.tabby.mode == "api" else None

    def keys(self, model: ModelConfig) -> KeyFile | None:
        """`api_tokens.yml` in the checkout, which must be the process's working directory."""
        if model.tabby is None:
            return None
        return KeyFile(model.tabby.dir / keyfile.NAME, keyfile.read, keyfile.fresh)

    def source(self, model: ModelConfig) -> Path | None:
        """The model's folder."""
        return preflight.source(model.tabby) if model.tabby is not None else model.path

    def witnesses(self, model: ModelConfig) -> tuple[Path, ...]:
        """Parts of the checkout and the model's folders."""
        return preflight.witnesses(model) if model.tabby is not None else ()

    def objection(self, model: ModelConfig, facts: ModelFacts | None, present: frozenset[Path]) -> str | None:
        """What TabbyAPI would find out only after it has unloaded the model before, or never."""
        if model.tabby is None:
            return NO_CHECKOUT if model.script is None else None
        return preflight.objection(model, facts, present)

    def progress(self, line: str) -> Progress | None:
        """Stages; fractions come with the load stream."""
        return log.progress(line)

    def failure(self, lines: Sequence[str]) -> str:
        """The reason in words, without a full stop; '' when the log tells none."""
        return log.failure(lines)

    def out_of_memory(self, lines: Sequence[str]) -> bool:
        """By its own words."""
        return log.out_of_memory(lines)

    def plan(self, model: ModelConfig, facts: ModelFacts | None) -> Served:
        """The context that is always asked for; how many requests at once is its own to say."""
        return Served(model.slots, settings.wanted(model, facts).context if model.tabby is not None else model.context)

    def footprint(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset()
    ) -> int | None:
        """Estimated bytes (see `memory.footprint` for how far off); None without facts, or for a start script."""
        return sum(self.parts(model, facts, processor).values()) or None

    def parts(
        self, model: ModelConfig, facts: ModelFacts | None, processor: frozenset[str] = frozenset()
    ) -> Mapping[str, int]:
        """By `memory.parts`."""
        if model.tabby is None or facts is None or not facts.weights:
            return {}
        return memory.parts(model, facts)

    def wish(self, model: ModelConfig) -> Wish:
        """What the options say of `gpu_split` and its like."""
        return split.wish(model)

    def split(self, model: ModelConfig, facts: ModelFacts | None, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """Each its part, and the program's own memory on each."""
        whole = self.footprint(model, facts)
        if whole is None:
            return None
        parts = ((whole - memory.PROGRAM) * size // sum(sizes) for size in sizes)
        return tuple(part + memory.PROGRAM for part in parts)


def _environment(model: ModelConfig, port: int) -> dict[str, str]:
    """Scalars only: TabbyAPI can't read lists from its environment. An empty name is none, whatever the file says.

    Inline loading would let any request change models behind our back.
    """
    tabby = settings.tabby_of(model)
    ours = {
        "TABBY_NETWORK_HOST": "127.0.0.1",
        "TABBY_NETWORK_PORT": str(port),
        "TABBY_MODEL_INLINE_MODEL_LOADING": "false",
        "TABBY_LOG_CONSOLE_WIDTH": "300",
    }
    if tabby.mode == "config":
        return ours
    return {
        **ours,
        "TABBY_MODEL_MODEL_DIR": str(tabby.model_dir),
        "TABBY_MODEL_MODEL_NAME": "",
        "TABBY_DRAFT_MODEL_DRAFT_MODEL_DIR": str(tabby.model_dir),
    }
