"""Roundhouse's own addresses: free or ours, who may reach them, and how a container does (spec F1, G4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from roundhouse.app.doctor.finding import error, note, ok, warning
from roundhouse.config import addresses
from roundhouse.runtime import occupants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roundhouse.app.doctor.finding import Finding
    from roundhouse.app.doctor.visit import Visit
    from roundhouse.runtime.occupants import Occupant

BRIDGES = ("docker0", "podman0", "cni-podman0")
"""Network interfaces under which the usual container engines show this machine to containers."""


def check(visit: Visit) -> Iterator[Finding]:
    """Each address of `listen`."""
    for address in visit.config.listen:
        yield from _address(visit, address)
    yield from _containers(visit)


def _address(visit: Visit, address: str) -> Iterator[Finding]:
    host, port = addresses.split(address)
    found = occupants.listeners(port, visit.proc) if port else []
    if not found:
        yield ok(address, f"Port {port} is free." if port else "Any free port will be taken.")
    elif any(_is_roundhouse(visit, one) for one in found):
        yield ok(address, "Roundhouse listens there.")
    elif all(one.pid == 1 for one in found):
        yield note(address, "systemd listens there, and starts what is meant to at the first connection.")
    else:
        yield error(
            address,
            f"Port {port} is taken by {occupants.words(found)}, so Roundhouse can't start.",
            _free(found, "choose another port (`listen:`)"),
        )
    if not addresses.is_loopback(host) and not visit.config.keys:
        yield warning(
            address,
            "Other machines can reach it, and no keys are set: anyone may use it.",
            "add `keys:`, or listen on 127.0.0.1",
        )


def _free(found: list[Occupant], otherwise: str) -> str:
    pid = next((one.pid for one in found if one.pid is not None), None)
    return f"`roundhouse doctor --fix --end-pid {pid}` ends it; or {otherwise}" if pid is not None else otherwise


def _is_roundhouse(visit: Visit, occupant: Occupant) -> bool:
    """Whether it is the one that holds our state folder; systemd holds the socket beside it, or before its start."""
    try:
        holder = (visit.config.state_dir / "lock").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return occupant.pid is not None and str(occupant.pid) == holder


def _containers(visit: Visit) -> Iterator[Finding]:
    """Where containers are used, and we listen on this machine's own loopback alone, no container reaches us."""
    if not all(addresses.is_loopback(addresses.split(address)[0]) for address in visit.config.listen):
        return
    bridge = _bridge()
    if bridge is None and visit.program("docker") is None and visit.program("podman") is None:
        return
    _, port = addresses.split(visit.config.listen[0])
    where = f'"{bridge}:{port}"' if bridge else "the container bridge's address"
    yield note(
        "Open WebUI",
        "In a container it can't reach 127.0.0.1 of this machine.",
        f"run it with --network host and the URL http://127.0.0.1:{port}/v1; or add {where} to `listen:`, set `keys:`, "
        f"and run it with --add-host=host.docker.internal:host-gateway and http://host.docker.internal:{port}/v1",
    )


def _bridge() -> str | None:
    found = psutil.net_if_addrs()
    return next((part.address for name in BRIDGES for part in found.get(name, ()) if ":" not in part.address), None)
