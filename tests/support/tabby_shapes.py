"""What answers of a TabbyAPI look like in each of its versions: chunks, whole answers, lists. Values only."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Version:
    """How one commit differs. `same` is what a load of the loaded model gives: error | empty | finished."""

    name: str
    exl2: bool
    same: str
    by_basename: bool
    continues: bool
    file_wins: bool
    chunk: str
    pings: bool


VERSIONS = {
    "84bb1ce": Version("84bb1ce", True, "error", True, False, False, "2025-12", False),
    "79126f9": Version("79126f9", True, "empty", True, False, False, "2026-06", False),
    "e632af4": Version("e632af4", False, "finished", False, True, True, "2026-08", True),
}


class Shape:
    """What chunks and answers look like in one version."""

    def __init__(self, version: Version, model: str, *, chat: bool) -> None:
        self.version, self.model, self.chat = version, model, chat
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def _chunk(self, choices: list[dict[str, Any]], **more: object) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        era = self.version.chunk
        if era == "2025-12":
            told = {"created": self.created, "model": self.model, "object": kind, "usage": None}
            return {"id": self.id, "choices": choices, **told, **more}
        if not self.chat:
            told = {"object": kind, "choices": choices, "created": self.created, **more}
            return {"id": self.id, **told, "model_name": self.model}
        if era == "2026-06":
            return {"id": self.id, "choices": choices, **more, "model_name": self.model}
        head = {"id": self.id, "object": kind, "created": self.created}
        return {**head, "choices": choices, **more, "model": self.model}

    def text(self, words: str) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": {"content": words}} if self.chat else {"text": words}
        if self.chat and self.version.chunk == "2025-12":
            said["delta"] = {"role": "assistant", "content": words, "tool_calls": None, "tool_call_id": None}
        return self._chunk([{"index": 0, **said, "finish_reason": None}])

    def end(self, tokens: int, with_usage: bool) -> list[dict[str, Any]]:
        said: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        choice: dict[str, Any] = {"index": 0, **said, "finish_reason": "stop"}
        if self.version.chunk == "2025-12":
            finish = self._chunk([choice])
            return [finish, self._chunk([], usage=figures(tokens))] if with_usage else [finish]
        if with_usage:
            return [self._chunk([choice], usage=figures(tokens))]
        return [self._chunk([{**choice, "eos_reason": "stop_token"}])]

    def whole(self, words: list[str], *, with_usage: bool, cut: bool) -> dict[str, Any]:
        text = "".join(words)
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, "finish_reason": "stop", "eos_reason": None if cut else "stop_token", **said}
        usage = figures(len(words)) if with_usage or self.version.chunk == "2025-12" else None
        kind = "chat.completion" if self.chat else "text_completion"
        head = {"id": f"cmpl-{uuid.uuid4().hex}", "choices": [choice], "created": self.created}
        return {**head, "model": self.model, "object": kind, "usage": usage}


def figures(tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 12, "prompt_time": 0.05, "prompt_tokens_per_sec": 240.0, "completion_tokens": tokens,
        "completion_time": 0.31, "completion_tokens_per_sec": "Indeterminate", "total_tokens": 12 + tokens,
        "total_time": 0.36,
    }  # fmt: skip


def listed(name: str) -> dict[str, Any]:
    entry = {"id": name, "object": "model", "created": 1795366911, "owned_by": "tabbyAPI", "logging": None}
    return {**entry, "parameters": None}


def error_event(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "trace": None}}
