"""What `profile:` has llama-server told, and why: data. The figures are in docs/switching.md (`make bench-starts`).

Only flags are here with which greedy answers and their log probabilities stay the same to the bit. Two others were
tried: `--no-repack` starts faster, but computes with other kernels, whose answers are others, and prompts several times
slower; speculation from n-grams computes several tokens at once, which rounds otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from roundhouse.engines.llamacpp import flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.config.models import ModelConfig, Profile
    from roundhouse.engines.llamacpp.flags import Names
    from roundhouse.ports import Build, Place


class Trade(NamedTuple):
    """What is said, in the newest form that a build knows; flags by which a user decides it; what it buys and costs.

    Not `on_gpus` is what would do nothing for weights that lie there.
    """

    forms: tuple[tuple[str, ...], ...]
    decided: Names
    buys: str
    costs: str
    on_gpus: bool = True


_NO_FIT: Final = Trade(
    tuple((name, "off") for name in flags.FIT),
    flags.FIT,
    "the file's head is read once instead of twice, 0.1 to 1.2 s of a start",
    "nothing, as Roundhouse makes the room; a model runs the same way each time",
)
_NO_WARMUP: Final = Trade(
    (("--no-warmup",),),
    flags.NO_WARMUP,
    "ready without computing a token first",
    "the first answer does that work instead, and reads what of the weights is not in memory yet",
)
_LOCKED: Final = Trade(
    (*((name, "mmap+mlock") for name in flags.LOAD_MODE), ("--mlock",)),
    (*flags.LOAD_MODE, "--mlock", *flags.MMAP, *flags.NO_MMAP, "-dio", "--direct-io", "-ndio", "--no-direct-io"),
    "weights stay in RAM however short that gets, so no answer after a pause waits for the disk",
    "a start reads the whole file; where it may not lock memory (LimitMEMLOCK=), it says so and does without",
    on_gpus=False,
)

TRADES: Final[dict[Profile, tuple[Trade, ...]]] = {
    "fast-start": (_NO_FIT, _NO_WARMUP),
    "balanced": (_NO_FIT,),
    "fast-answers": (_NO_FIT, _LOCKED),
}


def chosen(model: ModelConfig, build: Build, place: Place | None) -> Iterator[tuple[Trade, tuple[str, ...]]]:
    """What of the model's profile is said to a build in a place, with its words."""
    on_gpus = place is not None and bool(place.gpus or place.free)
    for trade in TRADES[model.profile]:
        words = next((form for form in trade.forms if not build.flags or form[0] in build.flags), None)
        if words is not None and not flags.given(model.args, trade.decided) and (trade.on_gpus or not on_gpus):
            yield trade, words
