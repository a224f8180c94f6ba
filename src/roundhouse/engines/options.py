"""What a list of arguments says to a program that reads it with Python's argparse, as SGLang and vLLM do.

Knows how options are written (`--name value`, `--name=value`, `_` for `-`), and no option by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Said = tuple["Option", *tuple[str, ...]]

UNITS: Final = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20, "g": 10**9, "G": 2**30, "Ki": 2**10, "Mi": 2**20}
"""`16k` is 16,000, and 16,384 is `16K` to vLLM and `16Ki` to SGLang."""


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be said to an engine.

    Attributes:
        names: what it is called, the name of newer versions first.
        instead: other options by which a user decides the same, so that ours is left out.
    """

    names: tuple[str, ...]
    instead: tuple[str, ...] = ()


def given(args: Sequence[str], option: Option) -> bool:
    """Whether the user has said something about this."""
    decided = {*option.names, *option.instead}
    return any(_name(word) in decided for word in args)


def value(args: Sequence[str], option: Option) -> str | None:
    """The value of the last time this option is given, which is the one that counts; None if it is not."""
    for at in reversed(range(len(args))):
        if _name(args[at]) in option.names:
            _, equals, behind = args[at].partition("=")
            return behind if equals else next(iter(args[at + 1 : at + 2]), None)
    return None


def number(args: Sequence[str], option: Option) -> int | None:
    """The same as a whole number above 0; None also where it is none: `auto`, say, or the engine will complain."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)(Ki|Mi|[kKmMgG]?)", value(args, option) or "")
    return int(float(found[1]) * UNITS[found[2]]) or None if found else None


def part(args: Sequence[str], option: Option) -> float | None:
    """The same as a fraction, above 0 and at most 1; None also where it is none."""
    try:
        found = float(value(args, option) or "")
    except ValueError:
        return None
    return found if 0 < found <= 1 else None


def chosen(wanted: Iterable[Said], args: Sequence[str], known: frozenset[str]) -> Iterator[str]:
    """The words of what we want said, less what the user has decided and what the build does not know.

    Args:
        wanted: options, with their value where they take one.
        args: the user's.
        known: option names of the build; empty means that nobody asked it, and it is taken for the newest.
    """
    for option, *values in wanted:
        name = next((name for name in option.names if not known or name in known), None)
        if name is not None and not given(args, option):
            yield name
            yield from values


def _name(word: str) -> str:
    return word.partition("=")[0].replace("_", "-") if word.startswith("-") else ""
