"""Engines that burn a core while they have nothing to do, as SGLang does without --sleep-on-idle (spec G4)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

from roundhouse.app.doctor import whose
from roundhouse.app.doctor.finding import note, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit

SAMPLE = 1.0
"""Seconds over which processor time is measured."""
TOO_MUCH = 0.5
"""Cores."""


def check(visit: Visit) -> Iterator[Finding]:
    """All of our engines at once. Busy is what Roundhouse says is busy, before or after the measurement."""
    members = whose.members(visit)
    if not members:
        return
    before, state = _times(members), visit.state()
    started = time.monotonic()
    time.sleep(SAMPLE)
    after, lasted = _times(members), time.monotonic() - started
    later = visit.state()
    for name, pids in members.items():
        used = {pid: (after[pid] - before[pid]) / lasted for pid in pids if pid in before and pid in after}
        yield from _judged(name, used, busy=_busy(name, state) or _busy(name, later), known=state is not None)


def _times(members: Mapping[str, Iterable[int]]) -> dict[int, float]:
    """Processor seconds used so far, by pid, of those that live."""
    found = {}
    for pid in {pid for pids in members.values() for pid in pids}:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue  # it has ended, or is not ours to look into
        found[pid] = times.user + times.system
    return found


def _busy(name: str, state: Mapping[str, object] | None) -> bool:
    """Whether a model works: requests, or a load. A unit that runs one of several models counts as busy if one does."""
    models = state.get("models") if state is not None else None
    if not isinstance(models, dict):
        return False
    told = [models[name]] if name in models else list(models.values())
    return any(model.get("active") or model.get("state") not in {"ready", "unloaded", "failed"} for model in told)


def _judged(name: str, used: Mapping[int, float], *, busy: bool, known: bool) -> Iterator[Finding]:
    cores = sum(used.values())
    if not used or busy:
        return
    worst = max(used, key=lambda pid: used[pid])
    shown = f"{cores:.1f} cores (most of it pid {worst})"
    remedy = "SGLang: add --sleep-on-idle to its `args:` or start script; others: `roundhouse logs` says what they do"
    if cores <= TOO_MUCH:
        yield ok(name, f"Its engine uses {cores * 100:.0f} % of a core.")
    elif known:
        yield warning(name, f"Its engine is idle and uses {shown}.", remedy)
    else:
        yield note(name, f"Its engine uses {shown}. That is too much if no request runs.", remedy)
