"""The keys of an installation, put together: the file's and the kept ones, who compares them, who counts."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from roundhouse.api.auth import Keys
from roundhouse.api.keyholder import Keyholder
from roundhouse.api.limits import Limits
from roundhouse.observe.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from roundhouse.config.models import Config


@asynccontextmanager
async def open_keys(config: Config) -> AsyncIterator[Keyholder]:
    """Reads them; raises ConfigError where they can't be. The caller holds the lock of the state folder."""
    async with Keyring(config.state_dir) as keyring:
        limits = Limits(keyring, time.monotonic, time.time)
        keyholder = Keyholder(config.keys, keyring, Keys(config.keys, config.models), limits, time.time)
        await keyholder.open()
        yield keyholder
