"""What an importer gives back: models and settings in the words of our configuration, and what they could not say.

Knows no file and no format; `writing` makes the text of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Kind = Literal["original", "llama-swap", "ollama", "folder"]


class Template(str):
    """Text in which `${PORT}`, `${ID}` and `${NAME}` mean what they mean in our file.

    Other text is written so that it is read back letter by letter. Make one with `template`.
    """

    __slots__ = ()


def template(*parts: str) -> Template:
    """Templates as they are, other text with its dollar signs escaped, together."""
    return Template("".join(part if isinstance(part, Template) else part.replace("$", "$$") for part in parts))


PORT = Template("${PORT}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model.

    Attributes:
        body: its keys, as our file has them.
        origin: where it stood, such as `router.py:31`.
        lost: sentences about what was there and is not carried over.
        advice: sentences about what would better be changed.
    """

    body: Mapping[str, Any]
    origin: str
    lost: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What was found in one source.

    Attributes:
        top: keys beside `models`, in the order of the file.
        remarks: a sentence for keys of `top`, written above them.
        variables: environment variables that the result mentions and that `serve` needs.
        secret: whether it holds keys, or hashes of keys, so that nobody else may read the file.
    """

    source: Path
    kind: Kind
    models: Mapping[str, Entry]
    top: Mapping[str, Any] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    secret: bool = False

    def all_lost(self) -> tuple[str, ...]:
        """All that is not carried over; sentences about a model begin with its id."""
        return (*self.lost, *(f"{name}: {text}" for name, entry in self.models.items() for text in entry.lost))

    def all_advice(self) -> tuple[str, ...]:
        """All advice; sentences about a model begin with its id."""
        return (*self.advice, *(f"{name}: {text}" for name, entry in self.models.items() for text in entry.advice))
