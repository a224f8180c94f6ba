"""What a start script of the user's says: the command that it ends in, as far as it can be read without running it.

Pure. It is no shell: variables stay as they are written, and a script that computes its command tells nothing.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

NO_COMMAND = frozenset(
    {"if", "then", "else", "elif", "fi", "for", "while", "do", "done", "case", "esac", "{", "}", "[", "[[", "set"}
    | {"cd", "export", "source", ".", "echo", "ulimit", "trap", "sleep", "mkdir", "test", "return", "exit"}
)
"""First words of lines that start no engine."""
BEFORE = frozenset({"nohup", "env", "command"})
"""Words that stand before a command and are replaced by it."""

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_REDIRECTION = re.compile(r"\d*[<>]")
_VARIABLE = re.compile(r"\$\{?PORT\b")


@dataclass(frozen=True, slots=True)
class Launch:
    """The command that a script ends in.

    Attributes:
        words: program and arguments.
        replaces_shell: it is `exec`ed, so that signals for the script reach it.
    """

    words: tuple[str, ...]
    replaces_shell: bool

    def has(self, *names: str) -> bool:
        """Whether one of these options is given."""
        return has(self.words, *names)

    def value(self, *names: str) -> str | None:
        """The value of the last of these options, None if none is given."""
        return value(self.words, *names)


def launch_in(text: str) -> Launch | None:
    """The last command with options; without any, the last command. None where there is none."""
    commands = [found for line in _lines(text) if (found := _command(line)) is not None]
    with_options = [found for found in commands if any(word.startswith("-") for word in found.words[1:])]
    return next(reversed(with_options or commands), None)


def has(words: tuple[str, ...], *names: str) -> bool:
    """Whether one of these options is among the words, as `--name` or `--name=value`."""
    return any(word.partition("=")[0] in names for word in words)


def value(words: tuple[str, ...], *names: str) -> str | None:
    """The value of the last of these options, as `--name value` or `--name=value`."""
    found = None
    for index, word in enumerate(words):
        name, equals, given = word.partition("=")
        if name in names:
            found = given if equals else next(iter(words[index + 1 : index + 2]), None)
    return found


def takes_port(word: str | None) -> bool:
    """Whether a port is the one that Roundhouse chooses (`$PORT`)."""
    return word is not None and _VARIABLE.match(word) is not None


def _lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def _command(line: str) -> Launch | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a quote that goes on in the next line
        words = line.split()
    replaces = False
    while words and (words[0] in BEFORE or words[0] == "exec" or _ASSIGNMENT.match(words[0])):
        replaces = replaces or words[0] == "exec"
        words = words[1:]
    if not words or words[0] in NO_COMMAND or _REDIRECTION.match(words[0]) or words[0].startswith("#"):
        return None
    return Launch(tuple(words), replaces)
