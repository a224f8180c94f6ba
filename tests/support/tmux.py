"""A real terminal for tests: tmux holds it, tells what it shows, resizes it and types into it."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

LIMIT = 30.0
PROMPT = "ready> "

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (apt install tmux)")


class Tmux:
    """One window with a shell in it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def run(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT).stdout

    def screen(self) -> list[str]:
        """The lines that it shows, without blanks at their ends."""
        return self.run("capture-pane", "-p").split("\n")[:-1]

    def until(self, *texts: str) -> list[str]:
        """Waits until all of these are shown at once; gives the screen."""
        return self.until_it(lambda lines: all(text in "\n".join(lines) for text in texts), str(texts))

    def until_it(self, looks: Callable[[list[str]], bool], right: str) -> list[str]:
        """Waits until the screen looks as it should; gives it."""
        deadline = time.monotonic() + LIMIT
        while not looks(lines := self.screen()):
            shown = "\n".join(lines)
            assert time.monotonic() < deadline, f"not shown: {right}, but:\n{shown}"
            time.sleep(0.02)
        return lines

    def type(self, *keys: str) -> None:
        """Keys by tmux's names: `q`, `Up`, `C-c`, `Enter`."""
        self.run("send-keys", *keys)

    def enter(self, command: str) -> None:
        """Types a line into the shell."""
        self.run("send-keys", "-l", command)
        self.type("Enter")

    def resize(self, width: int, height: int) -> None:
        self.run("resize-window", "-x", str(width), "-y", str(height))


@contextlib.contextmanager
def terminal(folder: Path, env: Mapping[str, str], width: int = 80, height: int = 24) -> Iterator[Tmux]:
    """A terminal of that size with a plain shell; everything in it has ended afterwards."""
    made = Tmux(folder / "tmux")
    shell = ["env", *(f"{name}={value}" for name, value in env.items()), f"PS1={PROMPT}", "sh", "-i"]
    made.run("new-session", "-d", "-x", str(width), "-y", str(height), shlex.join(shell))
    try:
        made.until(PROMPT.strip())
        yield made
    finally:
        made.run("kill-server")
