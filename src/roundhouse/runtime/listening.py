"""Ports that engines may listen on: found free, or refused with the name of who has them."""

from __future__ import annotations

import socket

from roundhouse.errors import LoadFailed
from roundhouse.runtime.occupants import listeners, words


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_free(port: int) -> None:
    """Raises LoadFailed, naming who listens there, if an engine could not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            who = words(listeners(port))
            by = f" by {who}" if who else ""
            raise LoadFailed(f"port {port} is taken{by}; end that program, or give the model another port") from error
