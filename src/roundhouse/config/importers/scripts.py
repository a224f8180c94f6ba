"""Start scripts of the original: what each says about its engine, and what would better be changed in it.

Reads the file and its permissions; runs nothing.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roundhouse.config.importers import files, serving, shell
from roundhouse.config.importers.shell_words import UnreadableError
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from roundhouse.config.importers.serving import Server
    from roundhouse.config.importers.shell import Command, Script
    from roundhouse.config.models import EngineName


@dataclass(frozen=True, slots=True)
class Start:
    """A start script as far as it could be read.

    Attributes:
        script: its commands; None if the file could not be read.
        command: the one that starts the engine, None if none of ours was found.
        advice: what is missing or odd.
    """

    path: Path
    engine: EngineName
    script: Script | None = None
    command: Command | None = None
    server: Server | None = None
    advice: tuple[str, ...] = ()

    @property
    def port(self) -> int | None:
        """The engine's port, if the script says it."""
        return self.server.port if self.server else None

    @property
    def venv(self) -> str | None:
        """The Python environment that it activates."""
        return self.script.venv if self.script else None

    def inline(self, name: str) -> dict[str, Any]:
        """The same without the script: `path`, `args`, `env`. Raises CannotTellError, saying why it can't be said."""
        if self.script is None or self.command is None or self.server is None:
            raise serving.CannotTellError("no engine could be found in it")
        if self.script.doubts:
            raise serving.CannotTellError(self.script.doubts[0])
        others = [command.words[0] for command in self.script.commands if command is not self.command]
        if others:
            raise serving.CannotTellError(f"it runs {others[0] or 'another command'} as well")
        if not serving.is_direct(self.command.words, self.server):
            raise serving.CannotTellError(f"it starts the engine through {self.command.words[0]}")
        env = {**self.script.exported, **self.command.env}
        if unknown := [variable for variable, value in env.items() if value is None]:
            raise serving.CannotTellError(f"the value of {unknown[0]} can't be told")
        keys = serving.model_keys(self.server, self.script.folder, name)
        return keys | ({"env": env} if env else {})

    def program(self) -> str | None:
        """What `engines:` has to say for it, None for what is found on PATH. Raises CannotTellError."""
        return (
            serving.program_of(self.server, self.script.folder if self.script else None, self.venv)
            if self.server
            else None
        )


def look(path: Path, engine: EngineName) -> Start:
    """Reads a start script. What is wrong with it is advice: the models are imported all the same."""
    try:
        text = files.read_text(path)
        home = _home(path)
        script = shell.read(text, home)
    except (ConfigError, UnreadableError) as error:
        said = error.message if isinstance(error, ConfigError) else f"{path}: {error}"
        return Start(path, engine, advice=(said,))
    command, found = _started(script)
    return Start(path, engine, script, command, found, tuple(_advice(path, engine, text, script, command, found)))


def _started(script: Script) -> tuple[Command | None, Server | None]:
    for command in reversed(script.commands):
        if found := serving.server(command.words):
            return command, found
    return None, None


def _advice(
    path: Path, engine: EngineName, text: str, script: Script, command: Command | None, found: Server | None
) -> list[str]:
    said = []
    if not os.access(path, os.X_OK):
        said.append(f"{path} is not executable, so its unit can't start it: chmod +x {path}")
    if not text.startswith("#!"):
        said.append(f"{path} has no first line such as #!/bin/bash, so systemd can't run it")
    if found is None or command is None:
        return [*said, f"no command that starts {engine} was found in {path}; its port is taken to be the usual one"]
    if found.engine != engine:
        said.append(f"{path} starts {found.engine}, not {engine}; correct `engine:`")
    if found.engine == "sglang" and not found.has("--sleep-on-idle"):
        said.append(f"{path} has no --sleep-on-idle: SGLang burns whole processor cores while idle without it")
    if not command.execs:
        said.append(
            f"{path} has no `exec` before the engine's command, so a shell stays between systemd and the engine"
        )
    if found.value(serving.FLAGS[found.engine].host) in serving.ANYWHERE:
        said.append(f"{path} opens the engine to the network without keys; --host 127.0.0.1 is enough")
    if script.doubts:
        said.append(f"{path} was not read to the letter ({'; '.join(script.doubts)}): check the port")
    return said


def _home(path: Path) -> str | None:
    """The folder of the script's owner, who is the user it is run as."""
    try:
        return pwd.getpwuid(path.stat().st_uid).pw_dir
    except (OSError, KeyError):
        return None
