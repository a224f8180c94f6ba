"""What is wrong with a configuration file, collected: every problem is found before anything is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.errors import ConfigError, RouterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as File


class EditError(RouterError):
    """A configuration file can't be changed so; it is as it was."""


KeyPath = tuple[str | int, ...]
"""Where a value stands: ('models', 'smol', 'args', 0)."""


def dotted(path: KeyPath) -> str:
    """`models.smol.args[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


@dataclass(slots=True)
class Problems:
    """Problems of one file. `lines` says on which line (from 1) a value stands."""

    source: File
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    _found: list[tuple[int, str]] = field(default_factory=list)
    _paths: list[KeyPath] = field(default_factory=list)

    def add(self, path: KeyPath, text: str, *, line: int | None = None) -> None:
        """Notes one: `text` says what is wrong and what to do."""
        at = self.where(path) if line is None else line
        key = f"{dotted(path)}: " if path else ""
        entry = (at, f"{self.source}:{at}: {key}{text}")
        if entry not in self._found:
            self._found.append(entry)
            self._paths.append(path)

    def at(self, path: KeyPath) -> bool:
        """Whether exactly this value has been complained about."""
        return path in self._paths

    def within(self, path: KeyPath) -> bool:
        """Whether this value or anything in it has been complained about."""
        return any(known[: len(path)] == path for known in self._paths)

    def where(self, path: KeyPath) -> int:
        """The line of a value, else of what it would stand in."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def __len__(self) -> int:
        return len(self._found)

    def raise_if_any(self) -> None:
        """Raises one ConfigError with all problems, a line each, in the order of the file."""
        if self._found:
            raise ConfigError("\n".join(text for _, text in sorted(self._found, key=lambda entry: entry[0])))
