"""What `doctor --fix` does: ends our strays, removes what dead keepers left; ends a foreigner only when told to.

A foreign process is ended only by its pid, given by the user, and only while it listens on a port that we need (B10).
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from roundhouse.app.doctor import orphans, ports, whose
from roundhouse.app.doctor.finding import note, ok, warning
from roundhouse.config import addresses
from roundhouse.errors import ConfigError, RouterError
from roundhouse.launchers import strays
from roundhouse.runtime import occupants
from roundhouse.runtime.lock import state_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL for a process that the user told us to end."""


class NotOnOurPort(RouterError):
    """The process that is to be ended does not stand in our way; nothing was done."""


def repair(visit: Visit) -> Iterator[Finding]:
    """Ends our strays and removes dead keepers' files. Never touches what is not of this installation."""
    if visit.install is None:
        return
    try:
        ended = strays.sweep(visit.install, lambda: {pid for pid in whose.keepers(visit).values() if pid is not None})
    except OSError as problem:
        yield warning("keepers", f"It can't be told which keepers live ({problem}), so nothing was ended.", "try again")
        return
    for stray in ended:
        yield ok(stray.model, f"Ended a stray engine process of ours: pid {stray.pid}.")
    yield from _remove(visit)


def _remove(visit: Visit) -> Iterator[Finding]:
    """Only while no Roundhouse runs: a keeper that is just being born has a socket on which nobody listens yet."""
    try:
        with state_lock(visit.config.state_dir):
            for path in orphans.leftovers(visit):
                path.unlink(missing_ok=True)
                yield ok(str(path), "Removed: a dead keeper had left it.")
    except ConfigError:
        if orphans.leftovers(visit):
            yield note("files", "A running Roundhouse removes what dead keepers left at its next start.")
    except OSError as problem:
        yield warning("files", f"What dead keepers left can't be removed: {problem}.", "look at the folder's owner")


def end(visit: Visit, pid: int) -> Finding:
    """Ends a process that listens on a port of ours, whosever it is: the user has named it.

    Raises:
        NotOnOurPort: it does not listen there (any more), or may not be ended by this user.
    """
    wanted = {addresses.split(address)[1] for address in visit.config.listen} | set(ports.ports_of(visit))
    try:
        # Pinned before it is looked at: the pid can't change hands between the look and the signal.
        descriptor = os.pidfd_open(pid)
    except (OSError, OverflowError):
        raise NotOnOurPort(f"There is no process {pid}; nothing was ended.") from None
    try:
        found = {one.pid: (port, one) for port in wanted for one in occupants.listeners(port, visit.proc)}
        if pid not in found:
            named = ", ".join(map(str, sorted(wanted))) or "none"
            raise NotOnOurPort(f"Process {pid} listens on none of our ports ({named}); nothing was ended.")
        port, occupant = found[pid]
        how = _ended(descriptor, pid)
    finally:
        os.close(descriptor)
    return ok(f"port {port}", f"Ended {occupant}{how}.")


def _ended(descriptor: int, pid: int) -> str:
    """SIGTERM, and SIGKILL to what does not listen."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if poll.poll(GRACE * 1000):
            return ""
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        poll.poll(GRACE * 1000)
    except ProcessLookupError:
        return ""
    except PermissionError:
        raise NotOnOurPort(f"Process {pid} is another user's and can't be ended by this one; try with sudo.") from None
    return f", by SIGKILL as it did not end within {GRACE:.0f} s"
