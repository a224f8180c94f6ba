"""What is read out of TabbyAPI's JSON answers: a value, or the words of an error. Knows no endpoint."""

from __future__ import annotations

import json
from typing import Any


def text_of(body: bytes) -> str:
    """What an error body of TabbyAPI says: `{"detail": ...}`, `{"error": {"message": ...}}`, or plain text."""
    try:
        found: object = json.loads(body)
    except ValueError:
        return " ".join(body.decode(errors="replace").split())[:500]
    match found:
        case {"detail": str(words)} | {"error": {"message": str(words)}} | {"error": str(words)}:
            return words
        case {"detail": list(entries)}:
            return "; ".join(_complaint(entry) for entry in entries)
        case _:
            return ""


def _complaint(entry: object) -> str:
    """FastAPI's `{"loc": ["body", "max_seq_len"], "msg": "..."}`."""
    match entry:
        case {"loc": [*where], "msg": str(words)}:
            return f"{'.'.join(str(part) for part in where if part != 'body')}: {words}"
        case _:
            return str(entry)


def answer(body: bytes, *keys: str) -> object:
    """A value inside a JSON body, by its keys; None where it is not there."""
    try:
        found: Any = json.loads(body)
        for key in keys:
            found = found[key]
    except (ValueError, LookupError, TypeError):
        return None
    return found
