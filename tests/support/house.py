"""A running Roundhouse for tests: the real program as a process of its own, or its inside in the test's own loop."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from roundhouse.api.server import make_server, protocol
from roundhouse.app.house import House
from roundhouse.config.load import parse
from roundhouse.dialects.failures import error_body
from tests.support import fake_engine
from tests.support.processes import none_left
from tests.support.wire import Api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

START_LIMIT = 60.0
END_LIMIT = 60.0
QUIET = {"ROUNDHOUSE_CONFIG", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Scripted:
    """A model run by the scripted engine: its configuration, and what its engines wrote down."""

    def __init__(self, folder: Path, name: str, *flags: str, **settings: object) -> None:
        self.name = name
        self.record = folder / f"{name.replace('/', '-')}.jsonl"
        words = [sys.executable, "-S", fake_engine.__file__, "--port", "${PORT}", "--record", str(self.record), *flags]
        command = " ".join(word if word == "${PORT}" else shlex.quote(word) for word in words)
        self.config = {"engine": "openai", "command": command, "memory": "64MiB", "health": "/health", **settings}

    def notes(self, what: str | None = None) -> list[dict[str, Any]]:
        """Everything that its engines wrote down, or all of one kind."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        found = [json.loads(line) for line in lines]
        return [note for note in found if what in {None, note["what"]}]

    @property
    def starts(self) -> int:
        return len(self.notes("start"))

    @property
    def pid(self) -> int:
        """Of the newest engine."""
        return int(self.notes("start")[-1]["pid"])

    def last(self) -> dict[str, Any]:
        """The newest request: its body as JSON under `json`, headers by name in lower case."""
        note = self.notes("request")[-1]
        headers = {name.lower(): value for name, value in note["headers"]}
        return note | {"json": json.loads(note["body"]), "headers": headers}

    async def until(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Waits until its engines have written down something so many times."""
        async with asyncio.timeout(30):
            while len(found := self.notes(what)) < count:
                await asyncio.sleep(0.01)
        return found


class Place:
    """Folders of one installation: configuration, state, sockets (whose paths must be short)."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rh-", dir="/tmp"))
        self.state = self.folder / "state"
        self.file = self.folder / "roundhouse.yaml"
        self.port = free_port()
        self.preloaded: list[str] = []

    def gate(self, name: str) -> Path:
        """A file that a scripted engine waits for; `touch` it to open."""
        return self.folder / f"gate-{name}"

    def write(self, models: Mapping[str, dict[str, Any]] | list[Scripted], **settings: object) -> None:
        """Writes the configuration (JSON is YAML).

        Switches follow in the order of arrival, which nobody has to wait a minute for; `scheduling` may say otherwise.
        """
        scheduling = {"max_wait": "0s"} | dict(settings.pop("scheduling", {}))  # type: ignore[call-overload]
        named = {m.name: m.config for m in models} if isinstance(models, list) else dict(models)
        ours = {
            "listen": f"127.0.0.1:{self.port}",
            "state_dir": str(self.state),
            "devices": {"ram": "1GiB"},
            "scheduling": scheduling,
        }
        self.preloaded = [name for name, model in named.items() if model.get("preload")]
        # YAML has no surrogate pairs, as which JSON escapes what is beyond 16 bits.
        self.file.write_text(json.dumps(ours | settings | {"models": named}, ensure_ascii=False))

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in QUIET}
        return kept | {"XDG_RUNTIME_DIR": str(self.folder), "ROUNDHOUSE_LOG": "json"}

    @property
    def install(self) -> str:
        """The installation's id, as its engines' environment has it."""
        return (self.state / "install-id").read_text().strip()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Running:
    """`roundhouse serve` as a process. A context manager, not asynchronous, so that a module's tests can share one.

    On leaving it ends the program and fails when a process of this installation is left.
    """

    def __init__(
        self,
        place: Place,
        *,
        environ: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.place = place
        self.log_file = place.folder / "log"
        self._environ = dict(environ or {})
        self._wrapper = wrapper or [sys.executable]
        self._pass_fds = pass_fds
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        assert none_left(self.place.install) == []
        self.place.remove()

    @property
    def api(self) -> Api:
        return Api(self.place.port)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Starts it and waits until it answers."""
        argv = [*self._wrapper, "-m", "roundhouse", "serve", "--config", str(self.place.file)]
        environ = self.place.environ | self._environ
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, pass_fds=self._pass_fds
            )
        deadline = time.monotonic() + START_LIMIT
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"it did not start: {self.log()}")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        """Whether it answers, and everything to be preloaded is loaded."""
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=5)
        try:
            connection.request("GET", "/health")
            states = json.loads(connection.getresponse().read()).get("models", {})
        except OSError:
            return False
        finally:
            connection.close()
        return all(states[name]["state"] == "ready" for name in self.place.preloaded if name in states)

    def kill(self) -> None:
        """As a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Asks it to end; see `wait`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(END_LIMIT)

    def end(self) -> int:
        """Ends it as an operator would, and returns its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def log(self) -> str:
        return self.log_file.read_text("utf-8", "replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """Log events; the command line's own words to its user stand between them."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]


@asynccontextmanager
async def inside(place: Place) -> AsyncIterator[House]:
    """The program without its process, for what only its inside can show or set; ends as the program does."""
    config = parse(place.file.read_text(), place.file, place.environ)
    with socket.create_server(("127.0.0.1", place.port)) as listener:
        async with House(config, place.environ) as house:
            http = protocol(config.limits.headers, config.limits.header_timeout, error_body)
            server = make_server(house.app, drain=config.shutdown.drain, http=http, closing=house.closing)
            opened = asyncio.Event()
            server.on_started = opened.set
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server._serve([listener]))
                await opened.wait()
                try:
                    yield house
                finally:
                    server.should_exit = True
    assert none_left(place.install) == []
