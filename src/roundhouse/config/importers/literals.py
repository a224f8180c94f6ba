"""Python source read for its constants: assignments at the top level whose values are written out. Nothing is run.

Calls, attributes and comprehensions have no value here; who asks for one is told on which line and what to write.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LONGEST = 4096
"""Characters of a text put together from others; a path has fewer, and a few lines of source could make a huge one."""


class NotLiteralError(ValueError):
    """An expression would have to be run to know its value."""

    def __init__(self, node: ast.AST, text: str) -> None:
        super().__init__(text)
        self.line: int = getattr(node, "lineno", 1)


@dataclass(slots=True)
class Source:
    """A file's constants.

    Attributes:
        names: values by name, as they are at the end of the file.
        refused: names whose value would have to be run, with the reason.
        lines: on which line a name, or a key of a dictionary assigned to it, stands.
        changed: lines on which a name is changed by code that is not run.
        tree: the parsed file.
    """

    path: Path
    tree: ast.Module
    names: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, NotLiteralError] = field(default_factory=dict)
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    changed: dict[str, list[int]] = field(default_factory=dict)

    def texts(self) -> Iterator[str]:
        """Every text that is written anywhere in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value

    def keyword(self, function: tuple[str, str], name: str) -> Any:  # noqa: ANN401 - any constant
        """The value of a keyword argument of `module.function(...)`, wherever it is called; None if not written out."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=attribute), keywords=keywords):
                    if (module, attribute) != function:
                        continue
                    for keyword in keywords:
                        if keyword.arg == name:
                            return self._value_or_none(keyword.value)
                case _:
                    pass
        return None

    def where(self, *keys: str) -> str:
        """`file:line` of a name or a key below it."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}:{self.lines.get(keys, 1)}"

    def _value_or_none(self, node: ast.expr) -> Any:  # noqa: ANN401 - any constant
        try:
            return value(node, self.names, self.refused)
        except NotLiteralError:
            return None


def read(text: str, path: Path) -> Source:
    """The constants of a Python file. Raises ConfigError if it is no Python."""
    try:
        found = Source(path, ast.parse(text))
        for statement in found.tree.body:
            _statement(statement, found)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno or 1}: is not valid Python ({error.msg}); correct that line") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path}: can't be read as Python ({str(error) or 'nested too deeply'})") from None
    return found


def _statement(statement: ast.stmt, found: Source) -> None:
    match statement:
        case ast.Assign(targets=targets, value=written):
            for target in targets:
                _assign(target, written, found)
        case ast.AnnAssign(target=target, value=ast.expr() as written):
            _assign(target, written, found)
        case ast.AugAssign(target=ast.Name(id=name)) | ast.Delete(targets=[ast.Subscript(value=ast.Name(id=name))]):
            found.changed.setdefault(name, []).append(statement.lineno)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            found.changed.setdefault(name, []).append(statement.lineno)
        case _:
            pass  # functions, imports, conditions: code, which is not run


def _assign(target: ast.expr, written: ast.expr, found: Source) -> None:
    match target:
        case ast.Name(id=name):
            _keep(name, written, found)
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))):
            _keep_item(name, key, written, found)
        case ast.Subscript(value=ast.Name(id=name)):
            found.changed.setdefault(name, []).append(target.lineno)
        case _:
            pass  # an attribute, or several names at once: no setting is written so


def _keep(name: str, written: ast.expr, found: Source) -> None:
    found.lines[name,] = written.lineno
    try:
        found.names[name] = value(written, found.names, found.refused)
        found.refused.pop(name, None)
    except NotLiteralError as error:
        found.names.pop(name, None)
        found.refused[name] = error
        return
    if isinstance(written, ast.Dict):
        _note_lines((name,), written, found)


def _keep_item(name: str, key: str, written: ast.expr, found: Source) -> None:
    """`NAME["key"] = ...` after the dictionary itself."""
    try:
        item = value(written, found.names, found.refused)
    except NotLiteralError as error:
        found.refused[name] = error
        return
    if isinstance(found.names.get(name), dict):
        found.names[name] = {**found.names[name], key: item}
        found.lines[name, key] = written.lineno


def _note_lines(path: tuple[str, ...], written: ast.Dict, found: Source) -> None:
    for key, inner in zip(written.keys, written.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            at = (*path, key.value)
            found.lines[at] = key.lineno
            if isinstance(inner, ast.Dict):
                _note_lines(at, inner, found)


def value(node: ast.expr, names: Mapping[str, Any], refused: Mapping[str, NotLiteralError]) -> Any:  # noqa: ANN401 - one case a kind of literal
    """The value of an expression that is written out. Raises NotLiteralError."""

    def of(inner: ast.expr) -> Any:  # noqa: ANN401 - any constant
        return value(inner, names, refused)

    match node:
        case ast.Constant(value=constant) if constant is None or isinstance(constant, str | bool | int | float):
            return constant
        case ast.Dict(keys=keys, values=values):
            return _dictionary(node, [(key and of(key), of(item)) for key, item in zip(keys, values, strict=True)])
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [of(item) for item in items]
        case ast.Name(id=name):
            return _named(node, name, names, refused)
        case ast.JoinedStr(values=parts):
            return _short(node, "".join(map(str, map(of, parts))))
        case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
            return of(inner)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            pair = of(left), of(right)
            if all(isinstance(item, str) for item in pair):
                return _short(node, "".join(pair))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as figure)):
            return -figure
        case _:
            pass
    raise NotLiteralError(node, f"`{_shown(node)}` would have to be run to know its value; write the value itself")


def _dictionary(node: ast.Dict, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for (key, item), written in zip(pairs, node.keys, strict=True):
        if written is not None and isinstance(key, str | int | float | bool | None):
            found[key] = item
        elif written is None and isinstance(item, dict):
            found |= item
        else:
            raise NotLiteralError(written or node, "a dictionary's key is no plain text; write it as text")
    return found


def _named(node: ast.Name, name: str, names: Mapping[str, Any], refused: Mapping[str, NotLiteralError]) -> Any:  # noqa: ANN401 - any constant
    if name in names:
        return names[name]
    if name in refused:
        raise NotLiteralError(node, f"{name} is set by code on line {refused[name].line}; write its value")
    raise NotLiteralError(node, f"{name} is not set to a value above; write the value itself")


def _short(node: ast.AST, text: str) -> str:
    if len(text) > LONGEST:
        raise NotLiteralError(node, f"a text of more than {LONGEST} characters is no path or name; shorten it")
    return text


def _shown(node: ast.expr) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
