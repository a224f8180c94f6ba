"""Whether systemd ends us only to start us again: then engines stay, and are taken over a moment later (E1, E5).

A stop and a restart are the same signal. But systemd works off a job of type `stop` or `restart`, and says so over
D-Bus to whoever asks (org.freedesktop.systemd1(5): `Job` of a unit, `JobType` of a job); no rights are needed for it.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.launchers.systemd.bus import Bus

ANSWERS_WITHIN = 2.0
"""Seconds after which the end goes on as if nobody had been asked."""
NO_JOB = 0


async def is_restart(environ: Mapping[str, str]) -> bool:
    """Whether our unit is being restarted; False where no systemd runs us, or it can't be asked."""
    if "NOTIFY_SOCKET" not in environ:
        return False
    from roundhouse.launchers.systemd.bus import Bus, BusLost, Refused, bus_address  # noqa: PLC0415 -- for services only

    # systemd.exec(5): MANAGERPID is set in services of a user's manager alone.
    address = bus_address(environ, user="MANAGERPID" in environ)
    try:
        async with asyncio.timeout(ANSWERS_WITHIN):
            bus = await Bus.connect(address)
            try:
                return await _job_type(bus) == "restart"
            finally:
                await bus.close()
    except (BusLost, Refused, TimeoutError):
        return False


async def _job_type(bus: Bus) -> str | None:
    """The kind of the job that systemd does on our unit, None if there is none."""
    from roundhouse.launchers.systemd.bus import PROPERTIES, SYSTEMD, UNIT  # noqa: PLC0415 -- for services only

    unit = await bus.call("GetUnitByPID", "u", os.getpid())
    job = await bus.call("Get", "ss", UNIT, "Job", path=unit, interface=PROPERTIES)
    number, path = job.value
    if number == NO_JOB:
        return None
    kind = await bus.call("Get", "ss", f"{SYSTEMD}.Job", "JobType", path=path, interface=PROPERTIES)
    return str(kind.value)
