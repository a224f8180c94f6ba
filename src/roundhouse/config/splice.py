"""Parts of a YAML text put in, taken out and changed where they stand; what is outside of them stays as it was.

A line of comment belongs to the entry below it if it stands right above it in the same column, and to the entry above
it if it is indented deeper than that. Nothing here knows what the text means, see `edit`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from roundhouse.config.importers import writing
from roundhouse.config.importers.result import Template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.config.tree import Node

_COMMENT = re.compile(r"([ \t]*)#")
_AFTER = re.compile(r"[ \t]*(,?)[ \t]*(#.*)?\r?$")
"""What may follow the last pair on a line of a mapping in braces."""


def line_end(text: str) -> str:
    """The end of lines that this text has."""
    return "\r\n" if "\r\n" in text else "\n"


def flow(value: Any, *, strict: bool, style: str = "") -> str:  # noqa: ANN401 - any value of a YAML file
    """A value on one line, dollar signs as they are; `strict`: as JSON. Raises ValueError for what has no words."""
    if strict or (style == '"' and isinstance(value, str)):
        return json.dumps(value, ensure_ascii=False)
    if style == "'" and isinstance(value, str) and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return writing.flow(_raw(value))


def _raw(value: Any) -> Any:  # noqa: ANN401 - any value of a YAML file
    if isinstance(value, dict):
        return {key: _raw(what) for key, what in value.items()}
    if isinstance(value, list):
        return [_raw(what) for what in value]
    return Template(value) if isinstance(value, str) else value


def lines(key: str, value: Any, indent: int) -> list[str]:  # noqa: ANN401 - any value of a YAML file
    """A setting of a block mapping."""
    return list(writing.pair(key, _raw(value), " " * indent))


def entry(name: str, body: Mapping[str, Any], indent: int, step: int) -> list[str]:
    """A mapping as an entry of a block mapping, its keys below it."""
    inner = [line for key, value in body.items() for line in lines(key, value, indent + step)]
    return [f"{' ' * indent}{writing.scalar(name, escape=False)}:", *inner]


def span(text: str, pair: tuple[Node, Node]) -> tuple[int, int]:
    """Whole lines of an entry of a block mapping, with the comments that belong to it."""
    key, value = pair
    start, end = _line_start(text, key.start), after_line(text, value.end)
    while start > 0:
        above = _line_start(text, start - 1)
        if not _is_comment(text[above:start], key.column, key.column):
            break
        start = above
    return start, end_of(text, key.column, end)


def end_of(text: str, column: int, at: int) -> int:
    """Where an entry ends whose last line ends at `at`: comments below it that are indented deeper are its own."""
    end = at
    while at < len(text):
        below = after_line(text, at)
        line = text[at:below]
        if _is_comment(line, column + 1, 10**6):
            end = below
        elif line.strip():
            break
        at = below
    return end


def _is_comment(line: str, least: int, most: int) -> bool:
    found = _COMMENT.match(line)
    return found is not None and least <= len(found[1]) <= most


def insert_lines(text: str, at: int, new: list[str]) -> str:
    """Lines put in at the beginning of a line, or at the end of a text whose last line has no end."""
    end = line_end(text)
    if at == len(text) and text and not text.endswith("\n"):
        return text + "".join(end + line for line in new)
    return text[:at] + "".join(line + end for line in new) + text[at:]


def take_out(text: str, mapping: Node, pair: tuple[Node, Node]) -> str:
    """A mapping without one of its pairs, of which it has more."""
    pairs = mapping.pairs or []
    index = pairs.index(pair)
    if mapping.flow:
        return _take_out_of_flow(text, pairs, index)
    start, end = span(text, pair)
    above, below = text[:start], text[end:]
    blank_above = _last_line(above).strip() == "" and above.endswith("\n")
    blank_below = not below or not below[: after_line(below, 0)].strip()
    if blank_above and (blank_below or index == len(pairs) - 1):
        above = above[: len(above) - len(_last_line(above))]
    elif blank_below and index == 0:
        below = below[len(below) - len(below.lstrip("\r\n")) :]
    if not below and not text.endswith("\n"):
        above = above.removesuffix("\n").removesuffix("\r")
    return above + below


def _take_out_of_flow(text: str, pairs: list[tuple[Node, Node]], index: int) -> str:
    key, value = pairs[index]
    if index == 0:
        start, end = key.start, pairs[1][0].start
    else:
        start, end = pairs[index - 1][1].end, value.end
    if "#" not in text[start : key.start] + text[value.end : end]:
        return text[:start] + text[end:]
    # A comment stands between them: it stays, and so does the comma before it.
    comma = re.match(r"\s*,", text[value.end :])
    return text[: key.start] + text[value.end + (comma.end() if comma else 0) :]


def put_in_block(text: str, mapping: Node, new: list[str], *, apart: bool = False) -> str:
    """A block mapping with lines after its last pair; `apart`: with a blank line between, as its other pairs have."""
    pairs = mapping.pairs or []
    at = span(text, pairs[-1])[1]
    if apart and len(pairs) > 1:
        start = span(text, pairs[-1])[0]
        new = ["", *new] if not _last_line(text[:start]).strip() else new
    return insert_lines(text, at, new)


def put_in_flow(text: str, mapping: Node, name: str, value: Any, *, strict: bool) -> str:  # noqa: ANN401 - as `flow`
    """A mapping in braces with one more pair, on a line of its own if its last one is."""
    written = f"{flow(name, strict=strict)}: {flow(value, strict=strict)}"
    if not mapping.pairs:
        return f"{text[: mapping.start]}{{{written}}}{text[mapping.end :]}"
    key, last = mapping.pairs[-1]
    indent = text[_line_start(text, key.start) : key.start]
    stop = text.find("\n", last.end)
    after = _AFTER.match(text[last.end : stop]) if stop >= 0 else None
    if indent.strip() or after is None:
        return f"{text[: last.end]}, {written}{text[last.end :]}"
    head = text[: last.end] + ("" if after[1] else ",") + text[last.end : stop + 1]
    return f"{head}{indent}{written}{line_end(text)}{text[stop + 1 :]}"


def put_value(text: str, pair: tuple[Node, Node], written: str) -> str:
    """Another value, on one line, for a key; a comment on the key's line stays."""
    key, old = pair
    colon = text.index(":", key.end) + 1
    if old.start == old.end:
        return f"{text[: old.start]} {written}{text[old.end :]}"
    block = (old.pairs is not None or old.items is not None) and not old.flow
    if not block or "\n" not in text[colon : old.start]:
        return text[: old.start] + written + text[old.end :]
    line = text.index("\n", colon) + 1
    rest = text[after_line(text, old.end) :]
    head = f"{text[:colon]} {written}{text[colon:line]}"
    return head + rest if rest or text.endswith("\n") else head.rstrip("\r\n")


def put_items(text: str, old: Node, have: list[Any], want: list[Any]) -> str:
    """A block list with other items, one a line; those that stay keep their text."""
    items = old.items or []
    first, rest = 0, 0
    while first < min(len(have), len(want)) and have[first] == want[first]:
        first += 1
    while rest < min(len(have), len(want)) - first and have[-1 - rest] == want[-1 - rest]:
        rest += 1
    new = [f"{' ' * old.column}- {flow(item, strict=False)}" for item in want[first : len(want) - rest]]
    starts = [_line_start(text, item.start) for item in items]
    end = after_line(text, old.end)
    at = starts[first] if first < len(items) else end
    stop = starts[len(items) - rest] if rest else end
    cut = text[:at] + text[stop:]
    if not text[stop:] and not text.endswith("\n"):
        cut = cut.removesuffix("\n").removesuffix("\r")
    return insert_lines(cut, min(at, len(cut)), new)


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def after_line(text: str, at: int) -> int:
    """Where the next line begins."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _last_line(text: str) -> str:
    """The last line of a text that ends with a line's end."""
    return text[text.rfind("\n", 0, max(0, len(text) - 1)) + 1 :]
