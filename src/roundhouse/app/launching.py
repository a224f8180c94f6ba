"""Which launcher starts which model's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.app.specs import engine_of
from roundhouse.launchers.attached import AttachedLauncher
from roundhouse.launchers.kept import Kept

if TYPE_CHECKING:
    from roundhouse.app.hold import Held
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import Launcher


class Launchers:
    """The launchers of one run.

    Attributes:
        kept: by name, the processes that stay while models come and go, each with the seconds that its end may take.
    """

    def __init__(self, held: Held) -> None:
        self._held = held
        self._attached = AttachedLauncher()
        self.kept: dict[str, tuple[Kept, float]] = {}

    def of(self, model: ModelConfig) -> Launcher:
        """A model's launcher; models of one process that stays share theirs."""
        launcher = self._plain(model)
        engine = engine_of(model)
        loads = engine.loads(model)
        if loads is None:
            return launcher
        name = loads.process(model)
        if name not in self.kept:
            self.kept[name] = (Kept(launcher), engine.stop_grace)
        return self.kept[name][0]

    def _plain(self, model: ModelConfig) -> Launcher:
        if model.launcher == "attached":
            return self._attached
        if model.launcher == "systemd":
            assert self._held.systemd is not None  # it is there whenever a model asks for it
            return self._held.systemd
        return self._held.process
