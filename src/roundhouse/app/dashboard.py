"""What the dashboard is told beyond state and feed (`api.dashboard.Dashboard`)."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psutil

from roundhouse.app.inhand import InHand
from roundhouse.errors import UnknownModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.api.state import About
    from roundhouse.config.models import Config, ModelConfig
    from roundhouse.observe.redact import Secrets
    from roundhouse.observe.store import Store
    from roundhouse.runtime.supervisor import Supervisor

_FACTS = ("format", "architecture", "name", "weights", "context", "quantisation", "layers", "vocabulary", "vision")


class Dashboard:
    """Answers from the picture, the store and the configuration."""

    def __init__(
        self, config: Config, supervisor: Supervisor, store: Store, about: Mapping[str, About], secrets: Secrets
    ) -> None:
        self.config = config
        self._supervisor = supervisor
        self._store = store
        self._in_hand = InHand(supervisor, store)
        self._about = about
        self._secrets = secrets

    def queue(self) -> dict[str, Any]:
        """Who waits, who is answered, what loads."""
        return self._in_hand.queue()

    async def request(self, request: str) -> dict[str, Any]:
        """One request as it is now, or was."""
        return await self._in_hand.one(request)

    async def cancel(self, request: str, by: str) -> dict[str, Any]:
        """Ends a request."""
        return await self._in_hand.cancel(request, by)

    async def requests(
        self,
        *,
        model: str | None,
        key: str | None,
        ok: bool | None,
        before: float | None,
        waited: float | None,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Past requests, newest first."""
        found = await self._store.find_requests(model, key, ok, before, limit, waited)
        return [request._asdict() for request in found]

    def model(self, name: str) -> dict[str, Any]:
        """Settings, facts and command line."""
        config = self._named(name)
        about, state = self._about.get(name), self._supervisor.fleet.models.get(name)
        facts = asdict(about.facts) if about is not None and about.facts is not None else None
        pid = state.instance.pid if state is not None and state.instance is not None else None
        return {
            "id": name,
            "settings": self._hidden(config),
            "facts": None if facts is None else {key: facts[key] for key in _FACTS},
            "problem": about.problem if about is not None else None,
            "pinned": state is not None and state.spec.pinned,
            "claim": dict(state.claim) if state is not None else {},
            "command": self._command(pid),
        }

    def settings(self) -> dict[str, Any]:
        """The configuration without models and secrets."""
        return dict(self._secrets.fields(self.config.model_dump(mode="json", exclude={"models"})))

    def _named(self, name: str) -> ModelConfig:
        found = self.config.models.get(name)
        if found is None:
            raise UnknownModel(f"Model '{name}' does not exist.", param="model")
        return found

    def _hidden(self, config: ModelConfig) -> dict[str, Any]:
        """Arguments as one line, for a flag and its secret are two words."""
        plain = config.model_dump(mode="json")
        return dict(self._secrets.fields({**plain, "args": shlex.join(str(word) for word in plain["args"])}))

    def _command(self, pid: int | None) -> str | None:
        """How the engine was called; None where none of ours runs."""
        with suppress(psutil.Error):
            if pid is not None:
                return self._secrets.text(shlex.join(psutil.Process(pid).cmdline())) or None
        return None
