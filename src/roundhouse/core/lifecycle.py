"""The life of an engine instance, as one table. Everything that moves an instance from phase to phase stands here.

Rule 1: a move that is not in the table is a bug and raises. Rule 2: memory is counted until GONE, which is said only
when the processes have ended *and* their memory is back. A crash leaves a `Failure` beside the model, never a phase.
"""

from __future__ import annotations

from enum import StrEnum

from roundhouse.core.model import Phase


class Cue(StrEnum):
    """What moves an instance."""

    PASSED_PROBE = "answers its readiness probe"
    TOLD_TO_LEAVE = "told to leave: idle, room needed, unload asked, closing"
    RECALLED = "its room is not needed any more"
    EMPTY = "its last answer ended (or its drain limit passed)"
    GONE = "processes ended and memory is back"


TRANSITIONS: dict[tuple[Phase, Cue], Phase | None] = {
    (Phase.STARTING, Cue.PASSED_PROBE): Phase.READY,
    (Phase.STARTING, Cue.TOLD_TO_LEAVE): Phase.STOPPING,
    (Phase.STARTING, Cue.GONE): None,
    (Phase.READY, Cue.TOLD_TO_LEAVE): Phase.DRAINING,
    (Phase.READY, Cue.GONE): None,
    (Phase.DRAINING, Cue.RECALLED): Phase.READY,
    (Phase.DRAINING, Cue.EMPTY): Phase.STOPPING,
    (Phase.DRAINING, Cue.GONE): None,
    # A probe may pass in the instant in which the load is given up.
    (Phase.STOPPING, Cue.PASSED_PROBE): Phase.STOPPING,
    (Phase.STOPPING, Cue.GONE): None,
}


def advance(phase: Phase, cue: Cue) -> Phase | None:
    """The phase after `cue`; None = the instance is no more.

    Raises:
        LookupError: the move is not in the table.
    """
    try:
        return TRANSITIONS[phase, cue]
    except KeyError:
        raise LookupError(f"an instance that is {phase.name} can't be {cue.name}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> STARTING: Start"]
    for (phase, cue), after in TRANSITIONS.items():
        lines.append(f"    {phase.name} --> {after.name if after else '[*]'}: {cue.name}")
    return "\n".join(lines)
