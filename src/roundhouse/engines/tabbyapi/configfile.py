"""Changes in TabbyAPI's `config.yml` that leave every other byte of it as it is: text to text.

The file is the user's: values are put in where they stand, and the result is read back and compared before it is given
out. TabbyAPI starts with its defaults (another port, keys of its own) when the file can't be read, so nothing doubtful
may leave here.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ruamel.yaml import YAML, MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from roundhouse.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME: Final = "config.yml"
INDENT: Final = 2
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./~+-]+(?: [A-Za-z0-9_./~+-]+)*")
_ALIAS: Final = re.compile(r"[ \t]*\*[^\s,\]}]+")
_COLON: Final = re.compile(r"[ \t]*:")

Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Splice:
    """Text that takes the place of `text[start:end]`."""

    start: int
    end: int
    new: str


def edited(text: str, sections: Sections) -> str:
    """The text with these keys of these sections set; a section that is missing comes at the end.

    Raises LoadFailed, in words, if the text is no YAML mapping or can't be changed safely.
    """
    before = _read(text)
    changes = _changes(before, sections)
    if not changes:
        return text
    new = _spliced(text, changes)
    if not _same(new, _expected(before, changes)):
        raise LoadFailed(
            f"TabbyAPI's {NAME} is written in a way that can't be changed safely: set {', '.join(_paths(changes))} "
            "there in the plain form `key: value`, or use `tabby.mode: api`"
        )
    return new


def rendered(value: object) -> str:
    """A value in YAML, on one line. Text stands bare where that reads as the same text, as TabbyAPI's notes ask."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and _safe().load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _safe() -> YAML:
    return YAML(typ="safe", pure=True)


def _read(text: str) -> dict[str, Any]:
    try:
        found: object = _safe().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise LoadFailed(
            f"TabbyAPI's {NAME} is not YAML ({error.problem or error.context}{where}): correct it"
        ) from None
    except (YAMLError, ValueError, RecursionError):
        raise LoadFailed(f"TabbyAPI's {NAME} is not YAML: correct it") from None
    if found is not None and not isinstance(found, dict):
        raise LoadFailed(f"TabbyAPI's {NAME} is not a mapping of sections: correct it")
    return found or {}


def _changes(before: Mapping[str, Any], sections: Sections) -> Sections:
    """What of it is not so already, so that a value that stands there right keeps its quotes."""
    changes: Sections = {}
    for name, values in sections.items():
        old = before.get(name)
        if old is not None and not isinstance(old, dict):
            raise LoadFailed(f"`{name}` in TabbyAPI's {NAME} is not a mapping: correct it")
        for key, value in values.items():
            if key not in (old or {}) or repr((old or {})[key]) != repr(_plain(value)):
                changes.setdefault(name, {})[key] = _plain(value)
    return changes


def _plain(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    """As it will be read back."""
    return _safe().load(rendered(value))


def _expected(before: Mapping[str, Any], changes: Sections) -> dict[str, Any]:
    after: dict[str, Any] = copy.deepcopy(dict(before))
    for name, values in changes.items():
        after[name] = {**(after.get(name) or {}), **values}
    return after


def _same(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return _read(text) == expected
    except LoadFailed:
        return False


def _paths(changes: Sections) -> Iterator[str]:
    return (f"{name}.{key}" for name, values in changes.items() for key in values)


def _spliced(text: str, changes: Sections) -> str:
    root = _safe().compose(text)
    splices = [splice for name, values in changes.items() for splice in _section(text, root, name, values)]
    for splice in sorted(splices, key=lambda splice: splice.start, reverse=True):
        text = text[: splice.start] + splice.new + text[splice.end :]
    return text


def _section(text: str, root: Node | None, name: str, values: Mapping[str, Any]) -> Iterator[Splice]:
    eol = "\r\n" if "\r\n" in text else "\n"
    pair = _pair(root, name)
    if pair is None:
        start = "" if not text or text.endswith("\n") else eol
        body = "".join(f"{' ' * INDENT}{key}: {rendered(value)}{eol}" for key, value in values.items())
        yield Splice(len(text), len(text), f"{start}{name}:{eol}{body}")
        return
    key_node, section = pair
    missing: dict[str, Any] = {}
    for key, value in values.items():
        found = _pair(section, key)
        if found is None:
            missing[key] = value
        else:
            yield _replaced(text, *found, rendered(value))
    if missing:
        yield _added(text, key_node, section, missing, eol)


def _pair(mapping: Node | None, key: str) -> tuple[ScalarNode, Node] | None:
    if not isinstance(mapping, MappingNode):
        return None
    pairs = ((name, value) for name, value in mapping.value if isinstance(name, ScalarNode))
    return next(((name, value) for name, value in pairs if name.value == key), None)


def _replaced(text: str, key: ScalarNode, value: Node, new: str) -> Splice:
    after_colon = _after_colon(text, key)
    if alias := _ALIAS.match(text, after_colon):
        return Splice(after_colon, alias.end(), f" {new}")
    start, end = value.start_mark.index, _end(value)
    if start >= end:
        return Splice(after_colon, after_colon, f" {new}")
    if "\n" in text[after_colon:start]:  # a value on lines of its own: comments before it stay
        return Splice(after_colon, _trimmed(text, start, end), f" {new}{text[after_colon:start].rstrip()}")
    return Splice(start, _trimmed(text, start, end), new)


def _added(text: str, key: ScalarNode, section: Node, values: Mapping[str, Any], eol: str) -> Splice:
    """New keys stand first in their section: what follows them keeps the comments that belong to it."""
    if isinstance(section, MappingNode) and section.flow_style:
        at = section.start_mark.index + 1
        words = ", ".join(f"{name}: {rendered(value)}" for name, value in values.items())
        return Splice(at, at, f"{words}, " if section.value else words)
    first = section.value[0][0].start_mark.column if isinstance(section, MappingNode) and section.value else None
    indent = " " * (first if first is not None else key.start_mark.column + INDENT)
    body = "".join(f"{indent}{name}: {rendered(value)}{eol}" for name, value in values.items())
    line_end = text.find("\n", key.end_mark.index)
    if line_end < 0:
        return Splice(len(text), len(text), eol + body)
    return Splice(line_end + 1, line_end + 1, body)


def _after_colon(text: str, key: ScalarNode) -> int:
    found = _COLON.match(text, key.end_mark.index)
    return found.end() if found else key.end_mark.index


def _end(node: Node) -> int:
    """Where a value's own text ends: that of a block is told only by its last leaf, comments follow after it."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        pair = last if isinstance(last, tuple) else (last,)
        return max(_end(part) for part in pair)
    return int(node.end_mark.index)


def _trimmed(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())
