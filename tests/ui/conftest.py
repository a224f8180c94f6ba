"""A Roundhouse with the demo's models, and a browser before its dashboard: only where ROUNDHOUSE_UI is set.

`make test-ui` sets it, after scripts/browser.sh has installed what is needed.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.gguf_files import write_tiny_chat
from tests.support.house import Place, Running, free_port
from tests.support.openwebui import a_browser

WANTED = bool(os.environ.get("ROUNDHOUSE_UI"))
SMOL, GEMMA, BROKEN, ENDLESS = "smollm2-135m", "gemma3-270m", "broken", "endless"
AXE = Path(__file__).parents[2] / ".cache/openwebui/browser/axe_playwright_python"
PATIENCE = 60_000
"""Milliseconds that the browser waits for what is to be seen."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(240))
            if not WANTED:
                item.add_marker(pytest.mark.skip("run it with `make test-ui`"))


def gated(program: Path, gate: Path) -> str:
    """llama-server that does not begin to load a model while a file is there."""
    return f"""#!/bin/sh
case " $* " in *" -m "*) while [ -e {shlex.quote(str(gate))} ]; do sleep 0.1; done ;; esac
exec {shlex.quote(str(program))} "$@"
"""


@pytest.fixture(scope="session")
def box():
    """One program for all tests. The chat models share a port, so that they exclude one another."""
    from rich.console import Console
    from ruamel.yaml import YAML

    from roundhouse.demo.config import demo_config
    from roundhouse.demo.run import default_cache, prepare

    made = prepare(default_cache(os.environ), Console(stderr=True), os.environ)
    place = Place()
    server, gate = place.folder / "llama-server", place.gate("loads")
    server.write_text(gated(made.engine.program, gate))
    server.chmod(0o755)
    broken = place.folder / "broken.gguf"
    broken.write_bytes(made.smollm2.read_bytes()[:50_000_000])
    demo = YAML(typ="safe").load(demo_config(made, "", place.state))
    port, chats = free_port(), {name: demo["models"][name] for name in (SMOL, GEMMA)}
    for model in chats.values():
        model |= {"port": port, "preload": False, "set": model.get("set", {}) | {"max_tokens": 24}}
    tiny = place.folder / "endless.gguf"
    write_tiny_chat(tiny, "endless", n_ctx=65536)
    endless = {"path": str(tiny), "memory": "100MiB", "context": 65536, "slots": 1, "args": ["--threads", 1]}
    place.write(
        {**chats, BROKEN: {"path": str(broken), "memory": "100MiB"}, ENDLESS: endless},
        captures={"store": "all"},
        reload={"watch": False},
        devices={"ram": "16GiB"},
        scheduling={"linger": "0s"},
        engines={"llamacpp": {"binary": str(server)}},
    )
    with Running(place) as running:
        yield SimpleNamespace(place=place, running=running, gate=gate, url=f"http://127.0.0.1:{place.port}/ui")
        gate.unlink(missing_ok=True)


def ask(box, method: str, path: str, body: object = None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", box.place.port, timeout=120)
    try:
        connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            {"content-type": "application/json", **(headers or {})},
        )
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def until(found):
    """Polls for what has no event that could be waited for."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return value


def barriers(page) -> list[tuple[str, str]]:
    """What axe finds serious: its rule, and the first element of each."""
    page.evaluate(next(AXE.rglob("axe.min.js")).read_text("utf-8"))
    found = page.evaluate("axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)))")
    return [(each["id"], each["nodes"][0]["html"]) for each in found]


@pytest.fixture(scope="session")
def browser():
    with a_browser() as found:
        yield found


@pytest.fixture
def opened(browser):
    """Opens pages; at the end none of them may have complained, or have asked anybody else for anything."""
    pages, complaints = [], []

    def open_page(url: str, *, width: int = 1280, dark: bool = False, prepare=None):
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.on(
            "request",
            lambda r: None if r.url.startswith(("http://127.0.0.1:", "data:", "blob:")) else complaints.append(r.url),
        )
        if prepare is not None:
            prepare(page)
        pages.append(page)
        page.goto(url)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
