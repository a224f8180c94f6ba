"""One real Roundhouse with scripted engines, shared by the tests of a module."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.house import Place, Running, Scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE = """#!/bin/sh
case "$1" in
--version) echo "version: 9999 (abcdef)";;
--help) echo "-m, --model FNAME  model"; echo "-c, --ctx-size N  context"; echo "-np, --parallel N  slots"; echo "--slot-save-path PATH  folder"; echo "--no-warmup  none";;
*) exec {python} -S {server} "$@";;
esac
"""


class Real:
    """`roundhouse serve` and its models: `one`, `two` (which do not fit together), `gated` (loads when told to), `bad`."""

    def __init__(self) -> None:
        self.place = Place()
        self.gate = self.place.gate("load")
        folder = self.place.folder
        self.models = [
            Scripted(folder, "one", memory="40MiB", aliases=["uno"]),
            Scripted(folder, "two", memory="40MiB"),
            Scripted(folder, "gated", "--load-gate", str(self.gate), memory="40MiB"),
            Scripted(folder, "bad", "--die-at-start", "these were my last words"),
        ]
        self.place.write(self.models, devices={"ram": "64MiB"})
        self.url = f"http://127.0.0.1:{self.place.port}"


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    made = Real()
    with Running(made.place):
        yield made


@pytest.fixture
def llama_server(tmp_path):
    """A program that says and does what the search for a llama-server looks at."""
    server = tmp_path / "server.py"
    server.write_text(
        "import sys\n"
        "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
        "class H(BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.rfile.read(int(self.headers.get('content-length') or 0))\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'{}')\n"
        "    do_POST = do_GET\n"
        "HTTPServer(('127.0.0.1', int(sys.argv[sys.argv.index('--port') + 1])), H).serve_forever()\n"
    )
    program = tmp_path / "llama-server"
    program.write_text(ENGINE.format(python=sys.executable, server=server))
    program.chmod(0o755)
    return program
