"""The listening sockets: made from `listen` or inherited from systemd (E5), and who holds a taken port (G4)."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from roundhouse.errors import RouterError
from roundhouse.runtime import occupants

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_INHERITED = 3
"""The first file descriptor of socket activation (sd_listen_fds(3))."""


class PortTaken(RouterError):
    """Somebody else listens there already; the message names them."""

    code = "port_taken"


def split(address: str) -> tuple[str, int]:
    """'127.0.0.1:8002' or '[::1]:8002' into host and port."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def open_sockets(addresses: Sequence[str], environ: Mapping[str, str]) -> list[socket.socket]:
    """Sockets that listen, or will once the server asks them to.

    An IPv6 loopback that this machine does not have is left out when there is another address.

    Raises:
        PortTaken: an address is in use.
        RouterError: it can't be listened on for another reason.
    """
    inherited = _inherited(environ)
    if inherited:
        return inherited
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            made = _open(address, optional=len(addresses) > 1)
            if made is not None:
                opened.append(made)
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def _open(address: str, *, optional: bool) -> socket.socket | None:
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if optional and family is socket.AF_INET6:
            return None
        raise
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family is socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        if optional and family is socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
            return None
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"Port {port} on {host} is taken{_by(port)}. End that program, or choose another port (listen:)."
            ) from error
        raise RouterError(f"Can't listen on {address}: {error.strerror}.") from error
    made.set_inheritable(False)
    return made


def _inherited(environ: Mapping[str, str]) -> list[socket.socket]:
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=FIRST_INHERITED + number) for number in range(count)]


def _by(port: int) -> str:
    """' by pid 12 (command line; user)' as far as it can be seen."""
    found = occupants.words(occupants.listeners(port))
    return f" by {found}" if found else ""


def notify(environ: Mapping[str, str], text: str) -> None:
    """Tells systemd, if it wants to know (sd_notify(3)); a missing or closed socket is no error."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
