"""An engine that answers every chat with one call of the first tool: small models call none reliably. `--port N`."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """`/health`."""
        self._send("application/json", b"{}")

    def do_POST(self) -> None:
        """`/v1/chat/completions`."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"city": "Paris"}'}
        call = {"index": 0, "id": "call_1", "type": "function", "function": function}
        common = {"id": "c", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            whole = {**common, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            self._send("application/json", json.dumps(whole).encode())
            return
        deltas = [({"role": "assistant", "tool_calls": [call]}, None), ({}, "tool_calls")]
        chunks = [{"choices": [{"index": 0, "delta": d, "finish_reason": reason}]} for d, reason in deltas]
        chunks.append({"choices": [], "usage": USAGE})
        told = [json.dumps({**common, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
        self._send("text/event-stream", "".join(f"data: {one}\n\n" for one in [*told, "[DONE]"]).encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    time.sleep(1.0)  # its load
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
