"""Whether an engine ended for want of memory: by its own words, or by the kernel's hand (spec D10)."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.runtime.loading import LAST_LINES

if TYPE_CHECKING:
    from roundhouse.runtime.life import Life

VMSTAT = Path("/proc/vmstat")
KILLED = frozenset({-signal.SIGKILL, 128 + signal.SIGKILL})
"""As the kernel ends one; a shell that ran it says 137."""


def caused(life: Life, reason: str) -> bool:
    """Whether an end that we did not want was one for want of memory; `reason` is what is known of it, in words.

    What a process that stays has said may be about an earlier model, so only the reason counts there.
    """
    if life.ended is not None and _by_the_kernel(life):
        return True
    lines = life.handle.tail(LAST_LINES) if life.handle is not None and life.runnable.loads is None else []
    return life.runnable.engine.out_of_memory([*lines, reason])


def _by_the_kernel(life: Life) -> bool:
    """Nobody else sends SIGKILL to an engine that loads. To one that serves somebody may: the kernel's count tells."""
    ended = life.ended
    assert ended is not None
    if ended.by_us or ended.starved:
        return ended.starved
    return ended.code in KILLED and (not life.ready or kills() > life.kills)


def kills(vmstat: Path = VMSTAT) -> int:
    """How many processes this machine's kernel has ended for want of memory, its own or a control group's (proc(5))."""
    try:
        rows = dict(line.split() for line in vmstat.read_text().splitlines())
    except OSError:
        return 0
    return int(rows.get("oom_kill", 0))
