"""YAML text as plain data with the line of every value. Reads YAML 1.2 (`off` is a word) and knows no key.

Anchors, aliases and merge keys are followed; a key written twice is a problem, not a choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML, MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from roundhouse.config import expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from roundhouse.config.problems import KeyPath, Problems

DEEPEST = 32
"""Levels of nesting; the contract needs six."""

MOST_VALUES = 200_000
"""Values after following aliases; a file of nested aliases could otherwise grow without bound."""

_MERGE = "tag:yaml.org,2002:merge"


class TooMuchError(ValueError):
    """The document is nested or repeats itself beyond all sense."""


def read(text: str, env: Mapping[str, str] | None, problems: Problems) -> dict[str, Any] | None:
    """The document as data, environment variables filled in; `problems.lines` learns where everything stands.

    None if it is no mapping at all; everything that is wrong is added to `problems`. Without `env`, variables stay
    as they are written.
    """
    reader = _Reader(env, problems)
    lines: dict[KeyPath, int] = {(): 1}
    problems.lines = lines
    try:
        root = reader.yaml.compose(text)
        return reader.root(root, lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(filter(None, (error.context, error.problem)))
        problems.add((), f"not YAML: {what}; check indentation, quotes and colons", line=mark.line + 1 if mark else 1)
    except TooMuchError as error:
        problems.add((), str(error))
    except (YAMLError, RecursionError) as error:
        problems.add((), f"not YAML: {' '.join(str(error).split())[:200]}; remove what stands there")
    return None


@dataclass(slots=True)
class _Reader:
    env: Mapping[str, str] | None
    problems: Problems
    yaml: YAML = field(default_factory=lambda: YAML(typ="safe", pure=True))
    count: int = 0

    def root(self, node: Node | None, lines: dict[KeyPath, int]) -> dict[str, Any] | None:
        if node is None or (isinstance(node, ScalarNode) and node.value == ""):
            self.problems.add((), "the file is empty; `roundhouse init` writes one to start from")
            return None
        if not isinstance(node, MappingNode):
            self.problems.add((), "the file is not a mapping of keys; begin with a line such as `models:`")
            return None
        return self.mapping(node, (), lines)

    def value(self, node: Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:  # noqa: ANN401 - any YAML value
        self.count += 1
        if len(path) > DEEPEST or self.count > MOST_VALUES:
            raise TooMuchError("the file is nested too deeply or its anchors repeat too much; simplify it")
        if isinstance(node, MappingNode):
            return self.mapping(node, path, lines)
        if isinstance(node, SequenceNode):
            return self.sequence(node, path, lines)
        return self.scalar(node, path)

    def mapping(self, node: MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE or (isinstance(key, ScalarNode) and key.value == "<<" and key.style is None):
                merged = self.merged(value, path, lines) | merged
            elif not isinstance(key, ScalarNode):
                self.problems.add(path, "a key is a list or a mapping; write a plain word", line=line)
            elif key.value in own:
                first = lines[*path, key.value]
                self.problems.add((*path, key.value), f"written twice (first on line {first}); remove one", line=line)
            else:
                lines[*path, key.value] = line
                own[key.value] = self.value(value, (*path, key.value), lines)
        return merged | own

    def merged(self, node: Node, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
        """What `<<: *anchor` or `<<: [*one, *two]` brings in; the first one wins."""
        parts = node.value if isinstance(node, SequenceNode) else [node]
        found: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, MappingNode):
                self.problems.add(path, "`<<` takes an alias of a mapping", line=node.start_mark.line + 1)
                continue
            inner: dict[KeyPath, int] = {}
            found = self.value(part, path, inner) | found
            lines.update({where: line for where, line in inner.items() if where not in lines})
        return found

    def sequence(self, node: SequenceNode, path: KeyPath, lines: dict[KeyPath, int]) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            lines[*path, index] = item.start_mark.line + 1
            items.append(self.value(item, (*path, index), lines))
        return items

    def scalar(self, node: Node, path: KeyPath) -> Any:  # noqa: ANN401 - any YAML value
        try:
            value = self.yaml.constructor.construct_object(node, deep=True)
        except (
            YAMLError,
            ValueError,
            LookupError,
            TypeError,
        ) as error:  # a tag that the text contradicts: any of these
            what = getattr(error, "problem", None) or str(error)
            self.problems.add(path, f"{node.value!r} can't be read ({what}); write it in quotes")
            return None
        if not isinstance(value, str) or self.env is None:
            return value
        try:
            return expand.from_environment(value, self.env)
        except ValueError as error:
            self.problems.add(path, str(error))
            return value
