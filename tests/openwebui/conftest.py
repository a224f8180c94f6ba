"""The real Open WebUI in a real browser, before a Roundhouse with the demo's models: only where ROUNDHOUSE_OPENWEBUI is set.

`make test-openwebui` sets it, after scripts/openwebui.sh has installed what is needed below .cache/openwebui.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from roundhouse.observe.past import read_past
from tests.support.house import Place, Running, free_port
from tests.support.openwebui import PATIENCE, Chat, OpenWebUI, a_browser
from tests.support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = bool(os.environ.get("ROUNDHOUSE_OPENWEBUI"))
SLOW = 600.0
"""Seconds for one test on a busy machine."""
SMOL, GEMMA, VECTORS, CHORES, BROKEN = "smollm2-135m", "gemma3-270m", "minilm-l6", "chores", "broken"
CONNECTION = {
    "provider": "llama.cpp",
    "headers": {
        "X-OpenWebUI-Task": "{{TASK}}",
        "X-OpenWebUI-Chat": "{{CHAT_ID}}",
        "X-OpenWebUI-User-Id": "{{USER_ID}}",
    },
}
"""What our documentation page recommends for a connection."""
MOST_TOKENS = 400
"""Of one answer: models as small as these may not find an end, and nobody shall wait for that."""
# What Open WebUI reads out of its tasks' answers: one of these, by the task. Small models need to be held to it.
TEXTS = {"type": "array", "items": {"type": "string", "maxLength": 60}, "minItems": 2, "maxItems": 3}
CHORE = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 30}, "follow_ups": TEXTS, "tags": TEXTS},
    "required": ["title", "follow_ups", "tags"],
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(SLOW))
            if not WANTED:
                item.add_marker(pytest.mark.skip("run it with `make test-openwebui`"))


class Box:
    """Roundhouse with its models, what its client said to it, and a gate that holds loads. Counts begin anew with each test."""

    def __init__(self, place: Place, running: Running, wire: Recorder) -> None:
        self.place = place
        self.running = running
        self.wire = wire
        self.gate = place.gate("loads")
        self.failure = place.gate("failure")
        self._loads = 0
        self._since = 0.0

    @property
    def url(self) -> str:
        """Where clients are to ask, so that they are heard."""
        return f"http://127.0.0.1:{self.wire.port}/v1"

    def ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=120)
        try:
            connection.request(method, path)
            reply = connection.getresponse()
            raw = reply.read().decode()
        finally:
            connection.close()
        assert reply.status == 200, (method, path, reply.status, raw)
        return json.loads(raw) if "json" in reply.headers["content-type"] else raw

    def model(self, name: str) -> dict[str, Any]:
        """One model as `/health` has it."""
        found: dict[str, Any] = self.ask("GET", "/health")["models"][name]
        return found

    def all_loads(self) -> list[str]:
        return [line["model"] for line in self.running.log_lines() if line["event"] == "loading model"]

    def loads(self) -> list[str]:
        """Every model that this test has loaded, in order."""
        return self.all_loads()[self._loads :]

    def past(self, count: int) -> list[Any]:
        """This test's requests as the history has them, in the order of their arrival, once so many have ended."""

        def ended():
            requests = read_past(self.place.state / "roundhouse.db").requests
            return sorted((r for r in requests if r.at >= self._since), key=lambda r: r.at)

        return until(lambda: found if len(found := ended()) >= count else None)

    def open(self) -> None:
        """Lets every load go on, and go well."""
        self.failure.unlink(missing_ok=True)
        self.gate.unlink(missing_ok=True)

    def begin(self) -> None:
        """Nothing is loaded, nothing is held."""
        self.open()
        for name in (SMOL, GEMMA, VECTORS, CHORES):
            self.ask("POST", f"/api/v1/models/{name}/unload")
        self._loads = len(self.all_loads())
        self._since = time.time()
        self.wire.asked.clear()


def until(found: Callable[[], Any]) -> Any:
    """Polls for what has no event that could be waited for."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return value


def gated(program: Path, gate: Path, failure: Path) -> str:
    """llama-server that does not begin to load while one file is there, and gets a flag it does not know if another is."""
    return f"""#!/bin/sh
case " $* " in *" -m "*)
    while [ -e {shlex.quote(str(gate))} ]; do sleep 0.1; done
    if [ -e {shlex.quote(str(failure))} ]; then set -- "$@" --no-such-flag; fi ;;
esac
exec {shlex.quote(str(program))} "$@"
"""


def settings(demo, broken: Path, server: Path):
    """The demo's models. Its chat models share a port, so that they exclude one another whatever they are measured to need."""
    smol, gemma, vectors = (demo["models"][name] for name in (SMOL, GEMMA, VECTORS))
    port = free_port()
    for model in (smol, gemma):
        model |= {"port": port, "set": model.get("set", {}) | {"max_tokens": MOST_TOKENS}}
    held = {"response_format": {"type": "json_schema", "json_schema": {"name": "chore", "schema": CHORE}}}
    chores = smol | {
        "name": "Chores",
        "port": None,
        "context": 2048,
        "slots": 1,
        "set": held | {"max_tokens": MOST_TOKENS},
    }
    return {
        "models": {
            SMOL: smol,
            GEMMA: gemma,
            VECTORS: vectors | {"preload": False},
            CHORES: chores,
            BROKEN: {"name": "Broken", "path": str(broken), "memory": "100MiB"},
        },
        "devices": {"ram": "3GiB"},
        "engines": {"llamacpp": {"binary": str(server)}},
        "status": {"every": "1s"},
    }


@pytest.fixture(scope="session")
def box():
    """One program for all tests; each begins with nothing loaded."""
    from rich.console import Console
    from ruamel.yaml import YAML

    from roundhouse.demo.config import demo_config
    from roundhouse.demo.run import default_cache, prepare

    made = prepare(default_cache(os.environ), Console(stderr=True), os.environ)
    place = Place()
    server = place.folder / "llama-server"
    server.write_text(gated(made.engine.program, place.gate("loads"), place.gate("failure")))
    server.chmod(0o755)
    broken = place.folder / "broken.gguf"
    broken.write_bytes(made.smollm2.read_bytes()[:50_000_000])
    place.write(**settings(YAML(typ="safe").load(demo_config(made, "", place.state)), broken, server))
    with Running(place) as running, Recorder(place.port) as wire:
        yield Box(place, running, wire)


@pytest.fixture(scope="session")
def webui(box):
    """Set up by its environment alone, as our documentation page says."""
    environ = {
        "OPENAI_API_BASE_URL": box.url,
        "OPENAI_API_KEY": "",
        "OPENAI_API_CONFIGS": json.dumps({"0": CONNECTION}),
        "RAG_OPENAI_API_BASE_URL": box.url,
        "RAG_OPENAI_API_KEY": "any",
        "RAG_EMBEDDING_MODEL": VECTORS,
    }
    with OpenWebUI(box.place.folder, environ) as server:
        assert server.ask("GET", "/openai/config")["OPENAI_API_CONFIGS"] == {"0": CONNECTION}
        yield server


@pytest.fixture(scope="session")
def browser():
    with a_browser() as found:
        yield found


@pytest.fixture
def chat(box, webui, browser):
    """Opens conversations, each on a page of its own. Nothing is loaded, and no tasks are asked for unless a test wants them."""
    webui.connect(box.url)
    webui.let_tasks(on=False)
    box.begin()
    opened = []

    def begin(model: str) -> Chat:
        page = browser.new_page(viewport={"width": 900, "height": 520})
        opened.append(Chat(page, webui.url, model))
        return opened[-1]

    yield begin
    box.open()
    for conversation in opened:
        conversation.page.close()
        assert conversation.strangers == []
