"""What a model thought, under both names that clients look for.

llama.cpp and SGLang call it `reasoning_content`, newer vLLM and OpenRouter's clients `reasoning`.
"""

from __future__ import annotations

import re
from typing import Any, Final

NAMES: Final = ("reasoning_content", "reasoning")
SAID: Final = re.compile(rb'"reasoning(?:_content)?"\s*+:\s*+"')
"""In an event, that there is some."""


def complete(choices: object) -> bool:
    """Adds the missing name in each choice's delta or message; false if there was nothing to do."""
    found = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    parts = [choice[key] for choice in found for key in ("delta", "message") if isinstance(choice.get(key), dict)]
    changed = [_completed(part) for part in parts]
    return True in changed


def _completed(part: dict[str, Any]) -> bool:
    for name, other in (NAMES, NAMES[::-1]):
        if isinstance(said := part.get(name), str) and said and not isinstance(part.get(other), str):
            part[other] = said
            return True
    return False
