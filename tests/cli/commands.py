"""The real command line as a process, a Roundhouse that says what a test wants, and terminals to run in."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from roundhouse.cli.root import main
from roundhouse.dialects import sse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 60.0
HIDDEN = {"ROUNDHOUSE_CONFIG", "ROUNDHOUSE_URL", "ROUNDHOUSE_API_KEY", "NO_COLOR", "FORCE_COLOR", "NOTIFY_SOCKET"}


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environ(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in HIDDEN} | {"TERM": "xterm"} | more


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "roundhouse", *arguments]


def run(*arguments: str, stdin: str = "", cwd: Path | None = None, **env: str) -> Result:
    """Runs one command to its end, without a terminal."""
    ended = subprocess.run(
        argv(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environ(**env),
        timeout=LIMIT,
        check=False,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


def run_here(*arguments: str, cwd: Path | None = None, **env: str) -> Result:
    """The same in this process: quicker, for commands that read and print, and start nothing."""
    out, err = io.StringIO(), io.StringIO()
    before, place, words = dict(os.environ), os.getcwd(), sys.argv
    os.environ.clear()
    os.environ.update(environ(**env))
    sys.argv = ["roundhouse", *arguments]
    os.chdir(cwd or place)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        os.chdir(place)
        sys.argv = words
        os.environ.clear()
        os.environ.update(before)
    return Result(code, out.getvalue(), err.getvalue())


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Stub:
    """A Roundhouse whose answers are given: by 'METHOD /path', a status and what to send."""

    answers: dict[str, tuple[int, object]]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, object]:
        self.asked.append(asked)
        return self.answers.get(f"{asked.method} {asked.path}", (404, error(f"nothing at {asked.path}")))


@contextlib.contextmanager
def stub(answers: dict[str, tuple[int, object]], port: int = 0) -> Iterator[Stub]:
    made = Stub(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = made.answer(Asked(self.command, self.path, headers, self.rfile.read(length)))
            self.send_response(status)
            self.end_headers()
            for part in (
                body if isinstance(body, list) else [body if isinstance(body, bytes) else json.dumps(body).encode()]
            ):
                self.wfile.write(part)
                self.wfile.flush()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "t", "param": None, "code": "c"}}


def chunk(*, line: str = "", done: bool = False, **delta: str) -> bytes:
    """One event of a streamed chat: with a status line of ours beside it, or a delta."""
    body: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    if line:
        body["event"] = {"type": "status", "data": {"description": line, "done": done}}
    return sse.encode(body)


class Terminal:
    """A command in a terminal of its own (a pseudo-terminal); reads what it shows, types what a person would."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self.shown = ""
        self._pid, self._descriptor = pty.fork()
        if not self._pid:
            os.execve(sys.executable, argv(*arguments), environ(**env))
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))

    def until(self, text: str) -> str:
        """Waits until it has shown a text; what was shown before it and since the last wait is returned."""
        deadline = time.monotonic() + LIMIT
        while text not in self.shown:
            assert self._read(deadline), f"ended or silent without showing {text!r}: {self.shown!r}"
        before, _, self.shown = self.shown.partition(text)
        return before

    def leave(self, text: str) -> int:
        """Types until it ends: a signal that comes just before a prompt is read is lost to the prompt."""
        for _ in range(30):
            with contextlib.suppress(OSError):
                self.type(text)
            with contextlib.suppress(AssertionError):
                while self._read(time.monotonic() + 1):
                    pass
                break
        return self.end()

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def end(self) -> int:
        """Waits for its end; gives its exit code. What it showed last is in `shown`."""
        deadline = time.monotonic() + LIMIT
        while self._read(deadline):
            pass
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"silent: {self.shown!r}"
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # EIO: its last process closed the terminal
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
