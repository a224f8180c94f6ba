"""What this machine's processor can do."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

LIST: Final = Path("/proc/cpuinfo")


@functools.cache
def flags() -> frozenset[str]:
    """The first core's flags in the kernel's words (`avx2`, `amx_int8`, on ARM `asimddp`); empty if untold."""
    try:
        lines = LIST.read_text("utf-8").splitlines()
    except OSError:
        return frozenset()
    told = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(told, "").split())
