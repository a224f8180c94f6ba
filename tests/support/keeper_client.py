"""A keeper and a controller by hand: the wire protocol without the launcher's code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from roundhouse.launchers import keeper

if TYPE_CHECKING:
    from pathlib import Path

GO_TAG = {"model": "m", "settings": "s", "port": 1, "started": 0.0}


class RawKeeper:
    """A keeper process started directly; `end` it."""

    def __init__(self, folder: Path, install: str, grace: float = 60.0, log_limit: int = 4 << 20, prefix=()) -> None:
        self.socket = folder / f"{os.urandom(4).hex()}.sock"
        self.log = folder / "engine.log"
        self.install = install
        argv = [sys.executable, "-I", "-S", keeper.__file__, self.socket, self.log, install, grace, 0.2, log_limit]
        self.process = subprocess.Popen(
            [*prefix, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()

    def controller(self, offset: int = 0) -> RawController:
        """A connection that has attached."""
        controller = RawController(self.socket, self.install)
        controller.tell("attach", offset=offset)
        controller.attached = controller.hear("attached")
        return controller

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class RawController:
    """A blocking connection to a keeper."""

    def __init__(self, path: Path, install: str) -> None:
        self.install = install
        self.attached: dict[str, Any] = {}
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")

    def tell(self, do: str, **fields: object) -> None:
        self.send(json.dumps({"v": 1, "do": do, "install": self.install, **fields}).encode() + b"\n")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hear(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, or the next of a kind. Empty at the end of the connection."""
        for line in self.file:
            message: dict[str, Any] = json.loads(line)
            if kind is None or message["is"] == kind:
                return message
        return {}

    def hear_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file]

    def go(self, *argv: str, env: dict[str, str] | None = None) -> dict[str, Any]:
        self.tell("go", argv=argv, env=env or dict(os.environ), cwd="/", tag=GO_TAG)
        return self.hear()

    def output_until_exit(self) -> tuple[list[tuple[int, bytes]], dict[str, Any]]:
        """Chunks of output by offset, and the exit."""
        chunks = []
        while (message := self.hear()) and message["is"] != "exited":
            if message["is"] == "output":
                chunks.append((message["offset"], message["data"].encode("utf-8", "surrogateescape")))
        return chunks, message

    def close(self) -> None:
        self.file.close()
        self.sock.close()
