"""Files of others, read with exact words for what is wrong: text, JSON, YAML with lines. Knows none of their keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from roundhouse.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 4 * 1024**2
"""Bytes of the largest file that is read."""


def read_text(path: Path) -> str:
    """A file's text. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from None
    if len(raw) > LARGEST:
        raise ConfigError(f"{path}: is larger than {LARGEST // 1024**2} MiB; give the file that holds the models")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: is not UTF-8 (byte {raw[error.start]:#04x}); save the file as UTF-8"
        ) from None


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """A JSON file's value. Raises ConfigError, for a key written twice too."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{path}: {twice!r} is written twice in one object; remove one")
        return found

    try:
        return json.loads(read_text(path), object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: is not JSON ({error.msg}); correct that line") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; give the file that holds the models") from None


def read_yaml(path: Path) -> Mapped:
    """A YAML file that is a mapping. Raises ConfigError."""
    try:
        # Read with lines and comments, so that a message can name the line.
        data = YAML(typ="rt", pure=True).load(read_text(path))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem))).splitlines()[0]
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: is not YAML ({what}); correct that line") from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: is not YAML ({str(error).splitlines()[0][:200]}); correct it") from None
    if not isinstance(data, CommentedMap):
        raise ConfigError(f"{path}:1: is not a mapping of keys; give the file that holds the models")
    return Mapped(path, data)


class Mapped:
    """A mapping read from a YAML file, and where its keys stand.

    Attributes:
        path: the file.
        data: its values as plain Python data, in the order of the file.
    """

    def __init__(self, path: Path, data: CommentedMap) -> None:
        self.path = path
        self.data: dict[str, Any] = _plain(data)
        self._marked = data

    def where(self, *keys: str) -> str:
        """`file:line` of the key reached through these, else of the closest one above it."""
        at, line = self._marked, 1
        for key in keys:
            if not isinstance(at, CommentedMap):
                break
            try:
                line = at.lc.key(key)[0] + 1
            except (KeyError, TypeError, AttributeError):
                break  # merged in from elsewhere
            at = at.get(key)
        return f"{self.path}:{line}"

    def wrong(self, text: str, *keys: str) -> ConfigError:
        """The error to raise: `text` says what is wrong and what to do."""
        named = f"{'.'.join(keys)}: " if keys else ""
        return ConfigError(f"{self.where(*keys)}: {named}{text}")

    def mapping(self, *keys: str) -> dict[str, Any]:
        """The mapping there, empty if there is none. Raises ConfigError if it is something else."""
        at: Any = self.data
        for key in keys:
            at = at.get(key) if isinstance(at, dict) else None
        if at is None:
            return {}
        if not isinstance(at, dict):
            raise self.wrong("is not a mapping of keys; write it as {key: value}", *keys)
        return at


def _plain(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(value, CommentedMap):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return None if value is None else str(value)
