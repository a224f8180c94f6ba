"""Exit codes that scripts can use (spec H), and the errors that end a command with them.

Ctrl-C ends a command with 130, as shells have it; typer sees to that.
"""

from __future__ import annotations

from roundhouse.config.problems import EditError
from roundhouse.errors import ConfigError, RouterError

DONE = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
REFUSED = 4


class Failed(RouterError):
    """It did not work."""


class Usage(RouterError):
    """The command was given something that it can't use."""


class NotRunning(RouterError):
    """Nobody answers at the URL."""


class Refused(RouterError):
    """Roundhouse answers, but does not do it: key, unknown model, conflict, limits."""


def exit_code(error: RouterError) -> int:
    """What the program ends with after this error."""
    if isinstance(error, (ConfigError, Usage)):
        return USAGE
    if isinstance(error, NotRunning):
        return NOT_RUNNING
    return REFUSED if isinstance(error, (Refused, EditError)) else FAILED
