"""Answers of a double in the shapes of the captures: vLLM's nested errors and its chunks, `reasoning` and `token_ids` in them.

Knows no process and no connection: what is left to say and when it ends it is told by a `Server` (`vllm_double.py`).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.support.double import Whole, dump

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.double import Generation
    from tests.support.vllm_double import Server


def refused(status: int, message: str, kind: str, param: str | None) -> Whole:
    return Whole(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def too_long(turn: Generation) -> str:
    seen = turn.context + 1  # the tokenizer stops there
    return (
        f"This model's maximum context length is {turn.context} tokens. However, your prompt contains at least {seen} input "
        "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
        f"(parameter=input_tokens, value={seen})"
    )


def too_many(turn: Generation) -> str:
    return (
        f"max_tokens={turn.limit} cannot be greater than max_model_len={turn.context}. Please request fewer output tokens. "
        f"(parameter=max_tokens, value={turn.limit})"
    )


class EngineDead(Exception):
    """The engine's process went while it computed."""


DEAD = refused(
    500, "EngineCore encountered an issue. See stack trace (above) for the root cause.", "InternalServerError", None
)


class Reply:
    """One answer, in the shapes of the captures."""

    def __init__(self, server: Server, asked: dict[str, Any], turn: Generation, *, chat: bool) -> None:
        self.server, self.asked, self.turn, self.chat = server, asked, turn, chat
        self.id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex[:16]}"
        self.thinks = 2 if chat and server.options.reasoning_parser else 0  # tokens of reasoning before the answer
        self.made = 0

    async def tokens(self) -> AsyncIterator[tuple[str, str]]:
        """Field and text of each token. When the engine is gone nothing comes any more, not even an end, or EngineDead."""
        async for text in self.turn.tokens():
            if self.server.cut and self.server.behaviour.owns_up:
                raise EngineDead
            if self.server.cut:
                await asyncio.Event().wait()
            self.made += 1
            yield ("reasoning" if self.made <= self.thinks else "content"), text

    def usage(self) -> dict[str, Any]:
        found: dict[str, Any] = {"prompt_tokens": self.turn.prompt, "total_tokens": self.turn.prompt + self.made}
        found["completion_tokens"] = self.made
        if self.chat and self.server.options.reasoning_parser:
            found["completion_tokens_details"] = {"reasoning_tokens": min(self.made, self.thinks)}
        return found

    def frame(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        model = self.asked.get("model", self.server.names[0])
        return {"id": self.id, "object": kind, "created": int(time.time()), "model": model, "choices": choices}

    @property
    def print(self) -> dict[str, str]:
        return {"system_fingerprint": f"vllm-{self.server.behaviour.version}-d9de4280"}

    async def whole(self) -> dict[str, Any]:
        said = {"content": "", "reasoning": ""}
        async for where, text in self.tokens():
            said[where] += text
        usage = {"completion_tokens_details": None} | self.usage() | {"prompt_tokens_details": None}
        common = {
            "service_tier": None,
            **self.print,
            "usage": usage,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
        ending = {
            "logprobs": None,
            "finish_reason": self.turn.finish,
            "stop_reason": None,
            "token_ids": None,
            "routed_experts": None,
        }
        if not self.chat:
            choice = {"index": 0, "text": said["content"], **ending, "prompt_logprobs": None, "prompt_token_ids": None}
            return self.frame("text_completion", [choice]) | common
        nothing = dict.fromkeys(("refusal", "annotations", "audio", "function_call"))
        message = {
            "role": "assistant",
            "content": said["content"] or None,
            **nothing,
            "reasoning": said["reasoning"] or None,
        }
        prompt = dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text"))
        return self.frame("chat.completion", [{"index": 0, "message": message, **ending}]) | common | prompt

    async def events(self) -> AsyncIterator[bytes]:
        if raw := self.turn.script.raw:
            for payload in raw:
                yield payload.encode()
        else:
            try:
                async for chunk in self.chunks():
                    yield dump(chunk)
            except EngineDead:
                yield dump(DEAD.body)
        yield b"[DONE]"

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """The last token's has the finish reason."""
        wants = self.asked.get("stream_options") or {}
        each = wants.get("include_usage") and wants.get("continuous_usage_stats")
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        if self.chat:
            first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            usage = {"usage": self.usage()} if each else {}
            yield self.frame(kind, [first]) | usage | {"prompt_token_ids": None, "prompt_text": None}
        async for where, text in self.tokens():
            choice = self.choice(where, text)
            if self.made == len(self.turn.texts):
                choice |= {"finish_reason": self.turn.finish, "stop_reason": None}
            last = self.made == len(self.turn.texts) and not wants.get("include_usage")
            yield self.frame(kind, [choice]) | ({"usage": self.usage()} if each else {}) | (self.print if last else {})
        if wants.get("include_usage"):
            yield self.frame(kind, []) | {"usage": self.usage()} | self.print

    def choice(self, where: str, text: str) -> dict[str, Any]:
        if self.chat:
            return {"index": 0, "delta": {where: text}, "logprobs": None, "finish_reason": None, "token_ids": None}
        rest = dict.fromkeys(("logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids"))
        return {"index": 0, "text": text, **rest}
