"""The HTTP side of a TabbyAPI double: keys, the admin API, and chats that stream, hang or fail."""

from __future__ import annotations

import json
import os
import queue
import select
import socket
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.tabby_engine import POLL, Loaded, LoadError, Tabby, gate
from tests.support.tabby_shapes import Shape, error_event, listed

TEXT = ["Hello!", " I", " am", " a", " fake", " model", "."]
NOTHING = "No models are currently loaded."
ABORTED = "Chat completion aborted. Please check the server console."


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    tabby: Tabby

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        gate(self.tabby.behaviour.answer_gate)
        ways = {
            "/health": self.health, "/.well-known/serviceinfo": self.serviceinfo, "/v1/model": self.model,
            "/v1/models": self.models, "/v1/model/list": self.models, "/props": self.props,
            "/v1/auth/permission": self.permission,
        }  # fmt: skip
        way = ways.get(self.path)
        self.say(404, {"detail": "Not Found"}) if way is None else way()

    def do_POST(self) -> None:
        gate(self.tabby.behaviour.answer_gate)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.tabby.note("request", path=self.path, body=body.decode())
        ways = {
            "/v1/model/load": self.load, "/v1/model/unload": self.unload, "/v1/chat/completions": self.chat,
            "/v1/completions": self.chat,
        }  # fmt: skip
        way = ways.get(self.path)
        self.say(404, {"detail": "Not Found"}) if way is None else way(body)

    # --- answers ---

    def say(self, status: int, found: object) -> None:
        self.whole(status, json.dumps(found).encode(), "application/json")

    def whole(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def crash(self) -> None:
        self.whole(500, b"Internal Server Error", "text/plain; charset=utf-8")

    def open_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("cache-control", "no-store")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, found: object) -> None:
        self.piece(b"data: " + (found if isinstance(found, bytes) else json.dumps(found).encode()) + b"\r\n\r\n")

    def close_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def left(self) -> bool:
        """Whether the client has closed."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    # --- keys ---

    def permitted(self) -> str | None:
        """`admin`, `api` or None by Authorization or X-Api-Key."""
        if self.tabby.config["network"]["disable_auth"]:
            return "admin"
        keys = self.tabby.keys()
        given = self.headers.get("authorization", "").removeprefix("Bearer ") or self.headers.get("x-api-key", "")
        if given == keys["admin"]:
            return "admin"
        return "api" if given in keys["api"] else None

    def refused(self, need: str = "api") -> bool:
        """Whether the request was answered with a 401."""
        bearer = "authorization" in self.headers
        by_admin_header = self.headers.get("x-admin-key") == self.tabby.keys()["admin"]
        found = self.permitted()
        if need == "admin" and (by_admin_header or (found == "admin" and (bearer or not self.has_key()))):
            return False
        if need == "api" and found is not None:
            return False
        name = "an admin" if need == "admin" else "an API"
        given = bearer or (need == "api" and "x-api-key" in self.headers)
        self.say(401, {"detail": f"Invalid {name.split()[1]} key" if given else f"Please provide {name} key"})
        return True

    def has_key(self) -> bool:
        return "x-api-key" in self.headers

    # --- about ---

    def health(self) -> None:
        issues = self.tabby.issues
        self.say(503 if issues else 200, {"status": "unhealthy" if issues else "healthy", "issues": issues})

    def serviceinfo(self) -> None:
        self.say(200, {"version": 0.1, "software": {"name": "TabbyAPI"}})

    def permission(self) -> None:
        if not self.refused():
            self.say(200, {"permission": self.permitted()})

    def model(self) -> None:
        if not self.refused() and not self.nothing():
            self.say(200, self.tabby.card())

    def models(self) -> None:
        if self.refused():
            return
        if self.permitted() == "admin":
            folder = Path(self.tabby.config["model"]["model_dir"])
            found = [listed(one.name) for one in sorted(folder.iterdir()) if one.is_dir()]
        else:
            found = [self.tabby.card(with_parameters=False)] if self.tabby.container else []
        self.say(200, {"object": "list", "data": found})

    def props(self) -> None:
        if self.refused() or self.nothing():
            return
        told = self.tabby.card()["parameters"]
        context = {"n_ctx": told["max_seq_len"]}
        self.say(200, {"total_slots": 128, "chat_template": "", "default_generation_settings": context})

    def nothing(self) -> bool:
        if self.tabby.container is None:
            self.say(503, {"detail": NOTHING})
            return True
        return False

    # --- loading ---

    def unload(self, _: bytes) -> None:
        if self.refused("admin") or self.nothing():
            return
        if self.tabby.behaviour.hang_unload:
            threading.Event().wait()
        self.tabby.unload()
        self.say(200, None)

    def load(self, body: bytes) -> None:
        if self.refused("admin"):
            return
        asked = json.loads(body)
        name = asked.get("model_name")
        if name is None:
            entry = {"type": "missing", "loc": ["body", "model_name"], "msg": "Field required", "input": asked}
            self.say(422, {"detail": [entry]})
            return
        folder = Path(self.tabby.config["model"]["model_dir"]) / name
        if not folder.exists():
            self.say(400, {"detail": "Could not find the model path for load. Check model name or config.yml?"})
            return
        try:
            self._follow(folder, asked)
        except OSError:
            self.close_connection = True
            self.tabby.note("left", folder=str(folder))

    def _follow(self, folder: Path, asked: dict[str, Any]) -> None:
        """Sends what the load tells, from a thread that goes on without us where this version does so."""
        told: queue.Queue[Any] = queue.Queue()
        gone = threading.Event()

        def tell(module: int, modules: int, part: str) -> None:
            if gone.is_set() and not self.tabby.version.continues:
                raise LoadError("cancelled")
            told.put({"model_type": part, "module": module, "modules": modules, "status": "processing"})
            if module == modules:
                told.put({"model_type": part, "module": module, "modules": modules, "status": "finished"})

        def work() -> None:
            try:
                self.tabby.load(folder, asked, tell)
            except LoadError as error:
                told.put(error_event(str(error)))
            told.put(None)

        threading.Thread(target=work, daemon=True).start()
        self.open_stream()
        sent = 0
        while (event := self._next(told, gone)) is not None:
            self.event(event)
            sent += 1
            if sent == self.tabby.behaviour.cut_load:
                self.tabby.behaviour.cut_load = None
                gone.set()
                self.tabby.note("cut")
                self.close_connection = True
                return
        self.close_stream()

    def _next(self, told: queue.Queue[Any], gone: threading.Event) -> Any:
        while True:
            try:
                return told.get(timeout=POLL)
            except queue.Empty:
                if self.left():
                    gone.set()
                    raise ConnectionResetError from None

    # --- answering ---

    def chat(self, body: bytes) -> None:
        if self.refused():
            return
        asked = json.loads(body)
        tabby = self.tabby
        if tabby.draining:
            self._park(asked)
            return
        if tabby.container is None:
            self.crash() if "model" in asked else self.say(503, {"detail": NOTHING})
            return
        script = asked.get("fake", {})
        if script.get("error"):
            words = "RuntimeError: CUDA error: an illegal memory access was encountered"
            tabby.issues.append({"time": "2026-11-22T17:04:11.907104Z", "description": words})
            self._aborted(asked)
            return
        if asked.get("stream"):
            self._stream(asked, script, tabby.container)
        else:
            self._once(asked, script, tabby.container)

    def _park(self, asked: dict[str, Any]) -> None:
        while self.tabby.draining or self.tabby.load_lock.locked():
            time.sleep(POLL)
        self._aborted(asked)

    def _aborted(self, asked: dict[str, Any]) -> None:
        if asked.get("stream"):
            self.open_stream()
            self.event(error_event(ABORTED))
            self.close_stream()
        else:
            words = f"Chat completion {uuid.uuid4().hex} aborted. Maybe the model was unloaded? Please check the server console."
            self.say(503, {"detail": words})

    def _tokens(self, script: dict[str, Any]) -> list[str]:
        count = script.get("tokens", len(TEXT))
        return [TEXT[number % len(TEXT)] for number in range(count)]

    def _stream(self, asked: dict[str, Any], script: dict[str, Any], container: Loaded) -> None:
        job = threading.Event()
        container.jobs.add(job)
        shape = Shape(self.tabby.version, container.folder.name, chat=self.path.endswith("chat/completions"))
        try:
            self.open_stream()
            for count, text in enumerate(self._tokens(script)):
                if script.get("gate") and script.get("gate_after", 0) == count:
                    self._wait(script["gate"], job)
                if job.is_set():
                    self._hang()
                    return
                if self.tabby.behaviour.die_mid_stream == count:
                    os._exit(9)
                self.event(shape.text(text))
                time.sleep(script.get("delay", 0))
            for event in shape.end(
                len(self._tokens(script)), bool((asked.get("stream_options") or {}).get("include_usage"))
            ):
                self.event(event)
            self.event(b"[DONE]")
            self.close_stream()
        except OSError:
            self.close_connection = True
            self.tabby.note("left")
        finally:
            container.jobs.discard(job)

    def _wait(self, path: str, job: threading.Event) -> None:
        while not Path(path).exists() and not job.is_set():
            if self.left():
                raise ConnectionResetError
            time.sleep(POLL)

    def _hang(self) -> None:
        """An unload took the model away: nothing comes any more, not even the end."""
        self.tabby.note("hangs")
        while not self.left():
            time.sleep(POLL)
            if self.tabby.version.pings:
                self.piece(b": ping - 2026-11-22 17:05:48.644470+00:00\r\n\r\n")
        raise ConnectionResetError

    def _once(self, asked: dict[str, Any], script: dict[str, Any], container: Loaded) -> None:
        job = threading.Event()
        container.jobs.add(job)
        try:
            if script.get("gate"):
                self._wait(script["gate"], job)
        finally:
            container.jobs.discard(job)
        cut = job.is_set()
        shape = Shape(self.tabby.version, container.folder.name, chat=self.path.endswith("chat/completions"))
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        self.say(200, shape.whole(self._tokens(script), with_usage=with_usage and not cut, cut=cut))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass
