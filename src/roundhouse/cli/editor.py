"""A model's entry in the editor of the person: as `crontab -e`, until it is right or given up."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roundhouse.cli.exits import Failed, Refused, Usage
from roundhouse.config import edit as texts
from roundhouse.config.problems import EditError
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

MARK: Final = "#|"
"""Lines that begin so are ours, and are taken out again."""


def edited(text: str, name: str, check: Callable[[str], object]) -> str:
    """The text with the model's entry as it comes back from the editor, checked.

    Args:
        text: of the whole file.
        name: of the model.
        check: raises ConfigError for what is wrong.

    Raises:
        Failed, Usage: there is no editor, or it failed.
        Refused: given up while something was wrong, or everything was removed.
    """
    entry = texts.entry(text, name)
    shown, wrong = entry, ""
    while True:
        shown = _in_editor(f"{_head(name, wrong)}{shown}")
        if not shown.strip():
            raise Refused(f"Everything was removed: the file was left as it is. `roundhouse models remove {name}`?")
        if shown.strip("\n") == entry.strip("\n"):
            return text
        try:
            new = texts.put_entry(text, name, shown)
            check(new)
        except (ConfigError, EditError) as error:
            wrong = error.message
        else:
            return new
        print(f"roundhouse: {wrong}", file=sys.stderr)
        if not (sys.stdin.isatty() and _again()):
            raise Refused("The file was left as it is.")


def _again() -> bool:
    try:
        return input("Edit again? [Y/n] ").strip().lower() in {"", "y", "yes"}
    except EOFError:
        return False


def _head(name: str, wrong: str) -> str:
    lines = [f"The entry of {name}. Saved as it is, nothing changes. Lines that begin with {MARK} are left out."]
    lines += wrong.splitlines()
    return "".join(f"{MARK} {line}\n" for line in lines)


def _in_editor(text: str) -> str:
    """What the person made of it, without our lines."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Usage(f"$VISUAL or $EDITOR is no command ({error}).") from None
    with tempfile.TemporaryDirectory(prefix="roundhouse-") as folder:
        file = Path(folder) / "model.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*words, str(file)], check=False)  # noqa: S603 -- the person's own choice
        except OSError as error:
            raise Usage(f"The editor {command!r} can't be run ({error.strerror}); set EDITOR, or use --set.") from None
        if ended.returncode:
            raise Failed(f"The editor {command!r} ended with {ended.returncode}: the file was left as it is.")
        try:
            lines = file.read_text("utf-8-sig").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(f"What the editor left can't be read ({error}): the file was left as it is.") from None
    return "".join(line for line in lines if not line.startswith(MARK))
