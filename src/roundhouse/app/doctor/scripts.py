"""Start scripts as files: readable, with a first line that says what runs them. Their command is `advice`'s matter.

That they exist and are executable is asked before every load too, so `models` says it.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from roundhouse.app.doctor.finding import error, ok, warning
from roundhouse.app.doctor.models import script_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit


def check(visit: Visit) -> Iterator[Finding]:
    """Every model's that exists and is executable."""
    for model in visit.engines:
        script = model.script
        if script is not None and script.is_file() and os.access(script, os.X_OK):
            yield _file(model.id, script, script_of(model))


def _file(model: str, script: Path, text: str | None) -> Finding:
    quoted = shlex.quote(str(script))
    if text is None:
        return warning(model, f"Its start script {script} can't be read by this user.", f"chmod a+r {quoted}")
    if not text.startswith("#!"):
        return error(
            model,
            f"Its start script {script} has no `#!` line, so the system can't run it.",
            "make `#!/bin/bash` its first line",
        )
    if text.partition("\n")[0].endswith("\r"):
        return error(
            model, f"{script} has Windows line ends, so its interpreter is not found.", f"sed -i 's/\\r$//' {quoted}"
        )
    return ok(model, f"Its start script {script} can be run.")
