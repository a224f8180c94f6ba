"""Where everything stands in a YAML text: its mappings, lists and scalars with their places.

Made of the parser's events and not of its nodes: an alias has a place of its own among them, and a mapping's end can be
told from what follows it. Offsets are characters from the beginning of the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


_Event = NodeEvent | CollectionEndEvent


@dataclass(slots=True)
class Node:
    """A value or a key.

    Attributes:
        start, end: where it begins, with its anchor and tag, and ends, without the comments and blanks that follow.
        column: of `start`, from 0.
        text: of a scalar; the name of an alias.
        style: `'`, `"`, `|`, `>` of a scalar.
        anchor: its name, None without.
        alias: whether it only names an anchor.
        pairs: of a mapping.
        items: of a list.
        flow: whether a mapping or list is written with brackets.
    """

    start: int
    end: int
    column: int
    text: str = ""
    style: str = ""
    anchor: str | None = None
    alias: bool = False
    pairs: list[tuple[Node, Node]] | None = None
    items: list[Node] | None = field(default=None)
    flow: bool = False

    def own(self, key: str) -> tuple[Node, Node] | None:
        """The pair of a mapping with that key, None if there is none or it comes by a merge."""
        return next((pair for pair in self.pairs or () if pair[0].text == key), None)

    def inner(self) -> Iterator[Node]:
        """It, and all that is in it."""
        yield self
        for key, value in self.pairs or ():
            yield from key.inner()
            yield from value.inner()
        for item in self.items or ():
            yield from item.inner()


def read(text: str) -> Node | None:
    """The root of a text that is YAML; None where it has no content. Raises YAMLError for what is none."""
    reader = YAML(typ="safe", pure=True)
    events: list[_Event] = [event for event in reader.parse(text) if isinstance(event, NodeEvent | CollectionEndEvent)]
    if not events:
        return None
    events.reverse()
    return _node(text, events)


def _node(text: str, events: list[_Event]) -> Node:
    event: Any = events.pop()
    start, end = event.start_mark.index, event.end_mark.index
    node = Node(start, end, event.start_mark.column, anchor=None if isinstance(event, AliasEvent) else event.anchor)
    if isinstance(event, AliasEvent):
        node.alias, node.text = True, event.anchor
    elif isinstance(event, ScalarEvent):
        node.text, node.style = event.value, event.style or ""
        if node.style in {"|", ">"}:
            # Its end is where the next thing begins.
            node.end = start + len(text[start:end].rstrip())
    elif isinstance(event, CollectionStartEvent):
        _collection(text, events, node, event)
    return node


def _collection(text: str, events: list[_Event], node: Node, event: CollectionStartEvent) -> None:
    node.flow = bool(event.flow_style)
    if isinstance(event, MappingStartEvent):
        node.pairs = []
        while not isinstance(events[-1], CollectionEndEvent):
            key = _node(text, events)
            value = _node(text, events)
            if not value.text and value.start == value.end and not value.style:
                # The parser puts a value that is not there where the next one begins.
                value.start = value.end = text.index(":", key.end) + 1
            node.pairs.append((key, value))
        last = node.pairs[-1][1] if node.pairs else None
    else:
        node.items = []
        while not isinstance(events[-1], CollectionEndEvent):
            node.items.append(_node(text, events))
        last = node.items[-1] if node.items else None
    closing = events.pop()
    node.end = closing.end_mark.index if node.flow or last is None else last.end
