"""Valid requests of every API, with every field that Roundhouse looks into: what fuzzing begins from.

A body's "alpha" is a chat model, "vectors" embeds, "ranker" ranks; whoever runs them chooses what they are.
"""

from __future__ import annotations

from typing import Any

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}}
CHAT: dict[str, Any] = {
    "model": "alpha",
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "⏳ Loading\nHello", "reasoning_content": "hm", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "user", "content": "and tomorrow?"},
    ],
    "max_tokens": 2,
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": "auto",
    "metadata": {"task": "title_generation", "chat_id": "c1", "session_id": "s1"},
    "temperature": 0.5,
    "user": "ann",
}
SHORT = [{"role": "user", "content": "hi"}]
OPENAI: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        CHAT,
        CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        {
            "model": "alpha", "messages": SHORT, "max_tokens": 2, "n": 1, "logprobs": True, "top_logprobs": 2,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        },
        {"model": "alpha", "messages": SHORT, "max_completion_tokens": 2, "stream": True, "stop": ["x"], "seed": 7},
    ],
    "/v1/completions": [
        {"model": "alpha", "prompt": "hi", "max_tokens": 2, "stream": False, "n": 1, "logprobs": 1},
        {"model": "alpha", "prompt": ["hi", "you"], "max_tokens": 2, "stream": True},
    ],
    "/v1/embeddings": [{"model": "vectors", "input": ["a", "b"], "encoding_format": "base64"}],
    "/v1/rerank": [{"model": "ranker", "query": "a", "documents": ["b", {"text": "c"}], "top_n": 1}],
    "/v1/responses": [
        {
            "model": "alpha", "max_output_tokens": 2, "instructions": "Be short.", "store": True,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": []},
                {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
                {"type": "message", "role": "developer", "content": "go on"},
            ],
            "tools": [{"type": "function", **FUNCTION}, {"type": "custom", "name": "patch"}],
            "tool_choice": {"type": "function", "name": "weather"},
            "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}},
        },
        {"model": "alpha", "input": "hi", "stream": True, "max_output_tokens": 2, "previous_response_id": "resp_x"},
        {"model": "alpha", "input": "hi", "stream": True, "max_output_tokens": 2, "metadata": {"a": "b"}},
    ],
}  # fmt: skip
NATIVE: dict[str, list[dict[str, Any]]] = {
    "/completion": [{"model": "alpha", "prompt": "hi", "n_predict": 2, "stream": True}],
    "/infill": [{"model": "alpha", "input_prefix": "a", "input_suffix": "b", "n_predict": 2}],
    "/tokenize": [{"model": "alpha", "content": "hi", "add_special": True}],
    "/detokenize": [{"model": "alpha", "tokens": [1, 2, 3]}],
    "/apply-template": [{"model": "alpha", "messages": SHORT}],
    "/upstream/alpha/v1/chat/completions": [{"model": "alpha", "messages": SHORT, "max_tokens": 2}],
    "/models/load": [{"model": "alpha"}],
    "/models/unload": [{"model": "nobody"}],
}
ANTHROPIC: dict[str, list[dict[str, Any]]] = {
    "/v1/messages": [
        {
            "model": "alpha", "max_tokens": 2, "stream": stream,
            "system": [{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
                    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                    {"type": "search_result", "content": [{"type": "text", "text": "found"}]},
                ]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "ok"},
                    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]},
                ]},
            ],
            "tools": [{"name": "weather", "description": "Tells.", "input_schema": SCHEMA}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
            "stop_sequences": ["x"], "metadata": {"user_id": "u_session_1"}, "temperature": 1, "top_k": 3,
        }
        for stream in (False, True)
    ],
    "/v1/messages/count_tokens": [
        {"model": "alpha", "messages": [{"role": "user", "content": "hi"}], "system": "Be short."}
    ],
}  # fmt: skip
_OLLAMA_CALL = {"function": {"name": "weather", "arguments": {"city": "Bonn"}}}
OLLAMA: dict[str, list[dict[str, Any]]] = {
    "/api/chat": [
        {
            "model": "alpha:latest", "stream": stream, "think": True, "format": SCHEMA, "keep_alive": "5m",
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [_OLLAMA_CALL]},
                {"role": "tool", "tool_name": "weather", "content": "rain"},
            ],
            "tools": [{"type": "function", "function": FUNCTION}],
            "options": {"num_predict": 2, "temperature": 0.1, "stop": ["x"], "num_ctx": 512},
        }
        for stream in (False, True)
    ],
    "/api/generate": [
        {"model": "alpha", "prompt": "hi", "system": "x", "stream": False, "options": {"num_predict": 2}},
        {"model": "alpha", "prompt": "hi", "raw": True, "options": {"num_predict": 2}, "format": "json"},
        {"model": "alpha", "keep_alive": 5},
    ],
    "/api/embed": [{"model": "vectors", "input": ["a", "b"], "truncate": True, "dimensions": 2}],
    "/api/embeddings": [{"model": "vectors", "prompt": "a"}],
    "/api/show": [{"model": "alpha", "verbose": False}],
    "/api/pull": [{"model": "alpha"}],
}  # fmt: skip
POSTS = {"openai": OPENAI | NATIVE, "anthropic": ANTHROPIC, "ollama": OLLAMA}
"""Bodies by path, by the API in whose words errors are told."""

GETS = (
    "/health", "/metrics", "/v1/models", "/v1/models/alpha", "/models", "/props", "/props?model=alpha",
    "/slots?model=alpha", "/lora-adapters?model=alpha", "/upstream/alpha/health", "/v1/responses/resp_x", "/api/tags",
    "/api/ps", "/api/version", "/api/v1/state", "/api/v1/switches?model=alpha&limit=5", "/api/v1/models/alpha/log",
    "/openapi.json", "/docs", "/", "/api/v1/switches?limit=1000", "/api/v1/plan", "/api/v1/queue", "/api/v1/requests?limit=3",
    "/api/v1/requests/req-x", "/api/v1/requests/req-x/why", "/api/v1/models/alpha/why", "/api/v1/config", "/api/v1/keys",
)  # fmt: skip
ORDERS = ("/api/v1/models/alpha/load", "/api/v1/models/alpha/unload", "/api/v1/models/nobody/load",
          "/api/v1/reload", "/api/v1/requests/req-x/cancel", "/api/v1/models/alpha/pin", "/api/v1/models/alpha/unpin")  # fmt: skip
