"""A Hugging Face hub on 127.0.0.1, speaking its API as `huggingface_hub` uses it; and what can go wrong there.

As the real one it answers small files itself and sends for large ones to another host, here another port: with the
address comes the file's size and SHA-256 (`X-Linked-Size`, `X-Linked-Etag`). Errors have `X-Error-Code`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "c0ffee" + "0" * 34
LARGE = 4096
"""Bytes from which on a file is a large one, with a SHA-256."""


@dataclass
class Repository:
    """Files by path, and who may read it.

    Attributes:
        token: that it wants; '' for none. gated: without it there are terms to accept, else it is as if not there.
        revisions: names besides `main`.
        sizes: what the listing says of a file instead of the truth.
        sha256: likewise.
    """

    files: dict[str, bytes]
    token: str = ""
    gated: bool = False
    revisions: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """The hub.

    Attributes:
        cuts: by path, after how many bytes the connection breaks, once for each number; 0 refuses with a 500.
        pause: by path, after how many bytes it waits for `go_on`; `paused` is set then.
        deaf: it answers 200 with everything to those who ask for a range.
        broken: what it answers to everything, as a status and a body.
    """

    repositories: dict[str, Repository]
    cuts: dict[str, list[int]] = field(default_factory=dict)
    pause: dict[str, int] = field(default_factory=dict)
    deaf: bool = False
    broken: tuple[int, bytes] | None = None
    url: str = ""
    elsewhere: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    paused: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def gets(self, part: str) -> list[dict[str, str]]:
        """Headers of the GETs whose address holds that."""
        return [headers for method, path, headers in self.asked if method == "GET" and part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    wait_at: int | None = None

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.hub.broken is not None:
            self.answer(self.hub.broken[0], self.hub.broken[1])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.listing(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(found[1], found[3])
        elif found := re.fullmatch(r"/stored/([^/]+/[^/]+)/(.+)", path):
            self.content(self.hub.repositories[found[1]].files[found[2]], found[2])
        else:
            self.answer(404, b"{}")

    do_HEAD = do_GET

    def allowed(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self.answer(404, b'{"error":"Repository not found"}', {"x-error-code": "RepoNotFound"})
        elif repository.token and self.headers.get("authorization") != f"Bearer {repository.token}":
            known = self.headers.get("authorization") is not None
            code = "GatedRepo" if repository.gated else "RepoNotFound"
            self.answer(403 if known else 401, b'{"error":"Access is restricted"}', {"x-error-code": code})
        else:
            return repository
        return None

    def listing(self, name: str, revision: str) -> None:
        repository = self.allowed(name)
        if repository is None:
            return
        if revision not in {"main", COMMIT, *repository.revisions}:
            self.answer(404, b'{"error":"Invalid rev id"}', {"x-error-code": "RevisionNotFound"})
            return
        siblings = []
        for path, content in repository.files.items():
            size = repository.sizes.get(path, len(content))
            told: dict[str, object] = {"rfilename": path, "size": size, "blobId": git(content)}
            if len(content) >= LARGE:
                digest = repository.sha256.get(path) or hashlib.sha256(content).hexdigest()
                told["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
            siblings.append(told)
        body = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "siblings": siblings}
        self.answer(200, json.dumps(body).encode())

    def resolve(self, name: str, path: str) -> None:
        repository = self.allowed(name)
        if repository is None:
            return
        content = repository.files.get(path)
        if content is None:
            self.answer(404, b"Entry not found", {"x-error-code": "EntryNotFound", "x-repo-commit": COMMIT})
        elif len(content) < LARGE:
            self.content(content, path, {"etag": f'"{git(content)}"', "x-repo-commit": COMMIT})
        else:
            digest = hashlib.sha256(content).hexdigest()
            self.answer(
                302,
                b"",
                {
                    "location": f"{self.hub.elsewhere}/stored/{name}/{path}?signature=abc",
                    "x-linked-size": str(len(content)),
                    "x-linked-etag": f'"{digest}"',
                    "x-repo-commit": COMMIT,
                },
            )

    def content(self, content: bytes, path: str, headers: dict[str, str] | None = None) -> None:
        begin = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range") or "")
        if asked and not self.hub.deaf:
            begin = int(asked[1])
        told = dict(headers or {})
        if begin:
            told["content-range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        cuts = self.hub.cuts.get(path)
        cut = cuts.pop(0) if cuts else None
        if cut == 0:
            self.answer(500, b"{}")
            return
        self.wait_at = self.hub.pause.get(path)
        self.answer(206 if begin else 200, content[begin:], told, cut)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    def send(self, body: bytes) -> None:
        with contextlib.suppress(OSError):  # the client left
            if self.wait_at is not None:
                self.wfile.write(body[: self.wait_at])
                self.wfile.flush()
                self.hub.paused.set()
                self.hub.go_on.wait()
                body = body[self.wait_at :]
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def git(content: bytes) -> str:
    """The name that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextlib.contextmanager
def hub(repositories: dict[str, Repository], **more: object) -> Iterator[Hub]:
    """A running one; `url` is what HF_ENDPOINT should be."""
    made = Hub(repositories, **more)  # type: ignore[arg-type]
    handler = type("Handler", (_Handler,), {"hub": made})
    with contextlib.ExitStack() as stack:
        urls = []
        for _ in range(2):
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            urls.append(f"http://127.0.0.1:{server.server_address[1]}")
        made.url, made.elsewhere = urls
        yield made
