"""Forms with files in them (multipart/form-data, RFC 7578): where a field stands, so that it can be changed in place.

Bytes in, values out; nothing is decoded but the headers of the parts, and files stay where they are.
"""

from __future__ import annotations

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

MOST_PARTS = 1000


class Field(NamedTuple):
    """The first field of a name: its value, and where that begins and ends in the body."""

    value: str
    start: int
    end: int


class BadForm(ValueError):
    """It is none, or it is cut off."""


def find(body: bytes, content_type: bytes, name: str) -> Field | None:
    """The field of that name which is no file; None where the form has none. Raises BadForm."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise BadForm("it is not multipart/form-data with a boundary")
    looking = _Looking(body, name.encode())
    parser = MultipartParser(options[b"boundary"], looking.callbacks())  # type: ignore[arg-type]  # all that we need
    try:
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, LookupError) as error:
        raise BadForm(str(error)) from None
    if not looking.ended:
        raise BadForm("it ends before its last boundary")
    if looking.start is None or looking.end is None:
        return None
    return Field(body[looking.start : looking.end].decode("utf-8", "replace"), looking.start, looking.end)


class _Looking:
    """Notes where the data of one field lies. The body is fed whole, so offsets are those of the body."""

    def __init__(self, body: bytes, name: bytes) -> None:
        self._body = body
        self._name = name
        self._field, self._value = b"", b""
        self._here = False
        self._parts = 0
        self.start: int | None = None
        self.end: int | None = None
        self.ended = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._here = False
        self._field = self._value = b""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise ValueError(f"it has more than {MOST_PARTS} parts")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._here = self.start is None and options.get(b"name") == self._name and b"filename" not in options
        self._field = self._value = b""

    def _data(self, _data: bytes, start: int, end: int) -> None:
        if self._here:
            self.start = start if self.start is None else self.start
            self.end = end

    def _end(self) -> None:
        self.ended = True
