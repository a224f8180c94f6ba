"""The cross-site guard as the running program uses it: the full check of `auth`, and a short way for plain clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.api.auth import guard_state_change

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_REMEMBERED = 64


class Guard:
    """Refuses state-changing requests that a web page of somebody else may be behind (spec F3).

    Where keys are needed any host name will do: a page that rebinds a DNS name has no key to send.

    Args:
        hosts: names under which Roundhouse is reached, besides localhost and addresses.
        origins: web origins that may call it.
        keys: whether keys are configured.
    """

    def __init__(self, hosts: Collection[str], origins: Collection[str], *, keys: bool) -> None:
        self._hosts = frozenset(hosts)
        self._origins = origins
        self._keys = keys
        self._known: set[bytes] = set()

    def __call__(self, method: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Passes, or raises Forbidden."""
        host = b""
        browser = False
        for name, value in headers:
            if name == b"host":
                browser = browser or bool(host)  # two of them: let the full check say so
                host = value
            elif name in {b"origin", b"sec-fetch-site"}:
                browser = True
        if not browser and host in self._known:
            return
        named = {host.decode("latin-1").rpartition(":")[0] or host.decode("latin-1")} if self._keys else set()
        guard_state_change(method, headers, self._hosts | named, origins=self._origins)
        if not browser and len(self._known) < _REMEMBERED:
            self._known.add(host)
