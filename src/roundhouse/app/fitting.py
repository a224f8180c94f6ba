"""One model on this machine: where it fits, with how much context, and how long a load takes. Starts nothing.

Of the same parts as the serving program: claims, places, what was learned, and the links that it measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from roundhouse.app import claims, specs
from roundhouse.app.places import RAM, spots
from roundhouse.core.model import is_seat
from roundhouse.core.switching import Floor
from roundhouse.runtime import processor
from roundhouse.runtime.files import weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.app.places import Box
    from roundhouse.app.specs import Looked
    from roundhouse.config.models import ModelConfig
    from roundhouse.core.model import DeviceId
    from roundhouse.observe.past import Past
    from roundhouse.ports import ModelFacts
    from roundhouse.runtime.links import Links

STEP: Final = 256
"""Tokens between two contexts that are tried: in such steps llama.cpp allots them."""


@dataclass(frozen=True, slots=True)
class Loading:
    """How long a load takes, in seconds; None: not known.

    Attributes:
        learned: what the last loads here took.
        disk, memory: the least that its weights need from the disk, and from the page cache.
        rates: bytes per second by link: disk, memory, bus.
    """

    learned: float | None = None
    disk: float | None = None
    memory: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fitting:
    """One model.

    Attributes:
        places: bytes per device in each place that is tried, best first; {} for what others run.
        fits: which of these places are large enough.
        measured: whether the first is what its last loads were seen to hold.
        parts: what the estimate is made of, in bytes; {} where nothing can be said.
        most: the largest context that fits with as many slots as it has, and with one; None: can't be said, or it is
            not ours to choose.
        trained: tokens that it was trained for.
    """

    places: tuple[Mapping[DeviceId, int], ...]
    fits: tuple[bool, ...]
    measured: bool
    parts: Mapping[str, int]
    most: int | None
    most_alone: int | None
    trained: int | None
    loading: Loading

    @property
    def somewhere(self) -> bool:
        """Whether it fits in one of its places."""
        return any(self.fits)


def fitting(model: ModelConfig, box: Box, past: Past, links: Links) -> Fitting:
    """All of it. Reads the model's headers, and, where a disk's speed is not known, a second of its weights."""
    looked = specs.look(model)
    spec = specs.make_spec(model, looked, box, past.expected, past.peaks)
    places = tuple(_bytes(claim) for claim in (spec.claim, *spec.elsewhere))
    guessed = specs.make_spec(model, looked, box, {}, {})
    most, alone = _contexts(model, looked.facts, box)
    return Fitting(
        places=places,
        fits=tuple(_fits(place, box) for place in places),
        measured=places[0] != _bytes(guessed.claim),
        parts=_parts(model, looked.facts, box),
        most=most,
        most_alone=alone,
        trained=looked.facts.context if looked.facts else None,
        loading=_loading(model, looked, spec.expected, places[0], links),
    )


def largest_context(model: ModelConfig, facts: ModelFacts, box: Box, slots: int) -> int | None:
    """Tokens of one request, as trained at most, with so many at once; 0: not even the least, None: not ours to say."""
    most = facts.context
    if not most or specs.engine_of(model).plan(_with(model, STEP, slots), facts).context != STEP:
        return None
    if _fits_with(model, facts, box, most, slots):
        return most
    low, high = 0, -(-most // STEP)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits_with(model, facts, box, middle * STEP, slots) else (low, middle)
    return low * STEP


def _contexts(model: ModelConfig, facts: ModelFacts | None, box: Box) -> tuple[int | None, int | None]:
    if facts is None or not facts.weights or not _estimated(model):
        return None, None
    slots = specs.engine_of(model).plan(model, facts).slots or 1
    most = largest_context(model, facts, box, slots)
    return most, most if slots == 1 else largest_context(model, facts, box, 1)


def _with(model: ModelConfig, context: int, slots: int) -> ModelConfig:
    tabby = model.tabby.model_copy(update={"max_seq_len": context}) if model.tabby else None
    return model.model_copy(update={"context": context, "slots": slots, "tabby": tabby})


def _fits_with(model: ModelConfig, facts: ModelFacts, box: Box, context: int, slots: int) -> bool:
    places = claims.claims(_with(model, context, slots), facts, box, {})
    return any(_fits(place, box) for place in places)


def _bytes(claim: Mapping[str, int]) -> dict[DeviceId, int]:
    return {name: size for name, size in claim.items() if size and not is_seat(name)}


def _fits(place: Mapping[DeviceId, int], box: Box) -> bool:
    return all(size <= box.sizes.get(device, 0) for device, size in place.items())


def _estimated(model: ModelConfig) -> bool:
    """Whether what it takes follows from its files: not with figures of the user's, nor for a share of a device."""
    ours = model.script is None and model.launcher != "attached" and not model.memory
    return ours and specs.engine_of(model).share(model) is None


def _parts(model: ModelConfig, facts: ModelFacts | None, box: Box) -> dict[str, int]:
    if not _estimated(model):
        return {}
    engine = specs.engine_of(model)
    first, _ = spots(model, box)
    computes = processor.flags() if first[0].devices == (RAM,) else frozenset[str]()
    return {name: size for name, size in engine.parts(model, facts, computes).items() if size}


def _loading(
    model: ModelConfig, looked: Looked, learned: float | None, place: Mapping[DeviceId, int], links: Links
) -> Loading:
    source = specs.engine_of(model).source(model)
    if looked.facts is None or source is None or not looked.facts.weights:
        return Loading(learned)
    try:
        rates = links.of(max(weights_of(source), key=lambda file: file.stat().st_size))
    except (OSError, ValueError):
        return Loading(learned)
    bus, weights = links.to(place), looked.facts.weights
    told = {"disk": rates.disk, "memory": rates.cache, "bus": bus}
    return Loading(
        learned,
        Floor(weights, 0, rates.disk, rates.cache, bus).seconds,
        Floor(weights, weights, rates.disk, rates.cache, bus).seconds,
        {name: rate for name, rate in told.items() if rate},
    )
