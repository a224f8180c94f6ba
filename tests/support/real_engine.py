"""A real llama-server for tests: found as the product finds it, or a reason to skip.

`ROUNDHOUSE_TEST_LLAMA_SERVER` names another one.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import os
import signal
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from roundhouse.errors import LoadFailed
from roundhouse.runtime import binaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from roundhouse.ports import Build, Command


@functools.cache
def _found() -> Build | str:
    try:
        configured = os.environ.get("ROUNDHOUSE_TEST_LLAMA_SERVER")
        return asyncio.run(binaries.find("llamacpp", ("llama-server",), configured))
    except LoadFailed as error:
        return error.message


def real_build() -> Build:
    """A llama-server that runs on this machine; skips the test when there is none."""
    found = _found()
    if isinstance(found, str):
        pytest.skip(found)
    return found


class Server:
    """One engine process: its port, its output so far in a file, and its stdin, which we hold."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes] | None:
        """Status and body of one request; None when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST" if body else "GET", path, body, {"content-type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError:
            return None
        finally:
            connection.close()

    def lines(self) -> list[str]:
        return self.log.read_text("utf-8", "replace").splitlines()

    def end(self) -> int:
        """As the keeper does: stdin first, then SIGTERM."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Command, port: int, log: Path) -> Iterator[Server]:
    """Starts a command and ends it, whatever happened."""
    env = {**os.environ, **command.env}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.argv, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=env
        )
    try:
        yield Server(process, port, log)
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def outcome(argv: Sequence[str]) -> tuple[int, list[str]]:
    """Exit code and output of a command that is expected to end by itself.

    Its stdin stays open: one that ends tells llama-server to end, and a busy machine lets it do so before it has said why
    it would have ended anyway.
    """
    stdin, held = os.pipe()
    try:
        done = subprocess.run(argv, stdin=stdin, capture_output=True, timeout=60, check=False)
    finally:
        os.close(stdin)
        os.close(held)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace").splitlines()
