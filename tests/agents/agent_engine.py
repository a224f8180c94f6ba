"""An engine that does what a coding agent's model should: writes one file, then says it is done. `--port N --record FILE`.

Small models drive no agent. This one calls the tool that the agent offers for it, or answers aider with an edit. Asked to
DAWDLE, it streams until its client leaves, and writes that down.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOAD = 4.0
"""Seconds that it loads."""
LINE = "written through Roundhouse"
USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
RECORD = Path(sys.argv[sys.argv.index("--record") + 1]) if "--record" in sys.argv else Path("unused")


def note(what: str, **more: object) -> None:
    """Writes down what happened."""
    with RECORD.open("a") as file:
        file.write(json.dumps({"what": what, **more}) + "\n")


def arguments(name: str, path: str) -> dict[str, object] | None:
    """What a tool of that name is to be called with to write the file."""
    shell = f"echo '{LINE}' > '{path}'"
    return {
        "Write": {"file_path": path, "content": f"{LINE}\n"},
        "exec_command": {"cmd": shell},
        "shell_command": {"command": shell},
        "shell": {"command": ["sh", "-c", shell]},
    }.get(name)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """The delta that answers a conversation."""
    text = json.dumps(asked["messages"])
    path = re.search(r"FILE=([\w./-]+)", text)
    called = any(message["role"] == "tool" for message in asked["messages"])
    if path is None or called:
        return {"content": "Done."}
    for tool in asked.get("tools", ()):
        name = tool["function"]["name"]
        if (told := arguments(name, path[1])) is not None:
            function = {"name": name, "arguments": json.dumps(told)}
            return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
    name = Path(path[1]).name
    return {"content": f"{name}\n```\n<<<<<<< SEARCH\n=======\n{LINE}\n>>>>>>> REPLACE\n```\n"}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """`/health`."""
        self._head("application/json", 2)
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        """`/v1/chat/completions`."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tools = [tool["function"]["name"] for tool in asked.get("tools", ())]
        note("asked", tools=tools, stream=bool(asked.get("stream")))
        common = {"id": "c", "created": 1, "model": asked["model"]}
        if "DAWDLE" in json.dumps(asked["messages"]) and asked.get("stream"):
            self._stream(common, self._dawdling())
            return
        delta = answer(asked)
        end = "tool_calls" if "tool_calls" in delta else "stop"
        if asked.get("stream"):
            self._stream(common, iter([({"role": "assistant", **delta}, None), ({}, end)]))
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": None, **delta}, "finish_reason": end}
        body = json.dumps({**common, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
        self._head("application/json", len(body))
        self.wfile.write(body)

    def _dawdling(self) -> Iterator[tuple[dict[str, object], str | None]]:
        note("dawdling")
        while True:
            yield {"content": "word "}, None
            time.sleep(0.05)

    def _stream(self, common: dict[str, object], deltas: Iterator[tuple[dict[str, object], str | None]]) -> None:
        self.close_connection = True
        self._head("text/event-stream", None)
        try:
            for delta, end in deltas:
                self._event({**common, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]})
            self._event({**common, "choices": [], "usage": USAGE})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            note("left")

    def _event(self, chunk: dict[str, object]) -> None:
        self.wfile.write(f"data: {json.dumps({**chunk, 'object': 'chat.completion.chunk'})}\n\n".encode())
        self.wfile.flush()

    def _head(self, kind: str, length: int | None) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        if length is None:
            self.send_header("connection", "close")
        else:
            self.send_header("content-length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    note("start")
    time.sleep(LOAD)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
