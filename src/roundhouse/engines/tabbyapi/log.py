"""What TabbyAPI's log says: the stage of a load at the start, and why it ended.

Lines are of commits 84bb1ce and e632af4. Without a terminal it logs no fractions, and old versions wrap at 80 columns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Progress
from roundhouse.engines import torchlog
from roundhouse.engines.tabbyapi import words

if TYPE_CHECKING:
    from collections.abc import Sequence

STAGES: Final = (
    ("Loading draft model:", Progress(stage="reading the draft model")),
    ("Loading model:", Progress(stage="reading weights")),
    ("Model successfully loaded.", Progress(0.99, "making it ready")),
)
REASONS: Final = (
    (
        re.compile(r"Ports (?P<port>\d+) and (?P<next>\d+) are in use"),
        "port {port} is taken by another program",
    ),
    (
        re.compile(r"Port (?P<port>\d+) is currently in use\. Switching to (?P<next>\d+)"),
        "port {port} is taken by another program, so TabbyAPI went to {next}: end that program",
    ),
    (
        re.compile(r"Inference dependencies for TabbyAPI are not installed"),
        "TabbyAPI's dependencies are not installed: run its start.sh once",
    ),
    (
        re.compile(r"validation errors? for AuthKeys"),
        "its api_tokens.yml holds no usable keys: api_key and admin_key have to be texts in quotes",
    ),
    (
        re.compile(r"validation errors? for TabbyConfigModel (?P<key>[\w.]+) (?P<why>.+?)(?: \[type=|$)"),
        "TabbyAPI does not take {key} of its config.yml ({why})",
    ),
    (
        re.compile(r"couldn't load because of the following error: (?P<why>.{1,200})"),
        "its config.yml is not YAML ({why})",
    ),
    (
        re.compile(r"ModuleNotFoundError: No module named '(?P<name>[^']+)'"),
        "its Python has no module '{name}': name the one of its venv in `engines.tabbyapi.python`",
    ),
)
"""The first that is found anywhere wins. Searched in lines joined by single spaces."""

NO_CHILD: Final = re.compile(r"(?!)(?P<code>)")
"""It has no processes of its own."""
ERROR: Final = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt): (?P<what>.+)$")


def progress(line: str) -> Progress | None:
    """A stage; the fractions of a load by the API come from its stream."""
    return next((told for sign, told in STAGES if sign in line), None)


def failure(lines: Sequence[str]) -> str:
    """The reason in words, without a full stop; '' when the log tells none (it was killed, say)."""
    text = " ".join(" ".join(lines).split())
    for pattern, sentence in REASONS:
        if found := pattern.search(text):
            return sentence.format(**found.groupdict())
    raised = next((found["what"] for line in reversed(lines) if (found := ERROR.match(line.strip()))), None)
    if raised is None and (found := words.OUT_OF_MEMORY.search(text) or words.NO_EXL2.search(text)):
        raised = text[found.start() : found.start() + 200]
    return words.load_error(raised) if raised else ""


def out_of_memory(lines: Sequence[str]) -> bool:
    """Whether the reason is want of memory: of the GPU, or, while it reads weights, of the machine."""
    text = " ".join(" ".join(lines).split())
    return words.OUT_OF_MEMORY.search(text) is not None or torchlog.out_of_memory(lines, torchlog.MEMORY, NO_CHILD)
