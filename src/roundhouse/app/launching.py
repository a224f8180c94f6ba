"""Which launcher starts which model's engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roundhouse.app.specs import engine_of, port_of, process_identity
from roundhouse.launchers.attached import AttachedLauncher
from roundhouse.launchers.kept import Kept

if TYPE_CHECKING:
    from roundhouse.app.hold import Held
    from roundhouse.config.models import ModelConfig
    from roundhouse.ports import Launcher


@dataclass(frozen=True, slots=True)
class Staying:
    """A process that stays while models come and go.

    Attributes:
        identity: how it is recognised.
        grace: seconds that its end may take.
        port, unit: what no other process can have meanwhile.
    """

    kept: Kept
    identity: str
    grace: float
    port: int | None
    unit: str | None


class Launchers:
    """The launchers of one configuration; processes that it shares with the `former` one stay.

    Attributes:
        staying: by name, the processes that stay while models come and go.
    """

    def __init__(self, held: Held, former: Launchers | None = None) -> None:
        self._held = held
        self._former = former.staying if former is not None else {}
        self._attached = AttachedLauncher()
        self.staying: dict[str, Staying] = {}

    def of(self, model: ModelConfig) -> Launcher:
        """A model's launcher; models of one process that stays share theirs."""
        launcher = self._plain(model)
        engine = engine_of(model)
        loads = engine.loads(model)
        if loads is None:
            return launcher
        name = loads.process(model)
        if name not in self.staying:
            identity, port, unit = process_identity(model, name), port_of(model), model.service
            former = self._former.get(name)
            if former is not None and former.identity == identity:
                self.staying[name] = former
            else:
                in_place = [f.kept for f in self._former.values() if f.port == port or (unit and f.unit == unit)]
                self.staying[name] = Staying(Kept(launcher, in_place), identity, engine.stop_grace, port, unit)
        return self.staying[name].kept

    def _plain(self, model: ModelConfig) -> Launcher:
        if model.launcher == "attached":
            return self._attached
        if model.launcher == "systemd":
            assert self._held.systemd is not None  # it is there whenever a model asks for it
            return self._held.systemd
        return self._held.process
