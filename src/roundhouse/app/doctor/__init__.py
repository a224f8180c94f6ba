"""`roundhouse doctor`: the original's Troubleshooting section as checks, each finding with its remedy (spec G4).

Every check is a function that takes the `Visit` and gives findings; none knows the others. They run side by side, each
with a time limit, and one that fails is a finding itself.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from roundhouse.app.doctor import (
    address,
    builds,
    gpus,
    idle,
    models,
    orphans,
    ports,
    running,
    scripts,
    storage,
    tabby,
    units,
)
from roundhouse.app.doctor.finding import warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit

    Check = Callable[[Visit], Iterable[Finding]]

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "roundhouse": running.check,
        "addresses": address.check,
        "models": models.check,
        "scripts": scripts.check,
        "units": units.check,
        "ports": ports.check,
        "orphans": orphans.check,
        "idle": idle.check,
        "engines": builds.check,
        "gpus": gpus.check,
        "tabbyapi": tabby.check,
        "storage": storage.check,
    }
)
"""By the name that findings carry, in the order they are shown."""
LIMIT = 180.0
"""Seconds for all checks together: trying an engine's program and asking PyTorch take the longest."""


def examine(visit: Visit, checks: Mapping[str, Check] = CHECKS, limit: float = LIMIT) -> list[Finding]:
    """Runs all checks at once; their findings in the order of `checks`.

    In daemon threads: what hangs in the kernel (a dead network disk) must not keep the program from ending.
    """
    answers: queue.SimpleQueue[tuple[str, list[Finding]]] = queue.SimpleQueue()
    for name, check in checks.items():
        threading.Thread(
            target=lambda name, check: answers.put((name, _run(check, visit))), args=(name, check), daemon=True
        ).start()
    found: dict[str, list[Finding]] = {}
    deadline = time.monotonic() + limit
    while len(found) < len(checks):
        try:
            name, findings = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[name] = findings
    late = [warning("", f"This check was not done after {limit:.0f} s.", "look at the disks and programs it asks")]
    return [replace(finding, check=name) for name in checks for finding in found.get(name, late)]


def _run(check: Check, visit: Visit) -> list[Finding]:
    try:
        return list(check(visit))
    except Exception as problem:  # noqa: BLE001 -- a check that fails is told like any finding; the others go on
        told = f"{type(problem).__name__}: {problem}"
        return [warning("", f"This check failed ({told}), so it says nothing.", "please report it")]
