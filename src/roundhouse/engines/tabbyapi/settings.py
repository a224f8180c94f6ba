"""What TabbyAPI is asked to load for a model, and what its model card says that it loaded.

Owns the figures: context, cache, precision of the cache. Knows no HTTP and no file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from roundhouse.engines.tabbyapi import replies, split
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig, Tabby
    from roundhouse.ports import ModelFacts, Place

DEFAULT_CONTEXT: Final = 16384
"""Tokens, where nobody says how many. TabbyAPI's own default, all that the model was trained for, can be several times
the weights."""

PAGE: Final = 256
"""Tokens; the cache is a multiple of it ("max_num_tokens must be a multiple of 256")."""

DEFAULT_MODE: Final = "FP16"
DRAFT: Final = "draft_model"
"""The one option with keys of its own: part of a load request, but a section of config.yml."""

_NAMED_MODES: Final = {"FP16": (16.0, 16.0), "Q8": (8.5, 8.5), "Q6": (6.5, 6.5), "Q4": (4.5, 4.5)}
_PAIR: Final = re.compile(r"([2-8])\s*,\s*([2-8])")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is always asked for in so many words: `context` and `cache` in tokens, `mode` of the cache."""

    context: int
    cache: int
    mode: str


@dataclass(frozen=True, slots=True)
class Card:
    """What GET /v1/model says of the loaded model. `name` is only the last part of its folder's path.

    Of a draft model, of gpu_split and most other options it says nothing.
    """

    name: str
    context: int | None = None
    cache: int | None = None
    mode: str | None = None
    slots: int | None = None


def tabby_of(model: ModelConfig) -> Tabby:
    """The `tabby:` part of a model. Raises ConfigError where there is none."""
    if model.tabby is None:
        raise ConfigError(f"Model '{model.id}' has engine: tabbyapi but no `tabby:`; say there where it is.")
    return model.tabby


def basename(tabby: Tabby) -> str:
    """The name by which the model card tells which model is loaded."""
    return (tabby.model_dir / tabby.model_name).name


def wanted(model: ModelConfig, facts: ModelFacts | None) -> Wanted:
    """`max_seq_len`, else `context`, else as trained up to 16384; a cache for one request of that length, else as said.

    All three are always sent: what is left out of a load request is taken from the model's config.json, however large,
    and what is left out of config.yml stays as the model before had it.
    """
    tabby = tabby_of(model)
    context = _said_context(model) or min((facts.context if facts else None) or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if tabby.max_seq_len is None and tabby.options.get("max_seq_len") == -1:  # TabbyAPI's word for "as trained"
        context = (facts.context if facts else None) or context
    cache = _count(tabby.options.get("cache_size")) or -(-context // PAGE) * PAGE
    return Wanted(context, cache, _said_mode(tabby) or DEFAULT_MODE)


def load_request(model: ModelConfig, facts: ModelFacts | None, place: Place | None = None) -> bytes:
    """The body of POST /v1/model/load. Keys that TabbyAPI does not know it ignores without a word."""
    tabby = tabby_of(model)
    said = {**split.options(model, place), **tabby.options}
    return json.dumps({**said, "model_name": tabby.model_name, **_figures(model, facts)}).encode()


def sections(model: ModelConfig, facts: ModelFacts | None, place: Place | None = None) -> dict[str, dict[str, Any]]:
    """What is set in config.yml, by section: `model`, and `draft_model` where the options name one."""
    tabby = tabby_of(model)
    options = {**split.options(model, place), **tabby.options}
    draft = options.pop(DRAFT, None)
    folder = {"model_dir": str(tabby.model_dir), "model_name": tabby.model_name}
    found = {"model": {**options, **folder, **_figures(model, facts)}}
    if isinstance(draft, dict):
        found[DRAFT] = {"draft_model_dir": str(tabby.model_dir), **draft}
    return found


def card_of(body: bytes) -> Card | None:
    """The answer to GET /v1/model; None for any other text."""
    name, told = replies.answer(body, "id"), replies.answer(body, "parameters")
    if not isinstance(name, str) or replies.answer(body, "object") != "model":
        return None
    told = told if isinstance(told, dict) else {}
    mode = told.get("cache_mode")
    return Card(
        name,
        _count(told.get("max_seq_len")),
        _count(told.get("cache_size")),
        mode if isinstance(mode, str) else None,
        _count(told.get("max_batch_size")),
    )


def differences(card: Card, want: Wanted) -> list[str]:
    """In words, where a card says something else than was wanted: `max_seq_len 8192 instead of 16384`."""
    pairs = (
        ("max_seq_len", card.context, want.context),
        ("cache_size", card.cache, want.cache),
        ("cache_mode", _plain(card.mode), _plain(want.mode)),
    )
    return [f"{name} {told} instead of {asked}" for name, told, asked in pairs if told is not None and told != asked]


def proven(card: Card, model: ModelConfig, want: Wanted, place: Place | None = None) -> bool:
    """Whether a card leaves no doubt that this model runs with these settings, so that nothing need be loaded.

    It can't where more was asked than cards tell, or where folders below different ones may have the same last name.
    """
    tabby = tabby_of(model)
    asked = {**split.options(model, place), **tabby.options}
    unseen = asked.keys() - {"max_seq_len", "cache_size", "cache_mode"}
    return not unseen and card.name == tabby.model_name and not differences(card, want)


def fits(card: Card, model: ModelConfig) -> bool:
    """Whether a card may be this model's: its name, and every figure that the configuration says."""
    tabby = tabby_of(model)
    want = wanted(model, None)
    said = Wanted(
        want.context if _said_context(model) else card.context or 0,
        want.cache if _said_context(model) or _count(tabby.options.get("cache_size")) else card.cache or 0,
        want.mode,
    )
    return card.name == basename(tabby) and not differences(card, said)


def mode_bits(mode: str) -> tuple[float, float] | None:
    """Bits of a key's and of a value's number in the cache; None for a mode that TabbyAPI does not know.

    Quantised ones have half a bit more: an fp16 scale for 32 numbers (exllamav3's cache/quant.py).
    """
    if found := _PAIR.fullmatch(mode.strip()):
        return int(found[1]) + 0.5, int(found[2]) + 0.5
    return _NAMED_MODES.get(mode)


def is_pair(mode: str) -> bool:
    """Whether keys and values are given apart (`8,6`), which only EXL3's backend takes."""
    return _PAIR.fullmatch(mode.strip()) is not None


def _figures(model: ModelConfig, facts: ModelFacts | None) -> dict[str, Any]:
    want = wanted(model, facts)
    return {"max_seq_len": want.context, "cache_size": want.cache, "cache_mode": want.mode}


def _said_context(model: ModelConfig) -> int | None:
    tabby = tabby_of(model)
    return tabby.max_seq_len or _count(tabby.options.get("max_seq_len")) or model.context


def _said_mode(tabby: Tabby) -> str | None:
    said = tabby.cache_mode or tabby.options.get("cache_mode")
    return None if said is None else str(said)


def _plain(mode: str | None) -> str | None:
    return None if mode is None else "".join(mode.split()).upper()


def _count(number: object) -> int | None:
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None
