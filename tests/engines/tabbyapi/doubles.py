"""Starts the double in its checkout and ends it; notes and answers as tests need them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from roundhouse.engines.tabbyapi import TabbyAPI
from roundhouse.ports import Build
from tests.engines.tabbyapi.samples import tabby_model
from tests.support.tabby_checkout import ADMIN, make_checkout, make_model, notes
from tests.support.talker import Talker

LIMIT = 30.0


def free_port() -> int:
    """Free, and the next one too, for the double may go there."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def until(true: Callable[[], Any], what: str = "it") -> Any:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what} did not happen")


class Running:
    """A double that runs."""

    def __init__(self, checkout: Path, process: subprocess.Popen[str], port: int) -> None:
        self.checkout, self.process, self.port = checkout, process, port
        self.models = checkout / "models"
        self.talker = Talker(port, ADMIN)

    def notes(self, what: str = "") -> list[dict]:
        return [note for note in notes(self.checkout) if what in {"", note["what"]}]

    def model(self, name: str = "A-exl3", *, around: dict[str, Any] | None = None, **tabby: Any):
        return tabby_model(self.checkout, self.models, name, model=around, **tabby)

    def load(self, name: str = "A-exl3", facts=None, **tabby: Any):
        """By the engine's own talk; its progress."""
        model = self.model(name, **tabby)
        talker = Talker(self.port, ADMIN)
        return talker.run(TabbyAPI().loads(model).load(model, facts))

    def unload(self, patience: float = LIMIT) -> None:
        model = self.model()
        Talker(self.port, ADMIN, patience).run(TabbyAPI().loads(model).unload(model))

    def card(self) -> dict[str, Any] | None:
        reply = self.talker.ask("GET", "/v1/model")
        return json.loads(reply.body) if reply.status == 200 else None

    def loads(self) -> int:
        return len(self.notes("loading"))

    def output(self) -> str:
        return (self.checkout / "output.txt").read_text()


@contextlib.contextmanager
def running(
    folder: Path, version: str = "e632af4", *, models: dict[str, dict[str, Any]] | None = None, wait: bool = True, port: int = 0,
    tabby: dict[str, Any] | None = None, keys: bool = True, laid: Callable[[Path], None] = lambda checkout: None, **behaviour: Any,
) -> Iterator[Running]:  # fmt: skip
    """The double, started as the engine's command says; `tabby` are keys of the model that names the command."""
    checkout = make_checkout(folder / "tabbyAPI", version, keys=keys, **behaviour)
    for name, double in (models or {"A-exl3": {}, "B-exl3": {}}).items():
        make_model(checkout / "models", name, **double)
    laid(checkout)
    port = port or free_port()
    model = tabby_model(checkout, checkout / "models", **(tabby or {}))
    command = TabbyAPI().command(model, None, Build((str(checkout / "venv/bin/python"),)), port)
    for edit in command.edits:
        edit.path.write_text(edit.change(edit.path.read_text()))
    with (checkout / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command.argv, cwd=command.cwd, env={**os.environ, **command.env}, stdout=output, stderr=output, text=True
        )
    one = Running(checkout, process, port)
    try:
        if wait:
            until(lambda: one.notes("start") or process.poll() is not None, "the start")
            assert process.poll() is None, one.output()
        yield one
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


class Chat:
    """A streamed chat in a thread."""

    def __init__(self, one: Running, **asked: Any) -> None:
        self.events: list[str] = []
        self.ended = threading.Event()
        self._one, self._asked = one, {"messages": [], "stream": True, **asked}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._line: socket.socket | None = None
        self._thread.start()

    def _run(self) -> None:
        body = json.dumps(self._asked).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._one.port)) as self._line, contextlib.suppress(OSError):
            self._line.sendall(head.encode() + body)
            rest = b""
            while data := self._line.recv(65536):
                *lines, rest = (rest + data).split(b"\r\n")
                self.events += [line.decode() for line in lines if line.startswith((b"data:", b":"))]
                if lines and lines[-1] == b"" and b"0" in lines:
                    break
        self.ended.set()

    def texts(self) -> int:
        return sum('"content"' in event for event in list(self.events))

    def close(self) -> None:
        assert self._line is not None
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self.ended.wait(LIMIT)
        self._thread.join(LIMIT)
