"""What a profile has an engine told that reads its options with argparse: what that buys and costs. Knows no option."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from roundhouse.engines import options
from roundhouse.ports import Choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from roundhouse.engines.options import Option


class Trade(NamedTuple):
    """An option with its values, and half sentences of what it buys and what it costs."""

    said: tuple[Option, *tuple[str, ...]]
    buys: str
    costs: str


def choices(trades: Iterable[Trade], args: Sequence[str], known: frozenset[str]) -> tuple[Choice, ...]:
    """Those that are said to a build; `args` and `known` as in `options.chosen`."""
    words = ((trade, tuple(options.chosen([trade.said], args, known))) for trade in trades)
    return tuple(Choice(" ".join(said), trade.buys, trade.costs) for trade, said in words if said)
