"""All API keys of an installation: those of the configuration file, and those that were made with `roundhouse keys`.

What is added, revoked or given another secret has effect at once, for the next request. Running answers go on.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from roundhouse.api.auth import hash_key
from roundhouse.config.models import Key
from roundhouse.errors import BadRequest, Conflict, NotFound
from roundhouse.observe import log
from roundhouse.observe.keyring import StoredKey, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from roundhouse.api.auth import Keys
    from roundhouse.api.limits import Limits
    from roundhouse.api.record import Record
    from roundhouse.observe.keyring import Keyring

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SETTINGS = frozenset(Key.model_fields) - {"name", "hash"}
MOST_GRACE = 30 * 86_400.0
"""Seconds for which a former secret may stay good."""


class Keyholder:
    """Keeps them, and tells those who compare (`keys`) and who count (`limits`).

    Args:
        configured: of the configuration file; they are changed there alone.
        wall: seconds since the epoch.
    """

    def __init__(
        self, configured: Iterable[Key], keyring: Keyring, keys: Keys, limits: Limits, wall: Callable[[], float]
    ) -> None:
        self._configured = {key.name: key for key in configured}
        self._keyring = keyring
        self.keys = keys
        self.limits = limits
        self._wall = wall
        self._stored: dict[str, StoredKey] = {}
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Reads what is kept. Raises ConfigError where that can't be."""
        self._stored = {key.name: key for key in self._keyring.read()}
        await self.limits.open(self._all())
        self._apply()

    def configure(self, configured: Iterable[Key], models: Iterable[str]) -> None:
        """Takes the keys and models of another configuration file from now on."""
        self._configured = {key.name: key for key in configured}
        self.keys.know(models)
        self._apply()

    def counting(self, keep_books: Callable[[Record], None]) -> Callable[[Record], None]:
        """Whoever keeps books of ended requests, with their tokens counted before."""

        def ended(record: Record) -> None:
            self.limits.spend(record)
            keep_books(record)

        return ended

    def _made(self) -> dict[str, Key]:
        """The kept ones. One that is not understood (a later version's) is a key that may do nothing."""
        found = {}
        for name, stored in self._stored.items():
            if name in self._configured:
                continue  # the file's own wins
            known = {"name": name, "hash": stored.hash}
            try:
                found[name] = Key.model_validate({**stored.settings, **known})
            except ValidationError as error:
                log.get(__name__).error("key_not_understood", key=name, reason=_first(error))
                found[name] = Key.model_validate({**known, "models": [], "apis": []})
        return found

    def _all(self) -> list[Key]:
        return [*self._configured.values(), *self._made().values()]

    def _apply(self) -> None:
        made = self._made()
        former = [
            (key, self._stored[name].old_hash, self._stored[name].old_until)
            for name, key in made.items()
            if self._stored[name].old_until > self._wall()
        ]
        self.keys.set([*self._configured.values(), *made.values()], former)
        self.limits.set(self._all())

    async def add(self, name: str, settings: Mapping[str, Any]) -> str:
        """Makes a key and returns its secret, which nobody can be told again.

        Raises:
            BadRequest: a name or setting that can't be.
            Conflict: the name is taken, or nobody could manage Roundhouse any more.
        """
        if _NAME.fullmatch(name) is None:
            raise BadRequest("A key's name has 1 to 64 letters, digits or ._@- and begins with one of the former.")
        if unknown := settings.keys() - SETTINGS:
            raise BadRequest(f"A key has no '{min(unknown)}'; it has {', '.join(sorted(SETTINGS))}.")
        secret = f"rh-{secrets.token_urlsafe(32)}"
        try:
            made = Key.model_validate({**settings, "name": name, "hash": hash_key(secret)})
        except ValidationError as error:
            raise BadRequest(_first(error)) from None
        async with self._lock:
            if name in self._configured:
                raise Conflict(f"There is a key '{name}' in the configuration file.")
            if name in self._stored:
                raise Conflict(f"There is a key '{name}' already; revoke it first, or rotate it for another secret.")
            if not self._admins([*self._all(), made]):
                raise Conflict(
                    "The first key has to be an admin's, and one that has not expired: from the first one on, requests"
                    " without a key are refused, and nobody could manage Roundhouse. Make that first: roundhouse keys"
                    f" add {name} --admin"
                )
            stored = StoredKey(name, dict(settings), made.hash, self._wall())
            await self._keep({**self._stored, name: stored})
        return secret

    async def revoke(self, name: str, *, last: bool = False) -> bool:
        """Forgets a key; `last`: also the only one, after which everybody may do everything again (then true).

        Raises:
            NotFound: there is none.
            Conflict: it can't be done here, or should not.
            NotKept: the disk does not take it.
        """
        async with self._lock:
            self._require_stored(name)
            others = [key for key in self._all() if key.name != name]
            if others and not self._admins(others):
                raise Conflict(f"'{name}' is the only admin key, and there are others; revoke those first.")
            if not others and not last:
                raise Conflict(
                    f"'{name}' is the only key: without it, everybody who reaches Roundhouse may do everything."
                )
            await self._keep({known: key for known, key in self._stored.items() if known != name})
            return not others

    async def rotate(self, name: str, grace: float = 0.0) -> str:
        """Gives a key another secret and returns it; the former one stays good for `grace` seconds.

        Raises NotFound, Conflict, NotKept, and BadRequest for a grace that is too long.
        """
        if not 0.0 <= grace <= MOST_GRACE:
            raise BadRequest("The former secret may stay good for at most 30 days.", param="grace")
        secret = f"rh-{secrets.token_urlsafe(32)}"
        async with self._lock:
            old = self._require_stored(name)
            former = (old.hash, self._wall() + grace) if grace else ("", 0.0)
            new = StoredKey(name, old.settings, hash_key(secret), old.created, *former)
            await self._keep({**self._stored, name: new})
        return secret

    async def _keep(self, stored: dict[str, StoredKey]) -> None:
        """These are on the disk before they count."""
        await self._keyring.write(stored.values())
        self._stored = stored
        self._apply()

    def _admins(self, keys: Iterable[Key]) -> list[Key]:
        now = self._wall()
        return [key for key in keys if key.admin and (key.expires is None or key.expires.timestamp() > now)]

    def _require_stored(self, name: str) -> StoredKey:
        if name in self._configured:
            raise Conflict(f"The key '{name}' is in the configuration file; change it there.")
        if name not in self._stored:
            raise NotFound(f"There is no key '{name}'; `roundhouse keys list` shows those there are.")
        return self._stored[name]

    def _made_of(self, key: Key) -> StoredKey | None:
        return None if key.name in self._configured else self._stored.get(key.name)

    async def told(self) -> list[dict[str, Any]]:
        """All keys without their secrets, with what they have used."""
        used = await self._keyring.used()
        return [
            {
                "name": key.name,
                "source": "file" if key.name in self._configured else "keys",
                "admin": key.admin,
                "manage": key.manage or key.admin,
                "trusted": key.trusted,
                "models": list(key.models),
                "apis": list(key.apis),
                "priority": key.priority,
                "status": key.status,
                "limits": self.limits.told(key.name),
                "created": _time(stored.created) if (stored := self._made_of(key)) is not None else None,
                "former_until": _time(stored.old_until) if stored and stored.old_until > self._wall() else None,
                "expires": key.expires.isoformat() if key.expires else None,
                "expired": key.expires is not None and key.expires.timestamp() <= self._wall(),
                "today": _use(self.limits.today(key.name)),
                "total": _use(used.get(key.name, Use())),
                "last_used": _time(used[key.name].last) if key.name in used else None,
            }
            for key in self._all()
        ]


def _use(use: Use) -> dict[str, int]:
    return {"requests": use.requests, "prompt_tokens": use.prompt, "completion_tokens": use.completion}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, without what was given: that may be a secret in the wrong place."""
    found = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    return f"{where}: {found['msg'].removeprefix('Value error, ')}"
