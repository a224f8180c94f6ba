"""Edits of a configuration's text: a model added, removed, changed. Text in, text out; all else stays as it was.

Each edit is read again: unless the new text says just what was meant, it is refused. So a style of YAML that `splice`
does not master is an error and never a wrong file. Values are as the file has them: `${NAME}` is a variable, `$$` a
dollar sign.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml.error import YAMLError

from roundhouse.config import document, splice, tree
from roundhouse.config.problems import EditError, Problems, dotted
from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from roundhouse.config.tree import Node

Keys = tuple[str, ...]
_PART = re.compile(r'"([^"]+)"|([^."\s]+)')


def keys_of(dotted_path: str) -> Keys:
    """`load_timeout.total` as keys; a key with dots in it stands in double quotes. Raises ValueError otherwise."""
    parts: list[str] = []
    at = 0
    while found := _PART.match(dotted_path, at):
        parts.append(found[1] or found[2])
        at = found.end() + 1
        if at > len(dotted_path):
            return tuple(parts)
        if dotted_path[found.end()] != ".":
            break
    raise ValueError(f'{dotted_path!r} names no setting; write for example context, load_timeout.total or set."a.b".')


def value_of(written: str) -> Any:  # noqa: ANN401 - any YAML value
    """A value as a person writes it in YAML: `8192`, `30m`, `[a, b]`. Raises ValueError otherwise."""
    problems = Problems(Path("value"))
    told = document.read(f"value: {written}\n", None, problems)
    if told is None or len(problems) or set(told) != {"value"}:
        raise ValueError(f"{written!r} is no value; write it as in YAML, for example 8192, 30m, [a, b] or '\"a: b\"'.")
    return told["value"]


def plain(text: str) -> dict[str, Any]:
    """What the text says, with its variables as they are written. Raises ConfigError if it is not right as YAML."""
    problems = Problems(Path("the file"))
    told = document.read(text, None, problems)
    problems.raise_if_any()
    return told or {}


def add(text: str, name: str, body: Mapping[str, Any]) -> str:
    """With one more model, after the last one. Raises EditError, ConfigError."""
    told = plain(text) if text.strip() else {}
    models = told.get("models") or {}
    if not isinstance(models, dict):
        raise EditError("`models` is no mapping in this file; mend that first.")
    if name in models:
        raise EditError(f"There is a model {name!r} already; change it with `roundhouse models edit {name}`.")
    wanted = {**told, "models": {**models, name: dict(body)}}
    return _verified(_worded(lambda: _added(text, name, dict(body))), wanted)


def _added(text: str, name: str, body: dict[str, Any]) -> str:
    root = tree.read(text)
    pair = root.own("models") if root else None
    if root is not None and root.flow:
        if pair is None:
            return splice.put_in_flow(text, root, "models", {name: body}, strict=True)
        return splice.put_in_flow(text, pair[1], name, body, strict=True)
    if root is None or pair is None:
        gap = [] if not text.strip() else [""]
        return splice.insert_lines(text, len(text), [*gap, "models:", *splice.entry(name, body, 2, 2)])
    models = pair[1]
    if models.pairs:
        return _added_to(text, models, name, body)
    # `models:` or `models: {}`: a mapping begins below it.
    bare = text[: models.start].rstrip(" ") + text[models.end :]
    return splice.insert_lines(bare, splice.after_line(bare, pair[0].end), splice.entry(name, body, 2, 2))


def _added_to(text: str, models: Node, name: str, body: dict[str, Any]) -> str:
    if models.flow:
        return splice.put_in_flow(text, models, name, body, strict=False)
    pairs = models.pairs or []
    column = pairs[0][0].column
    if all(value.flow and value.pairs for _, value in pairs):
        new = splice.lines(name, body, column)
    else:
        steps = [value.pairs[0][0].column - column for _, value in pairs if value.pairs and not value.flow]
        new = splice.entry(name, body, column, steps[-1] if steps else 2)
    return splice.put_in_block(text, models, new, apart=True)


def remove(text: str, name: str) -> str:
    """Without a model and the comments that belong to it. Raises EditError, ConfigError."""
    return unset(text, ("models", name))


def assign(text: str, path: Keys, value: Any) -> str:  # noqa: ANN401 - any YAML value
    """With another value at a path, which need not be there yet. Raises EditError, ConfigError."""
    told = plain(text)
    wanted = with_value(told, path, value)
    return text if wanted == told else _verified(_worded(lambda: _assigned(text, told, path, value)), wanted)


def _assigned(text: str, told: dict[str, Any], path: Keys, value: Any) -> str:  # noqa: ANN401 - any YAML value
    root = _root(text)
    pair, have, depth = _descend(root, told, path)
    if depth == len(path) and pair is not None:
        return _changed(text, root, pair, have, path, value)
    mapping = pair[1] if pair else root
    key = path[depth]
    # A key that comes by a merge becomes the model's own, with all that is in it.
    inner = with_value({key: have.get(key)} if isinstance(have, dict) and key in have else {}, path[depth:], value)[key]
    if mapping.pairs is None or (not mapping.pairs and not mapping.flow):
        if pair is None:
            raise EditError(f"There is no place for {dotted(path)} in this file.")
        _require_unused(root, mapping, dotted(path[:depth]))
        merge = f"<<: *{mapping.text}, " if mapping.alias else ""
        body = splice.flow({key: inner}, strict=root.flow)
        return splice.put_value(text, pair, "{" + merge + body[1:])
    if mapping.flow:
        return splice.put_in_flow(text, mapping, key, inner, strict=root.flow)
    return splice.put_in_block(text, mapping, splice.lines(key, inner, mapping.pairs[0][0].column))


def _changed(
    text: str,
    root: Node,
    pair: tuple[Node, Node],
    have: Any,  # noqa: ANN401 - any YAML value
    path: Keys,
    value: Any,  # noqa: ANN401 - any YAML value
) -> str:
    """A value that stands there itself, changed; of a mapping only what differs."""
    node = pair[1]
    own = {key.text for key, _ in node.pairs or ()} - {"<<"}
    if node.pairs and isinstance(value, dict) and value and have.keys() - value.keys() <= own:
        for key, what in value.items():
            text = assign(text, (*path, key), what)
        for key in have.keys() - value.keys():
            text = unset(text, (*path, key))
        return text
    _require_unused(root, node, dotted(path))
    if node.items and not node.flow and isinstance(value, list) and value:
        return splice.put_items(text, node, have, value)
    return splice.put_value(text, pair, splice.flow(value, strict=root.flow, style=node.style))


def unset(text: str, path: Keys) -> str:
    """Without what stands at a path, nor a mapping that it leaves empty in a model. Raises EditError, ConfigError."""
    told = plain(text)
    root = _root(text)
    pair, _, depth = _descend(root, told, path[:-1])
    holder = pair[1] if pair else root
    last = holder.own(path[-1]) if depth == len(path) - 1 else None
    if last is None:
        inside: Any = told
        for key in path:
            inside = inside.get(key) if isinstance(inside, dict) else None
        if inside is None:
            raise EditError(f"{dotted(path)} is not set in this file.")
        raise EditError(
            f"{dotted(path)} is not written there but comes by an anchor; set another value, or change the anchor."
        )
    _require_unused(root, last[1], dotted(path))
    if len(holder.pairs or ()) == 1 and len(path) > 3:
        return unset(text, path[:-1])
    wanted = copy.deepcopy(told)
    inside = wanted
    for key in path[:-1]:
        inside = inside[key]
    del inside[path[-1]]
    if len(holder.pairs or ()) > 1:
        return _verified(splice.take_out(text, holder, last), wanted)
    return _verified(_emptied(text, root, pair, last), wanted)


def _emptied(text: str, root: Node, pair: tuple[Node, Node] | None, last: tuple[Node, Node]) -> str:
    """A mapping without its only pair."""
    if pair is None:
        raise EditError("Nothing would be left of this file.")
    holder = pair[1]
    if holder.flow or "\n" not in text[pair[0].end : holder.start]:
        return splice.put_value(text, pair, "{}")
    start, end = splice.span(text, last)
    head, rest = text[:start], text[end:]
    colon = head.index(":", pair[0].end) + 1
    head = f"{head[:colon]} {{}}{head[colon:]}"
    return head + rest if rest or text.endswith("\n") else head.rstrip("\r\n")


def entry(text: str, name: str) -> str:
    """The lines of a model with its comments, moved to the left. Raises EditError, ConfigError."""
    start, end, column = _place(text, name)
    lines = text[start:end].replace("\r\n", "\n").split("\n")
    return "\n".join(line[column:] if not line[:column].strip() else line for line in lines).rstrip("\n") + "\n"


def put_entry(text: str, name: str, new: str) -> str:
    """With a model's lines replaced by others, as `entry` gives them. Raises EditError, ConfigError."""
    start, end, column = _place(text, name)
    told, fresh = plain(text), new.strip("\n").split("\n")
    lines = [" " * column + line if line.strip() else "" for line in fresh]
    made = splice.line_end(text).join(lines)
    if column:
        tail = text[start:end]
        made += tail[len(tail.rstrip("\r\n")) :]
    changed = text[:start] + made + text[end:]
    says = plain(changed)
    models = says.get("models") or {}
    if not isinstance(models, dict) or models.keys() != told["models"].keys():
        raise EditError(f"This is to be the one entry {name!r}: its name stays, and nothing beside it is added.")
    told["models"][name] = models[name]
    return _verified(changed, told)


def _place(text: str, name: str) -> tuple[int, int, int]:
    """Where a model's entry begins and ends, and by how much it is indented."""
    plain(text)
    root = _root(text)
    models = root.own("models")
    pair = models[1].own(name) if models else None
    if models is None or pair is None:
        raise EditError(f"{name!r} has no entry of its own in this file.")
    if models[1].flow:
        return pair[0].start, pair[1].end, 0
    return *splice.span(text, pair), pair[0].column


def _root(text: str) -> Node:
    root = tree.read(text)
    if root is None or root.pairs is None:
        raise EditError("The file is no mapping of keys.")
    return root


def _descend(root: Node, told: Any, path: Keys) -> tuple[tuple[Node, Node] | None, Any, int]:  # noqa: ANN401 - YAML
    """The last pair on a path that stands in the text itself, what the text says there, and how many keys that took."""
    pair, node, depth = None, root, 0
    while depth < len(path) and (found := node.own(path[depth])):
        pair, node, told = found, found[1], told[path[depth]]
        depth += 1
    return pair, told, depth


def with_value(told: Mapping[str, Any], path: Keys, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any YAML value
    """Data with a value at a path. Raises EditError where the path leads into what is no mapping."""
    changed = copy.deepcopy(dict(told))
    inside: Any = changed
    for depth, key in enumerate(path[:-1], start=1):
        if inside.get(key) is None:
            inside[key] = {}
        inside = inside[key]
        if not isinstance(inside, dict):
            raise EditError(f"{dotted(path[:depth])} is {inside!r} and no mapping; nothing can be set in it.")
    inside[path[-1]] = value
    return changed


def _require_unused(root: Node, node: Node, what: str) -> None:
    """Raises EditError for a part with an anchor that is used outside of it."""
    inside = list(node.inner())
    anchors = {one.anchor for one in inside if one.anchor}
    users = [one for one in root.inner() if one.alias and one.text in anchors and not any(one is own for own in inside)]
    if users:
        raise EditError(f"{what} holds the anchor &{users[0].text}, which other places use; edit the file by hand.")


def _worded(edit: Any) -> str:  # noqa: ANN401 - a function without arguments
    try:
        return str(edit())
    except (ValueError, YAMLError) as error:
        raise EditError(f"This can't be written: {error}.") from None


def _verified(text: str, wanted: Mapping[str, Any]) -> str:
    """The text, if it says what was meant. Raises EditError."""
    try:
        says = plain(text)
    except ConfigError as error:
        raise EditError(f"The file is written in a way that can't be edited so ({error.message}).") from None
    if says == wanted:
        return text
    others = _differing(says.get("models"), wanted.get("models"))
    if others:
        raise EditError(f"This would also change {', '.join(others)}, by an anchor; edit the file by hand.")
    raise EditError("The file is written in a way that can't be edited so; edit it by hand.")


def _differing(one: object, other: object) -> Sequence[str]:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return ()
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
