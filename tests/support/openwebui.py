"""The real Open WebUI as a process, its administrator's API, and a browser that uses it as a person would.

Names of elements are those of version 0.12.4.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.support.house import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from playwright.sync_api import Browser, Locator, Page

HOME = Path(__file__).parents[2] / ".cache/openwebui"
VERSION = "0.12.4"
START_LIMIT = 300.0
"""Seconds; it migrates an empty database first, which took 25 s on a quiet machine."""
PATIENCE = 120_000
"""Milliseconds that the browser waits for what is to be seen."""

OFFLINE = {
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "ENABLE_COMMUNITY_SHARING": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    # Its own embedding model and speech recognition would be fetched.
    "RAG_EMBEDDING_ENGINE": "openai",
    "AUDIO_STT_ENGINE": "openai",
    "AUDIO_TTS_ENGINE": "openai",
}
STILL = """() => Promise.all(document.getAnimations()
    .filter(one => one.effect.getTiming().iterations !== Infinity).map(one => one.finished))"""
"""Waits until what fades in or out has done so."""
QUIET_BROWSER = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class OpenWebUI:
    """One server with an empty database and without accounts: who visits is its administrator.

    A context manager. `environ` are its settings, which here win over what its database says.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = folder / "openwebui.log"
        data = folder / "openwebui"
        data.mkdir()
        ours = {
            "DATA_DIR": str(data),
            "STATIC_DIR": str(data / "static"),
            "WEBUI_AUTH": "false",
            "WEBUI_SECRET_KEY": "of-a-test",
            "ENABLE_PERSISTENT_CONFIG": "false",
            "ENABLE_OLLAMA_API": "false",
        }
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._environ = kept | OFFLINE | ours | dict(environ)
        self._data = data
        self._token = ""
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        argv = [HOME / "server/bin/open-webui", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._data, env=self._environ
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        signed_in = self.ask("POST", "/api/v1/auths/signin", {"email": "", "password": ""})
        self._token = signed_in["token"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_until_up(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                self.ask("GET", "/health")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"it did not start: {self.log_file.read_text()[-4000:]}") from None
                time.sleep(0.2)
            else:
                return

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One call of its API as its administrator."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            raw = reply.read()
        finally:
            connection.close()
        assert reply.status == 200, (method, path, reply.status, raw)
        return json.loads(raw)

    def connect(self, url: str, key: str = "", **settings: object) -> None:
        """Makes this its one connection, as Admin Settings, Connections does."""
        self.ask(
            "POST",
            "/openai/config/update",
            {
                "ENABLE_OPENAI_API": True,
                "OPENAI_API_BASE_URLS": [url],
                "OPENAI_API_KEYS": [key],
                "OPENAI_API_CONFIGS": {"0": {"enable": True, **settings}},
            },
        )

    @contextmanager
    def by_ollama(self, url: str) -> Iterator[None]:
        """Has a connection of Ollama's kind in place of OpenAI's."""
        openai = self.ask("GET", "/openai/config")
        self.ask("POST", "/openai/config/update", openai | {"ENABLE_OPENAI_API": False})
        ours = {"ENABLE_OLLAMA_API": True, "OLLAMA_BASE_URLS": [url], "OLLAMA_API_CONFIGS": {}}
        self.ask("POST", "/ollama/config/update", ours)
        yield
        self.ask("POST", "/ollama/config/update", ours | {"ENABLE_OLLAMA_API": False})

    def let_tasks(self, *, on: bool, model: str = "") -> None:
        """Whether it asks for titles, tags and follow-ups, and of which model; '': the chat's own."""
        path = "/api/v1/tasks/config"
        switches = dict.fromkeys(("TITLE", "TAGS", "FOLLOW_UP"), on)
        wanted = {f"ENABLE_{name}_GENERATION": value for name, value in switches.items()}
        wanted |= {"TASK_MODEL": model, "TASK_MODEL_EXTERNAL": model}
        self.ask("POST", f"{path}/update", self.ask("GET", path) | wanted)

    def newest_chat(self) -> dict[str, Any]:
        """The newest conversation as it is kept."""
        newest = self.ask("GET", "/api/v1/chats/")[0]
        found: dict[str, Any] = self.ask("GET", f"/api/v1/chats/{newest['id']}")
        return found


def chromium() -> str:
    """The system's, or the one that $CHROMIUM names."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "no Chromium: scripts/openwebui.sh installs it, $CHROMIUM names one"
    return found


@contextmanager
def a_browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET_BROWSER))
        yield browser
        browser.close()


class Chat:
    """A page of Open WebUI with one conversation."""

    def __init__(self, page: Page, url: str, model: str) -> None:
        self.page = page
        self.strangers: list[str] = []
        """Addresses outside this machine that the page asked for."""
        page.on("request", self._note)
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}/?models={model}")
        page.locator("#chat-input").wait_for()
        welcome = page.get_by_role("button", name=re.compile("Okay, Let's Go"))
        if welcome.count():
            welcome.click()

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.strangers.append(request.url)

    def say(self, text: str) -> None:
        """Sends a message and waits for nothing."""
        self.page.locator("#chat-input").click()
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def ask(self, text: str) -> str:
        """Sends a message, waits for the end of its answer, and returns the text as it is read."""
        count = self.page.locator(".copy-response-button").count()
        self.say(text)
        return self.finished(count + 1)

    def finished(self, count: int = 1) -> str:
        """Waits until so many answers have ended, and returns the text of the newest."""
        self.page.locator(".copy-response-button").nth(count - 1).wait_for()
        return self.text.inner_text().strip()

    @property
    def answer(self) -> Locator:
        """The newest answer with all that stands around it."""
        return self.page.locator(".chat-assistant").last

    @property
    def text(self) -> Locator:
        """The newest answer's text alone."""
        return self.answer.locator(".markdown-prose").last

    def sees(self, text: str) -> Locator:
        """Waits until the newest answer shows a text, and returns what shows it."""
        found = self.answer.get_by_text(text).first
        found.wait_for()
        return found

    def status_lines(self) -> list[str]:
        """Unfolds the status line and returns its whole history, oldest first."""
        toggle = self.answer.get_by_label("Toggle status history")
        if toggle.get_attribute("aria-expanded") == "false":
            toggle.click()
        lines = self.answer.locator(".status-description")
        lines.nth(1).wait_for()
        return [line.strip() for line in lines.all_inner_texts()[1:]]

    def pick(self, model: str) -> None:
        """Chooses another model as a person does, by the dropdown."""
        self.open_models()
        self.row(model).click()

    def open_models(self) -> None:
        """Opens the dropdown."""
        self.page.locator("button[id^=model-selector]").first.click()
        self.page.locator("[data-value]").first.wait_for()

    def row(self, model: str) -> Locator:
        """A model's row in the open dropdown."""
        return self.page.locator(f'[data-value="{model}"]').first

    def stop(self) -> None:
        """Presses the stop button."""
        self.page.get_by_label("Stop", exact=True).click()

    def toasts(self) -> Locator:
        """Short messages at the edge of the page."""
        return self.page.locator("[data-sonner-toast]")

    def picture(self, name: str) -> None:
        """A screenshot for the documentation, into the folder that $ROUNDHOUSE_SCREENSHOTS names; else none."""
        if folder := os.environ.get("ROUNDHOUSE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.evaluate(STILL)
            self.page.screenshot(path=Path(folder, f"open-webui-{name}.png"))
