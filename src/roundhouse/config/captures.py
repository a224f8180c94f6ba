"""Whether bodies of requests and answers are kept, and how much of them."""

from typing import Literal

from roundhouse.config.fields import Duration, Size
from roundhouse.config.section import Section


class Captures(Section):
    """Copies of requests and answers, to find out what a client really sends. They hold people's texts."""

    store: Literal["off", "errors", "all"] = "off"
    """Of which requests: of none, of those that ended with an error, of all."""
    body: Size = 64 * 1024
    """Most that is kept of each body; the rest is cut off."""
    budget: Size = 256 * 1024**2
    """Most space they may take; the oldest go."""
    keep: Duration = 7 * 86_400.0
    """They are deleted after so long."""
