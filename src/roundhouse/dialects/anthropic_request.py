"""Requests of Anthropic's Messages API as chats (see `anthropic`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from roundhouse.dialects.body import written
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SAME: Final = ("temperature", "top_p", "top_k", "metadata", "stream")
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


def chat_of(fields: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The chat request. Raises BadRequest."""
    limit, messages = fields.get("max_tokens"), fields.get("messages")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise BadRequest("max_tokens: a number of at least 1 is required", param="max_tokens")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: a list of at least one message is required", param="messages")
    request = {"model": model, "max_tokens": limit, **{key: fields[key] for key in _SAME if key in fields}}
    request["messages"] = [*_system(fields.get("system")), *(said for m in messages for said in _messages(m))]
    if fields.get("stop_sequences"):
        request["stop"] = fields["stop_sequences"]
    return request | _tools(fields) | _thinking(fields) | _shape(fields)


def _system(system: object) -> Iterator[dict[str, Any]]:
    text = "\n".join(_texts(system, "system"))
    if text:
        yield {"role": "system", "content": text}


def _texts(content: object, where: str) -> Iterator[str]:
    """The texts of a string or of text blocks."""
    if isinstance(content, str):
        yield content
        return
    for block in _blocks(content, where):
        if isinstance(text := block.get("text"), str):
            yield text


def _blocks(content: object, where: str) -> Iterator[Mapping[str, Any]]:
    if content is None:
        return
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise BadRequest(f"{where}: a text or a list of content blocks is required", param=where)
    yield from content


def _messages(message: object) -> Iterator[dict[str, Any]]:
    """One message of Anthropic's as OpenAI's: results of tools are messages of their own there, and come first."""
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
        raise BadRequest("messages: each needs a role of user or assistant", param="messages")
    content = message.get("content")
    if isinstance(content, str):
        yield {"role": message["role"], "content": content}
        return
    blocks = list(_blocks(content, "messages"))
    if message["role"] == "assistant":
        yield _assistant(blocks)
        return
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if block.get("type") == "tool_result":
            result = list(_parts(block.get("content"), "messages"))
            text = "\n".join(part["text"] for part in result if part["type"] == "text")
            yield {"role": "tool", "tool_call_id": str(block.get("tool_use_id", "")), "content": text}
            parts += [part for part in result if part["type"] != "text"]  # a tool's pictures: a tool can only say texts
        else:
            parts += _part(block)
    if parts:
        plain = all(part["type"] == "text" for part in parts) and len(parts) == 1
        yield {"role": message["role"], "content": parts[0]["text"] if plain else parts}


def _assistant(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    texts = [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
    thoughts = [str(block.get("thinking", "")) for block in blocks if block.get("type") == "thinking"]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    told: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None if calls else "".join(texts)}
    if calls:
        told["tool_calls"] = calls
    if any(thoughts):
        told["reasoning_content"] = "".join(thoughts)
    return told


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": str(block.get("name", "")), "arguments": written(block.get("input") or {}, "messages").decode()}
    return {"id": str(block.get("id", "")), "type": "function", "function": function}


def _parts(content: object, where: str) -> Iterator[dict[str, Any]]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    for block in _blocks(content, where):
        yield from _part(block)


def _part(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A content block as a part of an OpenAI message."""
    source = block.get("source")
    match block.get("type"), source:
        case "text", _:
            yield {"type": "text", "text": str(block.get("text", ""))}
        case "image", {"type": "base64", "media_type": str(kind), "data": str(data)}:
            yield {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case "image", {"type": "url", "url": str(url)}:
            yield {"type": "image_url", "image_url": {"url": url}}
        case "document", {"type": "text", "data": str(text)}:
            yield {"type": "text", "text": text}
        case "document", {"type": "content", "content": inner}:
            yield from _parts(inner, "messages")
        case "search_result" | "tool_reference", _:
            yield {"type": "text", "text": "\n".join(_texts(block.get("content"), "messages"))}
        case (("thinking" | "redacted_thinking"), _):
            return
        case kind, _:
            raise BadRequest(f"messages: content of type {kind!r} is not supported by local models", param="messages")


def _tools(fields: Mapping[str, Any]) -> dict[str, Any]:
    tools = fields.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest("tools: a list of tools is required", param="tools")
    told: dict[str, Any] = {"tools": [_tool(tool) for tool in tools]} if tools else {}
    choice = fields.get("tool_choice")
    if not isinstance(choice, dict):
        return told
    name = choice.get("type")
    if name == "tool":
        told["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(name, str) and name in _CHOICES:
        told["tool_choice"] = _CHOICES[name]
    if choice.get("disable_parallel_tool_use"):
        told["parallel_tool_calls"] = False
    return told


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type", "custom") != "custom":
        raise BadRequest(f"tools: {tool['type']!r} is run by Anthropic's servers, which are not asked", param="tools")
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _thinking(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A budget has no counterpart; that it thinks at all is the template's business where nothing is said."""
    wanted, output = fields.get("thinking"), fields.get("output_config")
    told: dict[str, Any] = {}
    if isinstance(wanted, dict) and wanted.get("type") in ("enabled", "disabled"):
        told["chat_template_kwargs"] = {"enable_thinking": wanted["type"] == "enabled"}
    if isinstance(output, dict) and isinstance(output.get("effort"), str):
        told["reasoning_effort"] = output["effort"]
    return told


def _shape(fields: Mapping[str, Any]) -> dict[str, Any]:
    output = fields.get("output_config")
    wanted = fields.get("output_format") or (output.get("format") if isinstance(output, dict) else None)
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        schema = {"name": "output", "schema": wanted.get("schema"), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {}
