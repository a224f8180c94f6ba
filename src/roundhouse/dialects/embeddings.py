"""Vectors as clients ask for them: the `openai` package asks for base64, which not every engine speaks."""

from __future__ import annotations

import base64
from array import array


def encode(data: object) -> bool:
    """Turns lists of numbers into base64 of little-endian 32-bit floats; false if there was nothing to do."""
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    found = [item for item in items if _is_vector(item.get("embedding"))]
    for item in found:
        item["embedding"] = base64.b64encode(array("f", item["embedding"]).tobytes()).decode()
    return bool(found)


def _is_vector(value: object) -> bool:
    """Not those of each token, which some engines give for pooling `none`."""
    return isinstance(value, list) and bool(value) and all(isinstance(number, int | float) for number in value)
