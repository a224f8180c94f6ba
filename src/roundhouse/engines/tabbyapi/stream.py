"""The stream that answers a load request: events cut out of it, and how far they say the load is.

`data:` lines of JSON, CRLF, no event names, no [DONE]; `: ping` comments between them since July 2026.
"""

from __future__ import annotations

import json
from typing import Final

from roundhouse.core.model import Progress
from roundhouse.engines.tabbyapi import replies

SHARES: Final = {"vision": 0.05, "draft": 0.1}
"""What a part counts for in the whole; the model itself has the rest. Small beside it in bytes, and how many more parts
come the stream does not say, so a part's share is fixed."""

STAGES: Final = {
    "vision": "reading the vision projector",
    "draft": "reading the draft model",
    "model": "reading weights",
}
MOST: Final = 0.99
"""Shown until the model card has proven that the model is in: "finished" comes before it can be used."""
LONGEST_LINE: Final = 1024 * 1024
_LARGEST: Final = 1_000_000


class LoadEvents:
    """Reads one load stream, however its bytes are cut.

    Attributes:
        error: what went wrong, in the engine's words; None while nothing has.
        counted: modules were really loaded. A load of what is in already is `1 of 1`, or nothing at all.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        self.counted = False
        self._rest = b""
        self._done = 0.0

    def feed(self, data: bytes) -> Progress | None:
        """Takes a piece; gives how far the load is if the piece told."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_LINE else b""
        told = None
        for line in lines:
            if line.startswith(b"data:"):
                told = self._event(line[5:].strip()) or told
        return told

    def _event(self, data: bytes) -> Progress | None:
        try:
            event: object = json.loads(data)
        except ValueError:
            return None
        match event:
            case {"error": _}:
                self.error = replies.text_of(data) or "it gave no reason"
                return None
            case {"model_type": str(part), "module": int(module), "modules": int(modules), "status": str(status)}:
                return self._module(part, module, modules, finished=status == "finished")
            case _:
                return None

    def _module(self, part: str, module: int, modules: int, *, finished: bool) -> Progress | None:
        if not 0 < module <= modules <= _LARGEST:
            return None
        self.counted = self.counted or modules > 1
        share = SHARES.get(part, 1.0 - self._done)
        fraction = min(MOST, self._done + share * module / modules)
        if finished and part in SHARES:
            self._done = min(self._done + share, MOST)
        return Progress(fraction, STAGES.get(part, f"reading the {part} part"))
