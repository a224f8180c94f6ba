"""Start scripts, read and never run: the commands of a shell script as far as they can be told for certain.

What a shell would only know when it runs (command substitution, conditions, unset variables) is not guessed: such a
word is `None`, and what else can't be told is among the doubts. Knows no engine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roundhouse.config.importers.shell_words import Piece, Raw, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OPENING = frozenset({"if", "for", "while", "until", "case", "select", "{"})
CLOSING = frozenset({"fi", "done", "esac", "}"})
BEFORE_COMMANDS = frozenset({"if", "then", "elif", "else", "while", "until", "do", "{", "!"})
CONTROL = frozenset(
    {*OPENING, *CLOSING, *BEFORE_COMMANDS, "function", "[[", "((", "trap", "eval"}
    | {"declare", "typeset", "local", "readonly", "read", "shift"}
)
"""Words after which what a script does depends on more than its text."""
HARMLESS = frozenset(
    {"[", "test", "set", "echo", "printf", "true", ":", "exit", "ulimit", "umask", "sleep", "mkdir", "date"}
)
"""Commands that change nothing about what is started afterwards."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command: its words, the variables set for it alone, and whether it was started with `exec`."""

    words: tuple[str | None, ...]
    env: Mapping[str, str | None]
    execs: bool


@dataclass(slots=True)
class Script:
    """What a script does.

    Attributes:
        commands: those that may start something, in order.
        exported: the environment that they get.
        folder: where it has changed to; None: nowhere, or not known.
        venv: the Python environment that it activates.
        doubts: what can't be told about it.
    """

    commands: list[Command] = field(default_factory=list)
    exported: dict[str, str | None] = field(default_factory=dict)
    folder: str | None = None
    venv: str | None = None
    doubts: list[str] = field(default_factory=list)

    def doubt(self, text: str) -> None:
        """Notes what can't be told, once."""
        if text not in self.doubts:
            self.doubts.append(text)


def read(text: str, home: str | None) -> Script:
    """What a script does. `home` is its user's folder, None if not known. Raises UnreadableError."""
    reader = _Reader(Script(), {"HOME": home} if home else {})
    for words, operator in _lines(tokens(text)):
        reader.command(words, operator)
    return reader.script


def _lines(found: Iterator[Raw | str]) -> Iterator[tuple[list[Raw], str]]:
    """Simple commands, each with the operator that ends it."""
    line: list[Raw] = []
    for token in found:
        if not isinstance(token, str):
            line.append(token)
        elif token in {"<", ">", ">>", "<<", ">&", "<&", "&>"}:
            line.append((Piece("unknown", token),))
        else:
            yield line, token
            line = []
    yield line, "\n"


@dataclass(slots=True)
class _Reader:
    """Follows a script from its first line to its last."""

    script: Script
    variables: dict[str, str | None]
    depth: int = 0
    after: str = ""

    def command(self, raw: list[Raw], operator: str) -> None:
        sure = not self.depth and self.after not in {"&&", "||"}
        self.after = operator
        self.doubts_of(operator)
        raw = self.uncontrolled(raw)
        if raw and _bare(raw[0]) == "export":
            self.export(raw[1:], sure=sure)
            return
        env: dict[str, str | None] = {}
        while raw and (assigned := _assignment(raw[0])):
            name, value = assigned
            env[name] = self.filled(value)
            raw = raw[1:]
        if not raw:
            for name, text in env.items():
                self.set(name, text if sure else None)
            return
        raw, redirected = _without_redirections(raw)
        if redirected:
            self.script.doubt("its output is redirected")
        words = [word for item in raw for word in self.fields(item)]
        self.run(words, env)

    def uncontrolled(self, raw: list[Raw]) -> list[Raw]:
        """A command without the words of the shell's grammar before it. What is set between them is not certain."""
        while raw and (word := _bare(raw[0])) in CONTROL:
            self.script.doubt(f"it uses {word!r}")
            self.depth += (word in OPENING) - (word in CLOSING)
            raw = raw[1:] if word in BEFORE_COMMANDS else []
        return raw

    def set(self, name: str, value: str | None) -> None:
        """An assignment: an exported variable stays exported."""
        self.variables[name] = value
        if name in self.script.exported:
            self.script.exported[name] = value

    def doubts_of(self, operator: str) -> None:
        if operator in {"(", ")", "|", "&", ";;"}:
            self.script.doubt(f"it uses {operator!r}")

    def run(self, words: list[str | None], env: dict[str, str | None]) -> None:
        execs = False
        while words and words[0] in {"exec", "env", "command", "nohup"}:
            execs = execs or words[0] == "exec"
            if words[0] == "nohup":
                self.script.doubt("it uses nohup")
            words = words[1:]
            while words and words[0] and (assigned := _ASSIGNED.match(words[0])):
                env[assigned[1]] = words[0][assigned.end() :]
                words = words[1:]
        if not words or words[0] in HARMLESS:
            return
        self.known(words, env, execs=execs)

    def known(self, words: list[str | None], env: dict[str, str | None], *, execs: bool) -> None:
        """Does what the command does to the script's own state; others are kept."""
        match words:
            case ["cd", folder]:
                self.change(folder)
            case ["source" | ".", str(path)] if path.endswith("/bin/activate"):
                self.script.venv = path.removesuffix("/bin/activate")
            case ["source" | ".", *_]:
                self.script.doubt("it reads another script")
            case ["unset", *names]:
                for name in names:
                    self.variables.pop(name or "", None)
                    self.script.exported.pop(name or "", None)
            case _:
                self.script.commands.append(Command(tuple(words), env, execs))

    def export(self, raw: list[Raw], *, sure: bool) -> None:
        for item in raw:
            assigned = _assignment(item)
            name = assigned[0] if assigned else self.filled(item)
            if name is None or not _NAME.fullmatch(name):
                self.script.doubt("it exports what can't be told")
                continue
            if assigned:
                self.variables[name] = self.filled(assigned[1]) if sure else None
            self.script.exported[name] = self.variables.get(name)

    def change(self, folder: str | None) -> None:
        if folder is None:
            self.script.doubt("it changes to a folder that can't be told")
            self.script.folder = None
        elif folder.startswith("/") or self.script.folder is None:
            self.script.folder = folder
        else:
            self.script.folder = f"{self.script.folder}/{folder}"

    def filled(self, pieces: Raw) -> str | None:
        values = [self.value(piece) for piece in pieces]
        return None if None in values else "".join(value for value in values if value is not None)

    def value(self, piece: Piece) -> str | None:
        if piece.kind == "text":
            return piece.text
        if piece.kind == "unknown":
            return None
        known = self.variables.get(piece.text)
        # Set and empty counts as unset in `${NAME:-default}`, which is how scripts write it.
        if known or piece.default is None:
            return known
        return None if piece.text in self.variables and known is None else self.filled(piece.default)

    def fields(self, raw: Raw) -> list[str | None]:
        """The words that one becomes: an unquoted variable is split at blanks, and vanishes when empty."""
        raw = self.at_home(raw)
        if any(piece.kind == "text" and not piece.quoted and set(piece.text) & set("*?[") for piece in raw):
            return [None]
        found: list[str] = [""]
        solid = False
        for piece in raw:
            value = self.value(piece)
            if value is None:
                return [None]
            if piece.kind == "text" or piece.quoted:
                found[-1] += value
                solid = True
                continue
            parts = value.split()
            if value[:1].isspace() and found[-1]:
                found.append("")
            found[-1] += parts[0] if parts else ""
            found += parts[1:]
            if value[-1:].isspace() and parts:
                found.append("")
        return [word for word in found if word or (solid and len(found) == 1)]

    def at_home(self, raw: Raw) -> Raw:
        """`~/x` is below the user's folder."""
        first = raw[0]
        if first.kind != "text" or first.quoted or not (first.text == "~" or first.text.startswith("~/")):
            return raw
        home = Piece("variable", "HOME", quoted=True)
        return (home, Piece("text", first.text[1:], quoted=True), *raw[1:])


def _bare(raw: Raw) -> str:
    """A word that is written plainly, as the words of the shell's grammar are; empty for others."""
    return raw[0].text if len(raw) == 1 and raw[0].kind == "text" and not raw[0].quoted else ""


def _assignment(raw: Raw) -> tuple[str, Raw] | None:
    first = raw[0] if raw else None
    if first is None or first.kind != "text" or first.quoted:
        return None
    assigned = _ASSIGNED.match(first.text)
    if assigned is None:
        return None
    return assigned[1], (Piece("text", first.text[assigned.end() :]), *raw[1:])


def _without_redirections(raw: list[Raw]) -> tuple[list[Raw], bool]:
    kept: list[Raw] = []
    skip = found = False
    for item in raw:
        operator = next((piece.text for piece in item if piece.kind == "unknown" and piece.text[:1] in "<>&"), "")
        if operator:
            skip, found = len(item) == 1, True
        elif skip:
            skip = False
        else:
            kept.append(item)
    return kept, found
