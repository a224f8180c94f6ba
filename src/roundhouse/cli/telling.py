"""An answer on the terminal as it comes: status replaced in place, reasoning dim, the answer, its performance line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from roundhouse.cli.conversation import Kind, answer
from roundhouse.cli.screen import clean, err

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from rich.console import Console
    from rich.status import Status

    from roundhouse.cli.client import Client
    from roundhouse.cli.conversation import Message, Piece


class Telling:
    """One answer being told. Leaving it ends the line that is open, however it ended.

    Attributes:
        text: the answer so far, without status and reasoning.
    """

    def __init__(self) -> None:
        self.text = ""
        self._console: Console = err()
        self._live: Status | None = None
        self._terminal = sys.stdout.isatty()
        self._open = ""  # which stream has an unfinished line: "", "out" or "err"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quiet()
        if not isinstance(error, BrokenPipeError):
            self._end_line()

    def tell(self, client: Client, model: str, messages: list[Message]) -> None:
        """Asks and tells. Raises Failed, NotRunning, Refused; KeyboardInterrupt ends the request."""
        coming = answer(client, model, messages)
        try:
            self._status(f"asking {model}" if self._console.is_terminal else "")
            self._tell(coming)
        finally:
            coming.close()

    def remark(self, text: str) -> None:
        """A line of ours below the answer."""
        self._quiet()
        self._end_line()
        self._console.print(clean(text), style="dim")

    def _tell(self, coming: Iterator[Piece]) -> None:
        for piece in coming:
            match piece.kind:
                case Kind.STATUS:
                    self._status(clean(piece.text))
                case Kind.READY | Kind.PERFORMANCE:
                    self.remark(piece.text)
                case Kind.REASONING:
                    self._reasoning(clean(piece.text))
                case Kind.TEXT:
                    self._text(piece.text)

    def _status(self, line: str) -> None:
        """Replaces the status on a terminal; a line each elsewhere."""
        if not line:
            return
        if not self._console.is_terminal:
            self._console.print(line)
        elif self._live is None:
            from rich.text import Text

            self._live = self._console.status(Text(line, style="dim"))
            self._live.start()
        else:
            self._live.update(line)

    def _reasoning(self, text: str) -> None:
        self._quiet()
        self._switch("err")
        self._console.print(text, end="", style="dim")
        self._open = "" if text.endswith("\n") else "err"

    def _text(self, text: str) -> None:
        self._quiet()
        self._switch("out")
        self.text += text
        print(clean(text) if self._terminal else text, end="", flush=True)
        self._open = "" if text.endswith("\n") else "out"

    def _switch(self, to: str) -> None:
        if self._open not in {"", to}:
            self._end_line()

    def _end_line(self) -> None:
        if self._open == "out":
            print(flush=True)
        elif self._open == "err":
            self._console.print()
        self._open = ""

    def _quiet(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
