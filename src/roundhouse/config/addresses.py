"""Addresses to listen on, as text: `host:port` and `[v6]:port`. Knows nothing of sockets and looks no name up."""

from __future__ import annotations

import ipaddress


def split(address: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8002` or `[::1]:8002`; an empty host means every interface, port 0 any free one.

    Raises ValueError with the remedy.
    """
    host, colon, port = address.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f'{address!r} is not an address; write host:port, such as 127.0.0.1:8002 or "[::1]:8002"')
    return (host[1:-1] if bracketed else host), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it. A name other than localhost is not taken to be."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
