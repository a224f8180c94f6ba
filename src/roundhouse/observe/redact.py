"""Keeps secrets out of what is written or shown (spec F4): by the name of a field, by shape, and by registration.

Turns any value into plain JSON-able ones on the way, bounded in depth and size. Knows nothing of log lines or files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

HIDDEN = "[hidden]"
"""What stands where a secret was."""

_SHORTEST = 4  # hiding shorter strings everywhere would blank ordinary words; no secret worth the name is shorter
_TEXT_LIMIT = 8192  # characters of one value
_DEPTH_LIMIT = 6
_ITEM_LIMIT = 200

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:authorization|cookie|hash|passwd|password|secret|token|credentials?|api_?key|admin_key|private_key)$"
)
# Each with words of which it has one: looking for those is quick, and hardly any text has any.
_SECRET_SHAPES = (
    (("bearer", "basic"), re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{4,}"), rf"\1 {HIDDEN}"),
    (("sha256:",), re.compile(r"(?i)\bsha256:[0-9a-f]{16,}"), f"sha256:{HIDDEN}"),
    (
        ("--api-key", "--admin-key", "--hf-token"),
        re.compile(r"(?i)(--(?:api-key|admin-key|hf-token)[ =])\S+"),
        rf"\1{HIDDEN}",
    ),
    (
        ("api", "admin", "access", "password", "secret"),
        re.compile(
            r"(?i)((?:api[-_]?key|admin[-_]key|access[-_]token|password|secret)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (("://",), re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\1{HIDDEN}@"),
)

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]


class Secrets:
    """The secret strings of this run, and what else looks like one."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._known)}>"

    def add(self, *secrets: str | None) -> None:
        """Registers strings that must never appear. Those under 4 characters are not taken."""
        fresh = {secret for secret in secrets if secret and len(secret) >= _SHORTEST}
        # Longest first: a secret that contains another must not leave its rest behind.
        self._known = tuple(sorted({*self._known, *fresh}, key=lambda secret: (-len(secret), secret)))

    def text(self, text: str) -> str:
        """The text with every secret in it hidden."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        if not text.isidentifier():  # every shape has a mark that a plain word has not
            small = text.lower()
            for marks, shape, instead in _SECRET_SHAPES:
                if any(mark in small for mark in marks):
                    text = shape.sub(instead, text)
        return text

    def fields(self, fields: Mapping[str, object]) -> dict[str, Plain]:
        """The fields as plain values, secrets hidden; never raises, whatever the values are."""
        return self._mapping(fields, _DEPTH_LIMIT)

    def _plain(self, value: object, depth: int) -> Plain:
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self._clip(value)
            case bytes() | bytearray():
                return self._clip(value.decode("utf-8", "backslashreplace"))
            case Mapping() | Sequence() | AbstractSet() if depth <= 0:
                return "…"
            case Mapping():
                return self._mapping(value, depth - 1)
            case (str() | bytes() as name, str() | bytes()) if _is_secret(_text_of(name)):
                return [_text_of(name), HIDDEN]  # a header as ASGI has it
            case Sequence() | AbstractSet():
                return self._items(list(value), depth - 1)
            case _:
                return self._clip(_text_of(value))

    def _mapping(self, fields: Mapping[object, object] | Mapping[str, object], depth: int) -> dict[str, Plain]:
        plain: dict[str, Plain] = {}
        for key, value in list(fields.items())[:_ITEM_LIMIT]:
            name = self._clip(_text_of(key))
            plain[name] = HIDDEN if value is not None and _is_secret(name) else self._plain(value, depth)
        return plain

    def _items(self, items: list[object], depth: int) -> list[Plain]:
        plain = [self._plain(item, depth) for item in items[:_ITEM_LIMIT]]
        return plain if len(items) <= _ITEM_LIMIT else [*plain, "…"]

    def _clip(self, text: str) -> str:
        # Hidden before it is cut: half a secret would not be recognised.
        text = self.text(text)
        if not text.isascii():
            text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates can't be written
        return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}… ({len(text)} characters)"


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name.lower().replace("-", "_")) is not None


def _text_of(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 (an object's own __str__ may raise anything; a log line must not)
        return f"<{type(value).__name__}: {type(error).__name__} in str()>"
