"""pydantic's complaints in our words: what is wrong with a key, and what to write instead.

Values are quoted only where the kind of mistake needs it, and never those of keys that hold secrets.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

SECRET = frozenset({"api_key", "hash", "env"})

_EXPECTED = {
    "string_type": "text; write it in quotes",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list; write it as [one, two]",
    "mapping_type": "a mapping; write it as {key: value}",
    "dict_type": "a mapping; write it as {key: value}",
    "model_type": "a mapping of keys; write it as {key: value}",
    "path_type": "a file or folder; write its path as text",
}


def sentence(error: ErrorDetails, of: type[BaseModel]) -> str:
    """What is wrong, and the remedy, for one error of validating `of`. The error's `loc` starts there."""
    kind, path = error["type"], error["loc"]
    if kind == "extra_forbidden":
        return unknown_key(str(path[-1]), keys_at(of, path[:-1]))
    if kind == "missing":
        return f"the key {str(path[-1])!r} is missing; add it"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    shown = "" if SECRET & set(map(str, path)) else f"{_short(error['input'])} "
    if kind in _EXPECTED:
        return f"{shown or 'this '}is not {_EXPECTED[kind]}"
    if kind == "literal_error":
        words = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        return f"{shown or 'this '}is not one of {words}; {closest(str(error['input']), words.split(', '))}"
    if kind == "greater_than_equal":
        return f"{shown}is below {error['ctx']['ge']}; write {error['ctx']['ge']} or more"
    if kind == "less_than_equal":
        return f"{shown}is above {error['ctx']['le']}; write {error['ctx']['le']} or less"
    if kind == "string_pattern_mismatch":
        return f"does not begin with {str(error['ctx']['pattern']).lstrip('^')!r}; write it so"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}; correct it"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Names the closest key, else all of them."""
    names = tuple(known)
    return f"unknown key; {closest(key, names)}" if names else "unknown key; remove it"


def closest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the list of what is known."""
    names = tuple(known)
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def keys_at(of: type[BaseModel], path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that may be written in the mapping at `path` below a model."""
    kind: Any = of
    for part in path:
        kind = _member(kind, part)
    section = _section(kind)
    return keys_of(section) if section else ()


def keys_of(section: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a section that a person may write (what its JSON Schema shows)."""
    return tuple(name for name, info in section.model_fields.items() if not _hidden(info.metadata))


def _hidden(metadata: Iterable[object]) -> bool:
    return any(type(item).__name__ == "SkipJsonSchema" for item in metadata)


def _member(kind: Any, part: str | int) -> Any:  # noqa: ANN401 - type annotations have no type of their own
    """The annotation of what stands below `kind` under the key or index `part`."""
    kind = _plain(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return field.annotation if field else None
    return next(iter(get_args(kind)[-1:] if get_origin(kind) is Mapping else get_args(kind)), None)


def _section(kind: Any) -> type[BaseModel] | None:  # noqa: ANN401 - see above
    kind = _plain(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _plain(kind: Any) -> Any:  # noqa: ANN401 - see above
    """Without `Annotated[...]` and `| None`."""
    while get_origin(kind) is Annotated or type(None) in get_args(kind):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = "a list" if isinstance(value, list) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
