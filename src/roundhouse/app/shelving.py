"""Where saved conversations are kept: in the state folder, or in memory (a file system without a disk)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from roundhouse.runtime.lock import install_id
from roundhouse.runtime.shelf import Shelf

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from roundhouse.config.models import Config

MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own in it, for our user alone, is what is wanted


def folder_of(config: Config) -> Path | None:
    """The folder; None where nothing is saved."""
    if config.sessions.store == "off":
        return None
    if config.sessions.store == "disk":
        return config.state_dir / "sessions"
    return MEMORY / f"roundhouse-{os.getuid()}-{install_id(config.state_dir)}"


async def open_shelf(config: Config, log: FilteringBoundLogger) -> Shelf | None:
    """The shelf, with what an earlier run left on it. One that can't be used costs conversations, not the start."""
    folder = folder_of(config)
    if folder is None:
        return None
    shelf = Shelf(folder, config.sessions.budget)
    try:
        await shelf.open()
    except OSError as error:
        reason = error.strerror or str(error)
        log.error("conversations can't be saved", folder=str(folder), reason=reason)  # noqa: TRY400  no traceback: it is the disk's
        return None
    return shelf
