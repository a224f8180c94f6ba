"""What systemd answers when it does not do as asked, as sentences for the user."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd.bus import BusLost, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

JOB_RESULTS = {
    "canceled": "somebody stopped it meanwhile",
    "timeout": "it took too long",
    "dependency": "a unit that it needs failed",
    "skipped": "one of its conditions is not met",
    "assert": "one of its assertions is not met",
    "unsupported": "this system can't run it",
}
"""Results of a job other than `done` and `failed` (org.freedesktop.systemd1(5), JobRemoved)."""


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Refusals of systemd, a lost bus, and files that can't be written, as LoadFailed: `what` can't be started."""
    try:
        yield
    except BusLost as error:
        raise LoadFailed(
            f"{what} can't be started: systemd can't be reached: {error}. Is it running here, and its D-Bus?"
        ) from error
    except Refused as error:
        if error.not_allowed:
            raise LoadFailed(
                f"{what} can't be started: systemd does not let this user do that; run `sudo roundhouse install`, "
                "which writes the polkit rule for it, or use `systemd: user`"
            ) from error
        raise LoadFailed(f"{what} can't be started: systemd says: {error}") from error
    except OSError as error:
        raise LoadFailed(f"{what} can't be started: {error}") from error
