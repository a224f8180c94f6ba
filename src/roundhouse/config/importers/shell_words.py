"""Shell text as words and operators, quotes undone and variables left in: what a shell does before it runs anything.

Knows no command and no variable's value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::?-(.*))?", re.DOTALL)
_OPERATORS = ("&&", "||", ";;", "<<", ">>", ">&", "<&", "&>", ";", "&", "|", "(", ")", "<", ">", "\n")


class UnreadableError(ValueError):
    """The script's quotes do not close; the message says on which line they open."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a word: text as it is, a variable with what stands for it when unset, or what only a shell knows."""

    kind: Literal["text", "variable", "unknown"]
    text: str
    quoted: bool = False
    default: tuple[Piece, ...] | None = None


Raw = tuple[Piece, ...]
"""A word before its variables are filled in."""


def words(text: str) -> list[str]:
    """The words of text that has no variables and no operators, as a shell splits them. Raises UnreadableError."""
    return ["".join(piece.text for piece in token) for token in tokens(text) if not isinstance(token, str)]


def tokens(text: str) -> Iterator[Raw | str]:
    """Words, and operators as text. Raises UnreadableError."""
    return _Tokens(text).run()


@dataclass(slots=True)
class _Tokens:
    text: str
    at: int = 0

    def run(self) -> Iterator[Raw | str]:
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\r":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif operator := self.operator():
                self.at += len(operator)
                yield operator
            else:
                yield self.word()

    def operator(self) -> str:
        return next((name for name in _OPERATORS if self.text.startswith(name, self.at)), "")

    def word(self) -> Raw:
        pieces: list[Piece] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\r" or (self.operator() and not self.redirection(pieces)):
                break
            pieces += self.piece(char)
        return tuple(pieces)

    def redirection(self, pieces: list[Piece]) -> bool:
        """`2>` is one operator: the figure before it is no word."""
        number = len(pieces) == 1 and pieces[0].text.isdigit() and not pieces[0].quoted
        if not (number and self.text[self.at] in "<>"):
            return False
        pieces[0] = Piece("unknown", self.operator())
        self.at += len(self.operator())
        return True

    def piece(self, char: str) -> list[Piece]:
        if char == "'":
            return [Piece("text", self.until("'", self.at + 1), quoted=True)]
        if char == '"':
            return self.double()
        if char == "\\":
            self.at += 2
            follower = self.text[self.at - 1 : self.at]
            return [] if follower == "\n" else [Piece("text", follower, quoted=True)]
        if char in "$`":
            return [self.dollar(quoted=False)]
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in " \t\r'\"\\$`" and not self.operator():
            self.at += 1
        return [Piece("text", self.text[begin : self.at])]

    def until(self, end: str, begin: int) -> str:
        found = self.text.find(end, begin)
        if found < 0:
            raise UnreadableError(
                f"line {self.text.count(chr(10), 0, self.at) + 1}: {self.text[self.at]} is never closed"
            )
        self.at = found + len(end)
        return self.text[begin:found]

    def double(self) -> list[Piece]:
        """A text in double quotes: variables are filled in, and a backslash escapes only what would mean something."""
        start = self.at
        pieces = [Piece("text", "", quoted=True)]
        self.at += 1
        while True:
            char = self.text[self.at : self.at + 1]
            if not char:
                self.at = start
                self.until('"', len(self.text))
            if char == '"':
                self.at += 1
                return pieces
            if char in "$`":
                pieces.append(self.dollar(quoted=True))
                continue
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in {"$", "`", '"', "\\", "\n"}:
                self.at += 1
                char = self.text[self.at].replace("\n", "")
            self.at += 1
            pieces.append(Piece("text", char, quoted=True))

    def dollar(self, *, quoted: bool) -> Piece:
        rest = self.text[self.at :]
        if rest.startswith("`"):
            return Piece("unknown", f"`{self.until('`', self.at + 1)}`")
        if rest.startswith("$("):
            return Piece("unknown", self.balanced("(", ")"))
        if rest.startswith("${"):
            return _braced(self.balanced("{", "}"), quoted=quoted)
        if name := _NAME.match(rest, 1):
            self.at += name.end()
            return Piece("variable", name[0], quoted=quoted)
        if rest[1:2] in set("0123456789@*#?$!-'\""):
            self.at += 2
            return Piece("unknown", rest[:2])
        self.at += 1
        return Piece("text", "$", quoted=True)

    def balanced(self, opening: str, closing: str) -> str:
        """`$(...)` or `${...}` to its end; quotes inside may hide a bracket, which makes it longer at most."""
        begin, depth = self.at, 0
        for index in range(begin + 1, len(self.text)):
            depth += (self.text[index] == opening) - (self.text[index] == closing)
            if depth == 0:
                self.at = index + 1
                return self.text[begin : self.at]
        line = self.text.count("\n", 0, begin) + 1
        raise UnreadableError(f"line {line}: ${opening} is never closed")


def _braced(text: str, *, quoted: bool) -> Piece:
    """`${NAME}`, `${NAME:-default}`; other forms are a shell's business."""
    value = _VALUE.fullmatch(text[2:-1])
    if value is None:
        return Piece("unknown", text)
    if value[2] is None:
        return Piece("variable", value[1], quoted=quoted)
    try:
        default = tuple(_Tokens(f'"{value[2]}"').double())
    except UnreadableError:
        return Piece("unknown", text)
    return Piece("variable", value[1], quoted=quoted, default=default)
