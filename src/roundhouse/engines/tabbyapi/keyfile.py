"""TabbyAPI's `api_tokens.yml`: `api_key` (a text or a list of them) and `admin_key`. Text to key, no file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from roundhouse.errors import LoadFailed

if TYPE_CHECKING:
    from collections.abc import Callable

NAME: Final = "api_tokens.yml"


def read(text: str) -> str:
    """The admin key: it is good for every endpoint, the API key is not. Raises LoadFailed; never quotes the file."""
    try:
        found: object = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError):
        raise LoadFailed(f"TabbyAPI's {NAME} is not YAML: correct it, or remove it to get a new one") from None
    key = found.get("admin_key") if isinstance(found, dict) else None
    if isinstance(key, int | float):  # bool too
        raise LoadFailed(f"admin_key in TabbyAPI's {NAME} is read as a number: put it in quotes")
    if not isinstance(key, str) or not key.strip() or not key.isprintable() or not key.isascii():
        raise LoadFailed(f"TabbyAPI's {NAME} has no usable admin_key: remove the file to get a new one")
    return key


def fresh(random_key: Callable[[], str]) -> str:
    """A new file. Quoted, for a key of digits alone would be read as a number and TabbyAPI would not start."""
    return f"api_key: {json.dumps(random_key())}\nadmin_key: {json.dumps(random_key())}\n"
