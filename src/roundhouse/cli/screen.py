"""How commands print: results on stdout, what is only for people's eyes on stderr, colour on terminals alone."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDE = 400
"""Columns where there is no terminal, so that nothing is cut or wrapped for programs that read it."""
SILENT = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters: what models and engines print must not steer the terminal."""
STYLES = {"ready": "green", "loading": "yellow", "draining": "yellow", "stopping": "yellow", "failed": "red"}
"""Colours of model states."""


def out() -> Console:
    """The console for results."""
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDE)


def err() -> Console:
    """The console for progress, status and remarks."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_json(value: object) -> None:
    """JSON on stdout: indented for a person, one line for a program."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def clean(text: str) -> str:
    """The text without control characters."""
    return text.translate(SILENT)


def table(names: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Sequence[str] = ()) -> Table:
    """A table without lines; the columns named in `right` hold figures."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    return made


def state(word: str) -> Text:
    """A model's state in its colour."""
    return Text(word, style=STYLES.get(word, ""))


def size(count: int | None) -> str:
    """Bytes for people: `440 MiB`, `7.9 GiB`, '' for None."""
    if count is None:
        return ""
    mib = count / 2**20
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds for people: `42 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
