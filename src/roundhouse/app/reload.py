"""Another configuration while Roundhouse runs (spec E4): planned, checked, made ready aside, and taken over at once.

One reload at a time. Everything that can fail or wait happens before anything changes; then the house takes the whole
over between two events. A file that is wrong changes nothing, and is told wherever people look.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from roundhouse.config import checks
from roundhouse.config.load import load, parse
from roundhouse.config.plan import Effect, compare, in_force
from roundhouse.config.problems import Problems
from roundhouse.errors import ConfigError, Conflict
from roundhouse.observe import log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from roundhouse.app.lineup import Lineup
    from roundhouse.config.models import Config
    from roundhouse.config.plan import Change
    from roundhouse.observe.bus import Bus
    from roundhouse.observe.metrics import Metrics
    from roundhouse.observe.redact import Secrets
    from roundhouse.runtime.supervisor import Supervisor

LOOK_EVERY = 1.0
"""Seconds between two looks at the file; it is applied when two looks in a row saw the same."""
_LINE = re.compile(r":(\d+): ")

Seen = tuple[int, int, int]


class House(Protocol):
    """What has to be changed."""

    config: Config
    lineup: Lineup
    supervisor: Supervisor
    metrics: Metrics
    bus: Bus

    async def make_ready(self, config: Config) -> Lineup:
        """Makes another line-up aside."""

    def take_over(self, lineup: Lineup) -> None:
        """Has it hold from now on."""


class Reloader:
    """Plans and applies what the file says. `environ` is what `${env.X}` in it stands for.

    Attributes:
        last: what came of the last try; None before the first.
    """

    def __init__(self, house: House, environ: Mapping[str, str], secrets: Secrets) -> None:
        self.last: dict[str, Any] | None = None
        self._house = house
        self._environ = environ
        self._secrets = secrets
        self._lock = asyncio.Lock()
        self._log = log.get("roundhouse")
        self._seen: Seen | None = None

    async def plan(self, text: str | None = None) -> dict[str, Any]:
        """What applying the file would do, or this text in its place. Raises Conflict where there is no file."""
        source = self._source()
        try:
            lineup, pending = await self._made(source, text)
        except ConfigError as error:
            return self._told(source, error=error)
        return self._told(source, (*self._changes(lineup), *pending), lineup.config.warnings)

    async def apply(self, why: str) -> dict[str, Any]:
        """Applies the file; `why` is for the log. The answer says what was done, or why nothing was.

        Raises Conflict where there is no file, or Roundhouse is ending.
        """
        source = self._source()
        async with self._lock:
            self._seen = await asyncio.to_thread(_look, source)
            try:
                lineup, pending = await self._made(source)
            except ConfigError as error:
                told = self._told(source, error=error)
                self._log.error("configuration not applied", why=why, reason=error.message)
                return self._done(told, "failed")
            if self._house.supervisor.fleet.closing:  # what leaves now would not come back
                raise Conflict("Roundhouse is shutting down.")
            changes = self._changes(lineup)
            told = self._told(source, (*changes, *pending), lineup.config.warnings)
            self._house.take_over(lineup)
            if not changes and not pending:
                self._log.info("configuration read, nothing has changed", why=why)
            else:
                self._log.info("configuration applied", why=why, changes=[_brief(c) for c in (*changes, *pending)])
            return self._done(told, "applied" if changes else "unchanged")

    async def watch(self) -> None:
        """Applies the file whenever it has changed, while the configuration wants that (`reload.watch`)."""
        if (source := self._house.config.source) is None:
            return
        self._seen = before = await asyncio.to_thread(_look, source)
        while True:
            await asyncio.sleep(LOOK_EVERY)
            found = await asyncio.to_thread(_look, source)
            if self._house.config.reload.watch and found is not None and found == before != self._seen:
                with suppress(Conflict):
                    await self.apply("the file has changed")
            before = found

    def _source(self) -> Path:
        if (source := self._house.config.source) is None:
            raise Conflict("Roundhouse was not started from a configuration file, so there is none to read again.")
        return source

    async def _made(self, source: Path, text: str | None = None) -> tuple[Lineup, tuple[Change, ...]]:
        """The file's models, ready to be taken over, and what of it only a restart of Roundhouse brings.

        Raises ConfigError.
        """
        running = self._house.config
        if text is None:
            new = await asyncio.to_thread(load, source, self._environ, running.sessions)
        else:
            new = await asyncio.to_thread(parse, text, source, self._environ, running.sessions)
        config = in_force(running, new)
        # The addresses are those of the start: without keys, whoever reaches them may do everything.
        problems = Problems(source)
        checks.listening(config, problems)
        problems.raise_if_any()
        return await self._house.make_ready(config), compare(config, new)

    def _changes(self, lineup: Lineup) -> tuple[Change, ...]:
        house = self._house
        loaded = set(house.supervisor.fleet.instances.values())
        return compare(house.config, lineup.config, house.lineup.outdated(lineup), loaded)

    def _told(
        self,
        source: Path,
        changes: Sequence[Change] = (),
        warnings: Sequence[str] = (),
        error: ConfigError | None = None,
    ) -> dict[str, Any]:
        line = _LINE.search(error.message) if error is not None else None
        return {
            "file": str(source.absolute()),
            "error": None
            if error is None
            else {"message": self._secrets.text(error.message), "line": int(line[1]) if line else None},
            "changes": [self._change(change) for change in changes],
            "restarts": [change.name for change in changes if change.effect is Effect.RESTART],
            "warnings": list(warnings),
        }

    def _change(self, change: Change) -> dict[str, Any]:
        settings = []
        for setting in change.settings:
            shown: dict[str, Any] = {"name": setting.name}
            for side, value in (("old", setting.old), ("new", setting.new)):
                plain = shlex.join(map(str, value)) if setting.name == "args" and value else value
                shown[side] = next(iter(self._secrets.fields({setting.name.rpartition(".")[2]: plain}).values()))
            settings.append(shown)
        told = {"what": change.what, "name": change.name, "change": change.change, "effect": change.effect.value}
        return told | {"settings": settings}

    def _done(self, told: dict[str, Any], outcome: str) -> dict[str, Any]:
        self.last = {"at": round(time.time(), 3), "outcome": outcome, "error": told["error"]}
        self._house.metrics.reloaded(outcome)
        self._house.bus.publish("reload", {**self.last, "restarts": told["restarts"]})
        return {"applied": outcome != "failed", **told}


def _look(source: Path) -> Seen | None:
    """What changes when the file does; None while there is none (an editor may be about to put it back)."""
    try:
        found = source.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _brief(change: Change) -> str:
    return f"{change.what} {change.name} {change.change}: {change.effect.value}"
