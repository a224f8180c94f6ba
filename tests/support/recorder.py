"""A wire between a client and a server that writes down every request, and changes nothing."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Listener:
    """Takes one connection's bytes apart into requests. Bodies have a length, as those of the clients here do."""

    def __init__(self, heard: Callable[[Asked], None]) -> None:
        self._heard = heard
        self._raw = b""

    def feed(self, data: bytes) -> None:
        self._raw += data
        while END_OF_HEAD in self._raw:
            head, _, rest = self._raw.partition(END_OF_HEAD)
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            assert "transfer-encoding" not in headers, "a request in chunks can't be read here"
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                return
            method, path, _ = first.split(" ")
            self._raw = rest[length:]
            self._heard(Asked(method, path, headers, rest[:length]))


class _Connection(socketserver.BaseRequestHandler):
    server: Recorder

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as onwards:
            back = threading.Thread(target=_pump, args=(onwards, self.request, None))
            back.start()
            _pump(self.request, onwards, Listener(self.server.heard).feed)
            back.join()


def _pump(source: socket.socket, target: socket.socket, told: Callable[[bytes], None] | None) -> None:
    """Passes bytes on to the end; then neither side can be used any more, so that who leaves is seen to leave."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            if told is not None:
                told(data)
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Recorder(socketserver.ThreadingTCPServer):
    """Listens on a free port of 127.0.0.1 and passes on to `target`, another port. A context manager."""

    daemon_threads = True

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = target
        self.asked: list[Asked] = []
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def heard(self, request: Asked) -> None:
        with self._lock:
            self.asked.append(request)

    def bodies(self, path: str = "/v1/chat/completions") -> list[Any]:
        """The JSON bodies of all requests for a path, in the order of their arrival."""
        return [request.json for request in self.asked if request.path == path]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
