"""Who asks, and what they may do (spec F1 to F3): API keys, and the guard against web pages of others.

Pure functions and frozen values over header pairs; knows no framework, no request and no file. Keys are kept as hashes.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from roundhouse.errors import ConfigError, Forbidden, MethodNotAllowed, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from roundhouse.config.models import Key

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
BROWSER_MARKS = frozenset({b"origin", b"referer", b"cookie", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_IN_QUERY = re.compile(rb"(?:^|&)(?:api[-_]?key|access_token|auth_token|key|token)=", re.IGNORECASE)
_REMEDY = "Send `Authorization: Bearer KEY` or `x-api-key: KEY`."


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request, and what they may do.

    Attributes:
        name: of the key; '' for anybody, where no keys are configured.
        manage: may load and unload models; an admin always may.
        trusted: headers that name users and priorities are believed.
        status: channel for status lines, None: as for the model.
        models, apis: patterns of names that may be used (`*` is any text).
        allowed_models: ids of configured models among `models`, None = all.
    """

    name: str
    admin: bool = False
    manage: bool = False
    trusted: bool = False
    anonymous: bool = False
    priority: int = 0
    status: str | None = None
    models: tuple[str, ...] = ("*",)
    apis: tuple[str, ...] = ("*",)
    allowed_models: frozenset[str] | None = None

    @property
    def key_class(self) -> str:
        """As a label of metrics: anonymous, key or admin."""
        return "anonymous" if self.anonymous else "admin" if self.admin else "key"

    def allowed(self, model: str) -> bool:
        """Whether this model, or alias, may be used."""
        return _matches(model, self.models)

    def require_model(self, *names: str) -> None:
        """Raises Forbidden unless one of the names of a model (as asked for, its id) may be used."""
        if not any(self.allowed(name) for name in names):
            raise Forbidden(f"The key '{self.name}' may not use the model '{names[0]}'.", param="model")

    def require_api(self, api: str) -> None:
        """Raises Forbidden unless this API (openai, anthropic, ollama) may be used."""
        if not _matches(api, self.apis):
            raise Forbidden(f"The key '{self.name}' may not use the {api} API; it may use {', '.join(self.apis)}.")

    def require_manage(self) -> None:
        """Raises Forbidden unless models may be loaded and unloaded."""
        if not (self.admin or self.manage):
            raise Forbidden(
                f"The key '{self.name}' may not load or unload models; use an admin key, or one with `manage: true`."
            )

    def require_admin(self) -> None:
        """Raises Forbidden unless everything may be done."""
        if not self.admin:
            raise Forbidden(f"The key '{self.name}' is no admin key (`admin: true`).")


ANYBODY = Caller("", admin=True, manage=True, anonymous=True)
"""Who asks where no keys are configured: everything is allowed (the listener is loopback, or its owner said so)."""


class Keys:
    """The configured keys, ready to be compared.

    Args:
        keys: as configured; none: everybody is `ANYBODY`, whatever key they send or not.
        models: the ids of all configured models.
        clock: seconds since the epoch.

    Raises:
        ConfigError: a hash is not `sha256:` and 64 hexadecimal digits.
    """

    def __init__(
        self, keys: Iterable[Key] = (), models: Iterable[str] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self.know(models)
        self._keys: tuple[_Known, ...] = ()
        self._clock = clock
        self.set(keys)

    def know(self, models: Iterable[str]) -> None:
        """These models are configured; asked when keys are set."""
        self._ids = tuple(models)

    def set(self, keys: Iterable[Key], former: Iterable[tuple[Key, str, float]] = ()) -> None:
        """These from now on; `former` are hashes of secrets that are good for a key until a time (since the epoch)."""
        found = [_known(key, self._ids) for key in keys]
        for key, digest, until in former:
            known = _known(key.model_copy(update={"hash": digest}), self._ids)
            found.append(known._replace(expires=min(until, known.expires) if known.expires is not None else until))
        self._keys = tuple(found)

    def __repr__(self) -> str:
        return f"<Keys: {', '.join(key.caller.name for key in self._keys) or 'none'}>"

    def __bool__(self) -> bool:
        return bool(self._keys)

    def identify(self, headers: Sequence[tuple[bytes, bytes]], query: bytes = b"") -> Caller:
        """Who sent these headers (lowercase names, as ASGI has them), with the query of their address.

        Raises:
            Unauthorized: keys are configured and none of them was sent, or it is unknown or expired.
        """
        if not self._keys:
            return ANYBODY
        sent = _credentials(headers)
        if not sent:
            if _IN_QUERY.search(query) is not None:
                raise Unauthorized(f"A key in the address would end up in logs, so it is not looked at. {_REMEDY}")
            raise Unauthorized(f"An API key is needed. {_REMEDY}")
        found = self._find(sent)
        if found is None:
            raise Unauthorized("The API key is not known here.")
        if found.expires is not None and self._clock() >= found.expires:
            raise Unauthorized(f"The API key '{found.caller.name}' has expired.")
        return found.caller

    def _find(self, sent: list[bytes]) -> _Known | None:
        """Compares with every key, found or not, so that time tells nothing about which ones there are."""
        found: _Known | None = None
        for credential in sent:
            digest = sha256(credential).digest()
            for key in self._keys:
                if compare_digest(digest, key.digest) and found is None:
                    found = key
        return found


def hash_key(key: str) -> str:
    """The hash of a key as the configuration has it."""
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def guard_state_change(
    method: str,
    headers: Sequence[tuple[bytes, bytes]],
    listen_hosts: Collection[str],
    *,
    origins: Collection[str] = (),
    keyed: bool = False,
    relay: bool = False,
) -> None:
    """Lets a call that changes state pass unless a web page of somebody else may be behind it (spec F3).

    Args:
        method: of HTTP.
        headers: with lowercase names, as ASGI has them.
        listen_hosts: host names under which Roundhouse is reached, besides localhost and addresses.
        origins: web origins that may call us (`cors.origins`), such as `https://chat.example.org`.
        keyed: the caller has shown a key, which a page behind a rebound name does not know: any name will do.
        relay: a call that engines answer. Programs may use any host name for those, as they do from a container.

    Raises:
        MethodNotAllowed: the method is one that must not change anything.
        Forbidden: the request comes from another site, or under a host name that is not ours (DNS rebinding).
    """
    if method.upper() not in _CHANGING:
        raise MethodNotAllowed(f"{method} does not change anything here; use POST.")
    host = _host(headers)
    if not (keyed or (relay and not _from_browser(headers))):
        _require_own(host, listen_hosts)
    origin = _only(headers, b"origin")
    if origin is not None:
        if origin in origins:
            return
        if not _same(origin, host):
            raise Forbidden(
                f"A web page of '{origin}' may not do this; list it under `cors.origins` if it is meant to, or open"
                f" the page under '{host.name}'."
            )
    site = _only(headers, b"sec-fetch-site")
    if site is not None and site.lower() not in {"same-origin", "none"}:
        raise Forbidden("A web page of another site may not do this (Sec-Fetch-Site).")


class _Host(NamedTuple):
    """A host and port as a client names them; `port` None: the default of its scheme."""

    name: str
    port: int | None


class _Known(NamedTuple):
    digest: bytes
    expires: float | None
    caller: Caller


def _known(key: Key, ids: tuple[str, ...]) -> _Known:
    patterns = tuple(key.models)
    caller = Caller(
        name=key.name,
        admin=key.admin,
        manage=key.manage or key.admin,
        trusted=key.trusted,
        priority=key.priority,
        status=key.status,
        models=patterns,
        apis=tuple(key.apis),
        allowed_models=None if "*" in patterns else frozenset(name for name in ids if _matches(name, patterns)),
    )
    return _Known(_digest(key), key.expires.timestamp() if key.expires else None, caller)


def _digest(key: Key) -> bytes:
    scheme, _, digits = key.hash.partition(":")
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if scheme != "sha256" or len(digest) != sha256().digest_size:
        raise ConfigError(f"keys: the hash of '{key.name}' must be `sha256:` and 64 hexadecimal digits.")
    return digest


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return name in patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _credentials(headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The keys sent. Clients of two APIs in one (Claude Code) send both headers; either will do."""
    sent: list[bytes] = []
    for name, value in headers:
        if name == b"x-api-key":
            sent.append(value.strip())
        elif name == b"authorization":
            scheme, _, credential = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                sent.append(credential.strip())
    return [credential for credential in sent if credential]


def _host(headers: Sequence[tuple[bytes, bytes]]) -> _Host:
    text = _only(headers, b"host")
    host = _parsed(f"//{text}") if text else None
    if host is None:
        raise Forbidden("The request names no valid host (header Host), so it can't be told from a foreign page's.")
    return host


def _require_own(host: _Host, listen_hosts: Collection[str]) -> None:
    """The name must be one of ours: a rebound DNS name is the attacker's, and his page its own origin."""
    if not (_is_local(host.name) or host.name in {name.rstrip(".").lower() for name in listen_hosts}):
        raise Forbidden(
            f"The host name '{host.name}' is not known to be ours; use localhost or the address, listen on that name,"
            " or send an API key."
        )


def _from_browser(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a browser may have sent it. Browsers say Origin with every POST; the others are for good measure."""
    return any(name in BROWSER_MARKS for name, _ in headers)


def _only(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of a header that may come once; a repeated one is refused, for nobody knows which one counts."""
    values = [value.decode("latin-1").strip() for key, value in headers if key == name]
    if len(values) > 1:
        raise Forbidden(f"The request has more than one {name.decode()} header.")
    return values[0] if values else None


def _is_local(name: str) -> bool:
    """Whether the name can't be somebody else's DNS entry: localhost, or an address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _same(origin: str, host: _Host) -> bool:
    scheme = origin.partition("://")[0].lower()
    theirs, default = _parsed(origin), _DEFAULT_PORTS.get(scheme)
    if theirs is None or default is None:  # 'null' among them: a sandboxed page, or a file
        return False
    return theirs.name == host.name and (theirs.port or default) == (host.port or default)


def _parsed(url: str) -> _Host | None:
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return _Host(name.rstrip("."), port)
