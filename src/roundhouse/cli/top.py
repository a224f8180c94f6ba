"""`roundhouse top`: models, memory and the queue of a running Roundhouse, live in a terminal.

A thread asks once a second, and at once when the event feed says that something changed; the terminal belongs to the
main thread, which draws, reads keys, and puts everything back at the end.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import termios
import threading
import time
import tty
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import typer

from roundhouse.cli.options import DEFAULT_URL, JsonOption, KeyOption, UrlOption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from roundhouse.cli.board import Picture
    from roundhouse.cli.client import Client
    from roundhouse.cli.rates import Rate

EVERY: Final = 1.0
"""Seconds between two looks while nothing happens."""
LEAST: Final = 0.2
"""Seconds between two looks while much happens."""
KEPT: Final = 50
"""Events that are remembered."""
ARROWS: Final = {"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "k": "up", "j": "down"}
_KEY = re.compile(r"\x1b[\[O].|.", re.DOTALL)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example: roundhouse top")(top)


def top(url: UrlOption = DEFAULT_URL, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Watch models, memory and the queue live; q leaves. Where there is no terminal, prints them once.

    Keys: up and down (or k and j) choose a model, l loads it, u unloads it.
    """
    from roundhouse.cli import board, screen
    from roundhouse.cli.client import Client

    client = Client(url, key)
    watch = Watch(client)
    if as_json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        watch.look()
        picture = watch.picture
        if as_json:
            screen.print_json({"state": picture.state, "queue": picture.queue})
            return
        console = screen.out()
        for line in board.plain(picture):
            console.print(line, soft_wrap=True)
        return
    watch.look()  # a wrong address or key is told before the screen changes
    _live(watch)


@dataclass
class Watch:
    """What is known of one Roundhouse, kept fresh by two threads."""

    client: Client
    changed: threading.Event = field(default_factory=threading.Event)
    remark: str = ""

    def __post_init__(self) -> None:
        from roundhouse.cli.rates import Rates

        self._state: dict[str, Any] | None = None
        self._queue: list[dict[str, Any]] = []
        self._rates = Rates()
        self._trouble = ""
        self._rate: Rate | None = None
        self._happened: tuple[str, ...] = ()  # replaced, never changed: another thread reads it
        self._stir = threading.Event()

    @property
    def picture(self) -> Picture:
        """What is known now."""
        from roundhouse.cli.board import Picture

        return Picture(
            self.client.url,
            self._state,
            self._queue,
            self._rate,
            self._happened,
            self._trouble,
            self.remark,
        )

    def start(self) -> None:
        """Keeps itself fresh until the program ends."""
        for work in (self._look_again, self._follow):
            threading.Thread(target=work, name="top", daemon=True).start()

    def look(self) -> None:
        """Asks for everything. Raises Failed, NotRunning, Refused."""
        from roundhouse.cli.client import QUICK, read

        self._state = self.client.get("/api/v1/state")
        self._queue = self.client.get("/api/v1/queue")["waiting"]
        with self.client.open("GET", "/metrics", limit=QUICK) as response:
            self._rates.saw(time.monotonic(), read(response).decode("utf-8", "replace"))
        self._rate = self._rates.now

    def act(self, action: str, model: str) -> None:
        """Asks for a load or an unload, and goes on watching."""
        self._say(f"{model}: {action} asked for")
        threading.Thread(target=self._act, args=(action, model), name="top", daemon=True).start()

    def _act(self, action: str, model: str) -> None:
        from roundhouse.cli.client import model_path
        from roundhouse.errors import RouterError

        try:
            told = self.client.post(model_path(model, action))
            self._say(f"{model} is {told['state']}")
        except RouterError as error:
            self._say(error.message.partition("\n")[0])

    def _say(self, text: str) -> None:
        self.remark = text
        self._stir.set()
        self.changed.set()

    def _look_again(self) -> None:
        from roundhouse.errors import RouterError

        while True:
            try:
                self.look()
                self._trouble = ""
            except RouterError as error:
                self._trouble = error.message.partition("\n")[0]
            except (LookupError, TypeError, ValueError):
                self._trouble = f"What answers at {self.client.url} is no Roundhouse of this version."
            self.changed.set()
            time.sleep(LEAST)
            self._stir.wait(EVERY - LEAST)
            self._stir.clear()

    def _follow(self) -> None:
        """The feed, for as long as it takes; a look every second goes on without it."""
        from roundhouse.cli.board import happening
        from roundhouse.cli.client import events
        from roundhouse.errors import RouterError

        while True:
            try:
                with self.client.open("GET", "/api/v1/events") as response:
                    for kind, data in events(response):
                        if text := happening(kind, json.loads(data)):
                            self._happened = (*self._happened, f"{time.strftime('%H:%M:%S')} {text}")[-KEPT:]
                        self._stir.set()
            except (RouterError, LookupError, TypeError, AttributeError, ValueError):
                pass  # the looks tell what is wrong
            time.sleep(EVERY)


def _live(watch: Watch) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    from roundhouse.cli.board import board, ordered

    for name in ("COLUMNS", "LINES"):  # what a shell exported once would count more than the window as it is
        os.environ.pop(name, None)
    console = Console(highlight=False, markup=False, emoji=False)
    chosen: str | None = None
    with _raw_terminal() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        watch.start()
        while True:
            picture = watch.picture
            live.update(Group(*board(picture, console.width, console.height, chosen)), refresh=True)
            for key in keys.read(watch.changed):
                names = ordered(picture.state) if picture.state else []
                if key in {"q", "\x03"}:
                    return
                if key in {"up", "down"} and names:
                    chosen = _next(names, chosen, 1 if key == "down" else -1)
                    watch.remark = ""
                elif key in {"l", "u"} and chosen in names:
                    watch.act("load" if key == "l" else "unload", str(chosen))
                elif key in {"l", "u"}:
                    watch.remark = "choose a model first: ↑ and ↓"


def pressed(text: str) -> list[str]:
    """Keys by name of what a terminal sent; those pressed quickly come together."""
    return [ARROWS.get(key, key) for key in _KEY.findall(text)]


def _next(names: list[str], chosen: str | None, step: int) -> str:
    if chosen not in names:
        return names[0 if step > 0 else -1]
    return names[(names.index(chosen) + step) % len(names)]


class Keys:
    """Keys as they are pressed, and changes of the window."""

    def __init__(self, descriptor: int, wake: int) -> None:
        self._descriptor = descriptor
        self._wake = wake

    def read(self, changed: threading.Event) -> list[str]:
        """Waits for a key, a change of the picture or the window, or a second. [] for all but keys."""
        deadline = time.monotonic() + EVERY
        while not changed.is_set() and (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._descriptor, self._wake], [], [], min(left, LEAST / 2))
            if self._wake in ready:
                os.read(self._wake, 512)
                return []
            if ready:
                text = os.read(self._descriptor, 512).decode("utf-8", "replace")
                if not text:  # the terminal is gone
                    return ["q"]
                return pressed(text)
        changed.clear()
        return []


@contextmanager
def _raw_terminal() -> Iterator[Keys]:
    """Keys come singly and are not shown; afterwards everything is as it was, also on SIGTERM."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ended(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def resized(_number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # it is full of such news already
            os.write(writing, b"x")

    handlers = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGTERM, ended), (signal.SIGHUP, ended), (signal.SIGWINCH, resized))
    }
    try:
        tty.setcbreak(descriptor)
        yield Keys(descriptor, reading)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        os.close(reading)
        os.close(writing)
