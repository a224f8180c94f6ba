"""JSON bodies that are looked into and changed in place, never rebuilt.

Owns strictness (what JSON does not allow is a 400) and the splicing of top-level keys, so that numbers beyond
64 bits, duplicate keys, order and spacing of everything else survive (spec A2). Knows no API's field names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from roundhouse.dialects.sse import DialectError
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

# Possessive throughout: a string of megabytes is one pass, and what has been read is never tried another way.
_WS: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN: Final = rb'[^][{}"]*+(?:' + _STRING + rb'[^][{}"]*+)*+'
_FLAT: Final = rb"[{[]" + _PLAIN + rb"[]}]"
_NESTED: Final = rb"[{[]" + _PLAIN + rb"(?:" + _FLAT + _PLAIN + rb")*+[]}]"
_OPEN: Final = re.compile(_WS + rb"\{" + _WS)
_COMMA: Final = re.compile(_WS + rb"(,?)" + _WS)
# A key, and its value with the comma behind it where that is no object or array.
_SCALAR: Final = rb"(" + _STRING + rb"|[-+.0-9A-Za-z]++)"
_MEMBER: Final = re.compile(
    rb"(" + _STRING + rb")" + _WS + rb":" + _WS + rb"(?:" + _SCALAR + _COMMA.pattern + rb")?+", re.DOTALL
)
# Up to the next bracket that is not part of something small: objects two deep are passed in one step.
_BRACKET: Final = re.compile(_PLAIN + rb"(?:" + _NESTED + _PLAIN + rb")*+([][{}])", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A request body: the bytes as they came, and what they say."""

    raw: bytes
    fields: dict[str, Any]

    @classmethod
    def parse(cls, raw: bytes) -> RequestBody:
        """Reads a body strictly.

        Raises:
            BadRequest: not UTF-8, not JSON (NaN, lone surrogates and a byte order mark included), or not an object.
        """
        try:
            fields = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest(_what_is_wrong(raw, error)) from None
        if not isinstance(fields, dict):
            raise BadRequest(f"The request body must be a JSON object, not {_kind(fields)}.")
        return cls(raw, fields)


def written(value: object, where: str | None = None) -> bytes:
    """What a client sent, as JSON again; `where` is its field.

    Raises:
        BadRequest: it is nested deeper than can be written (254 levels; 1024 can be read).
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # all that orjson raises; what it has read it can write but for the depth
        raise BadRequest(f"{where or 'The request'} is nested too deeply.", param=where) from None


def _what_is_wrong(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if not raw.strip():
        return "The request body is empty; it must be a JSON object."
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        return f"The request body is not UTF-8: byte {raw[bad.start]:#04x} at offset {bad.start}."
    return f"The request body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


class _Member(NamedTuple):
    """One `"key": value` of the top level: offsets of its key, its value, and its end."""

    key: str
    start: int
    value: int
    end: int


def edit(raw: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """Replaces, removes (None) or appends top-level keys of a JSON object; every other byte stays as it is.

    All occurrences of a duplicated key are changed. Values are JSON as bytes.

    Raises:
        DialectError: `raw` is not a JSON object. (Nested values are not checked: parse first.)
    """
    first, members = _members(raw)
    missing = {key: value for key, value in changes.items() if value is not None}
    for member in members:
        missing.pop(member.key, None)
    pieces = _spliced(raw, first, members, changes)
    separator = b"," if len(pieces) > 1 else b""
    for key, value in missing.items():
        pieces.append(separator + orjson.dumps(key) + b":" + value)
        separator = b","
    pieces.append(raw[members[-1].end if members else first :])
    return b"".join(pieces)


def _spliced(raw: bytes, first: int, members: list[_Member], changes: Mapping[str, bytes | None]) -> list[bytes]:
    """The object's opening, then each member that stays, led by what stood before it."""
    pieces = [raw[:first]]
    before = first
    for member in members:
        value = changes.get(member.key)
        if value is not None:
            pieces.append(_lead(raw, before, member, pieces) + raw[member.start : member.value] + value)
        elif member.key not in changes:
            pieces.append(_lead(raw, before, member, pieces) + raw[member.start : member.end])
        before = member.end
    return pieces


def _lead(raw: bytes, before: int, member: _Member, pieces: list[bytes]) -> bytes:
    """The comma and spacing in front of a member; none in front of the first that stays."""
    return raw[before : member.start] if len(pieces) > 1 else b""


def _members(raw: bytes) -> tuple[int, list[_Member]]:
    """Where the object's inside begins, and its top-level members in order."""
    opened = _OPEN.match(raw)
    if opened is None:
        raise DialectError("not a JSON object")
    at = opened.end()
    members: list[_Member] = []
    while found := _MEMBER.match(raw, at):
        value, end = found.span(2)
        if value < 0:
            value = found.end()
            end = _container_end(raw, value)
            found_comma = _COMMA.match(raw, end)
            comma, at = (found_comma[1], found_comma.end()) if found_comma else (b"", end)
        else:
            comma, at = found[3], found.end()
        members.append(_Member(_text(found[1]), found.start(), value, end))
        if not comma:
            break
    if raw[at : at + 1] != b"}":
        raise DialectError(f"not a JSON object: unexpected bytes at offset {at}")
    return opened.end(), members


def _text(quoted: bytes) -> str:
    """A key as text, its escapes decoded."""
    if b"\\" not in quoted:
        return quoted[1:-1].decode(errors="replace")
    try:
        return str(orjson.loads(quoted))
    except orjson.JSONDecodeError as error:
        raise DialectError(f"bad key {quoted[:80]!r}: {error.msg}") from None


def _container_end(raw: bytes, start: int) -> int:
    if raw[start : start + 1] not in {b"{", b"["}:
        raise DialectError(f"no JSON value at offset {start}")
    depth, at = 1, start + 1
    while bracket := _BRACKET.match(raw, at):
        at = bracket.end()
        depth += 1 if bracket[1] in b"{[" else -1
        if not depth:
            return at
    raise DialectError(f"a value that does not end, at offset {start}")
