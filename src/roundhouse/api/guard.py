"""The cross-site guard in use (spec F3): the full check of `auth`, and a short way for what is no browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roundhouse.api.auth import BROWSER_MARKS, guard_state_change

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from roundhouse.api.auth import Caller

_REMEMBERED = 64


class Guard:
    """Refuses state-changing requests that a web page of somebody else may be behind.

    Args:
        hosts: names under which Roundhouse is reached, besides localhost and addresses.
        origins: web origins that may call it.
    """

    def __init__(self, hosts: Collection[str], origins: Collection[str]) -> None:
        self._hosts = frozenset(hosts)
        self._origins = origins
        self._plain: set[bytes] = set()

    def admin(self, method: str, headers: Sequence[tuple[bytes, bytes]], caller: Caller) -> None:
        """A call of the admin API passes, or Forbidden or MethodNotAllowed is raised."""
        guard_state_change(method, headers, self._hosts, origins=self._origins, keyed=not caller.anonymous)

    def relay(self, method: str, headers: Sequence[tuple[bytes, bytes]], caller: Caller) -> None:
        """A call that an engine answers passes, or Forbidden is raised; a host that a program named before is quick."""
        hosts = [value for name, value in headers if name == b"host"]
        browser = any(name in BROWSER_MARKS for name, _ in headers)
        if not browser and len(hosts) == 1 and hosts[0] in self._plain:
            return
        keyed = not caller.anonymous
        guard_state_change(method, headers, self._hosts, origins=self._origins, keyed=keyed, relay=True)
        if not browser and len(self._plain) < _REMEMBERED:
            self._plain.update(hosts)
