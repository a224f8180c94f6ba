"""What an engine's `/v1/models` says of the one model that it serves, and whether that is the model meant.

Knows the fields that SGLang and vLLM add to OpenAI's list (`root`, `max_model_len`), and neither of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roundhouse.config.models import ModelConfig


@dataclass(frozen=True, slots=True)
class Card:
    """The first entry of the list, which is the model itself; LoRA adapters follow it.

    `root` is the folder (vLLM) or the name again (SGLang), `context` tokens of one request.
    """

    name: str | None = None
    root: str | None = None
    context: int | None = None


def card(body: bytes | None) -> Card:
    """Reads the list; an empty card where it can't be read."""
    match document(body):
        case {"data": [{"id": str(name), **rest}, *_]}:
            root = rest.get("root")
            return Card(name, root if isinstance(root, str) else None, count(rest.get("max_model_len")))
        case _:
            return Card()


def agrees(model: ModelConfig, name: str | None, folder: str | None) -> bool:
    """Whether an engine that tells this name and folder (None where it tells none) serves the model.

    The folder decides where both are known: two models may be given one name. What a start script of the user's serves
    can't be told without `served_name`.
    """
    if model.path is not None and folder is not None and PurePath(folder).is_absolute():
        return PurePath(folder) == PurePath(model.path)
    expected = model.served_name or (model.id if model.path is not None else None)
    return name is None or expected is None or name == expected


def document(body: bytes | None) -> dict[str, Any]:
    """A JSON object, empty where it is none."""
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def count(value: object) -> int | None:
    """A whole number above 0, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
