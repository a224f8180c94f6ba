"""Answers of a double in the shapes of the captures: SGLang's flat errors and its chunks, `reasoning_content` in each.

Knows no process and no connection: what is left to say and when it ends it is told by a `Server` (`sglang_double.py`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.support.double import Whole, dump

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.double import Generation
    from tests.support.sglang_double import Server


def refused(message: str, kind: str = "BadRequestError") -> Whole:
    """An error in SGLang's flat shape, not OpenAI's."""
    return Whole(400, {"object": "error", "message": message, "type": kind, "param": None, "code": 400})


class Reply:
    """One answer, in the shapes of the captures."""

    def __init__(self, server: Server, asked: dict[str, Any], turn: Generation, *, chat: bool) -> None:
        self.server, self.asked, self.turn, self.chat = server, asked, turn, chat
        self.id = uuid4().hex
        self.thinks = 2 if chat and server.options.reasoning_parser else 0  # tokens of reasoning before the answer
        self.made = 0

    async def tokens(self) -> AsyncIterator[tuple[str, str]]:
        """Field and text of each token. Those of an aborted request end early."""
        self.server.running.add(self.id)
        try:
            async for text in self.turn.tokens(lambda: self.id in self.server.aborted):
                self.made += 1
                yield ("reasoning_content" if self.made <= self.thinks else "content"), text
        finally:
            self.server.running.discard(self.id)

    @property
    def finish(self) -> str:
        return "abort" if self.id in self.server.aborted else self.turn.finish

    def ending(self, finish: str | None) -> dict[str, Any]:
        return {"logprobs": None, "finish_reason": finish, "matched_stop": 2 if finish == "stop" else None}

    def usage(self) -> dict[str, Any]:
        figures = {"prompt_tokens": self.turn.prompt, "total_tokens": self.turn.prompt + self.made}
        figures |= {"completion_tokens": self.made, "prompt_tokens_details": None}
        return figures | {"reasoning_tokens": min(self.made, self.thinks), "completion_tokens_details": None}

    def frame(self, kind: str, choices: list[Any], **more: object) -> dict[str, Any]:
        """The model that was asked for is echoed, whatever is loaded."""
        return {
            "id": self.id,
            "object": kind,
            "created": int(time.time()),
            "model": self.asked.get("model", "default"),
            "choices": choices,
        } | more

    async def whole(self) -> dict[str, Any]:
        said = {"content": "", "reasoning_content": ""}
        async for where, text in self.tokens():
            said[where] += text
        message = {
            "role": "assistant",
            "content": said["content"],
            "reasoning_content": said["reasoning_content"] or None,
        }
        choice = (
            {"index": 0} | ({"message": message} if self.chat else {"text": said["content"]}) | self.ending(self.finish)
        )
        versions = [{"version": "default", "start": 0, "end": self.made}]
        metadata = {"weight_version": "default", "weight_versions": versions}
        return self.frame(
            f"{'chat.' if self.chat else 'text_'}completion", [choice], usage=self.usage(), metadata=metadata
        )

    async def events(self) -> AsyncIterator[bytes]:
        if raw := self.turn.script.raw:
            for payload in raw:
                yield payload.encode()
        else:
            async for chunk in self.chunks() if self.chat else self.text_chunks():
                yield dump(chunk)
        yield b"[DONE]"

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        kind, wants = "chat.completion.chunk", self.asked.get("stream_options") or {}
        each = wants.get("include_usage") and wants.get("continuous_usage_stats")

        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": {"reasoning_content": None} | delta} | self.ending(finish)
            return self.frame(kind, [choice])

        yield chunk({"role": "assistant", "content": ""})
        async for where, text in self.tokens():
            yield chunk({where: text}) | ({"usage": self.usage()} if each else {})
        yield chunk({}, self.finish)
        if wants.get("include_usage"):
            yield self.frame(kind, [], usage=self.usage())

    async def text_chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The last token comes with the finish reason."""
        async for _, text in self.tokens():
            ending = self.ending(self.finish if self.made == len(self.turn.texts) else None)
            yield self.frame("text_completion", [{"index": 0, "text": text} | ending], usage=None)
        if (self.asked.get("stream_options") or {}).get("include_usage"):
            figures = {key: value for key, value in self.usage().items() if not key.endswith("_details")}
            yield self.frame("text_completion", [], usage=figures)
