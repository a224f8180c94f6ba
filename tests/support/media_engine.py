"""An engine for speech, transcriptions and images, as Kokoro, whisper.cpp's server and image wrappers speak: a double.

`--port N --record FILE`. It answers with what it was sent, so that a test sees what reached it.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECES = 40


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """`/health`."""
        self._send(200, b"{}")

    def do_POST(self) -> None:
        """Everything else."""
        body = self.rfile.read(int(self.headers["content-length"]))
        kind = self.headers["content-type"]
        with Path(sys.argv[sys.argv.index("--record") + 1]).open("a") as file:
            told = {"path": self.path, "kind": kind, "body": base64.b64encode(body).decode()}
            file.write(json.dumps(told) + "\n")
        if self.path == "/v1/audio/speech":
            self._speak(json.loads(body))
        elif kind.startswith("multipart/"):
            self._form(body)
        else:
            self._send(200, json.dumps({"created": 1, "data": [{"b64_json": "aW1hZ2U="}]}).encode())

    def _speak(self, told: dict) -> None:
        if told["input"] == "":
            self._send(400, b'{"detail": "nothing to say"}')
            return
        self.send_response(200)
        self.send_header("content-type", "audio/mpeg")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(PIECES):
            piece = bytes([number]) * 1000
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _form(self, body: bytes) -> None:
        model = re.search(rb'name="model"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n', body)
        text = f"{model[1].decode() if model else None} heard {len(body)} bytes"
        found = {"text": text} if "audio" in self.path else {"created": 1, "data": [{"b64_json": "aW1hZ2U="}]}
        self._send(200, json.dumps(found).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
