"""Requests of OpenAI's Responses API as chats (see `responses`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from roundhouse.dialects.body import written
from roundhouse.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAME: Final = (
    "temperature",
    "top_p",
    "stream",
    "metadata",
    "user",
    "parallel_tool_calls",
    "prompt_cache_key",
    "top_logprobs",
)
_HOSTED: Final = ("web_search", "image_generation")
"""Beginnings of tools that OpenAI's servers run, and that agents offer without relying on them: they are left out."""

Messages = list[dict[str, Any]]


def chat_of(fields: Mapping[str, Any], model: str, said: Messages) -> dict[str, Any]:
    """The chat request for a whole conversation."""
    request: dict[str, Any] = {"model": model} | {k: fields[k] for k in _SAME if fields.get(k) is not None}
    instructions = fields.get("instructions")
    request["messages"] = [*([{"role": "system", "content": instructions}] if instructions else []), *said]
    if fields.get("max_output_tokens") is not None:
        request["max_tokens"] = fields["max_output_tokens"]
    reasoning = fields.get("reasoning")
    if isinstance(reasoning, dict) and reasoning.get("effort"):
        request["reasoning_effort"] = reasoning["effort"]
    return request | _tools(fields) | _shape(fields)


def messages_of(given: object) -> Messages:
    """Input items as messages: what one assistant said, called and thought in a row is one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise BadRequest("input: a text or a list of items is required", param="input")
    said: Messages = []
    for item in given:
        if not isinstance(item, dict):
            raise BadRequest("input: each item must be an object", param="input")
        add_item(said, item)
    return said


def add_item(said: Messages, item: Mapping[str, Any]) -> None:
    """Takes one item in. Raises BadRequest."""
    match item.get("type", "message"):
        case "message":
            role = "system" if item.get("role") == "developer" else item.get("role")
            if role not in ("user", "assistant", "system"):
                raise BadRequest("input: a message needs a role of user, assistant, system or developer", param="input")
            content = _content(item.get("content"))
            if role == "assistant":
                _assistant(said)["content"] = content
            else:
                said.append({"role": role, "content": content})
        case "function_call" | "custom_tool_call" as kind:
            arguments = (
                item.get("arguments")
                if kind == "function_call"
                else written({"input": item.get("input", "")}, "input").decode()
            )
            function = {
                "name": _flat_name(item.get("namespace"), str(item.get("name", ""))),
                "arguments": arguments if isinstance(arguments, str) else "{}",
            }
            call = {"id": str(item.get("call_id", "")), "type": "function", "function": function}
            _assistant(said).setdefault("tool_calls", []).append(call)
        case "function_call_output" | "custom_tool_call_output":
            output = item.get("output")
            text = output if isinstance(output, str) else _flat(output)
            said.append({"role": "tool", "tool_call_id": str(item.get("call_id", "")), "content": text})
        case "reasoning":
            if thought := _flat(item.get("content")) or _flat(item.get("summary")):
                _assistant(said)["reasoning_content"] = thought
        case kind:
            raise BadRequest(f"input: items of type {kind!r} are not supported by local models", param="input")


def _assistant(said: Messages) -> dict[str, Any]:
    if not said or said[-1]["role"] != "assistant":
        said.append({"role": "assistant", "content": None})
    return said[-1]


def _content(content: object) -> object:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRequest("input: content must be a text or a list of parts", param="input")
    parts = [_content_part(part) for part in content]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _content_part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": str(part.get("text", ""))}
        case "refusal":
            return {"type": "text", "text": str(part.get("refusal", ""))}
        case "input_image" if isinstance(part.get("image_url"), str):
            return {"type": "image_url", "image_url": {"url": part["image_url"]}}
        case "input_audio" if isinstance(part.get("input_audio"), dict):
            return {"type": "input_audio", "input_audio": part["input_audio"]}
        case kind:
            raise BadRequest(f"input: content of type {kind!r} is not supported by local models", param="input")


def _flat(parts: object) -> str:
    """The texts of a list of parts."""
    found = parts if isinstance(parts, list) else []
    return "\n".join(str(part["text"]) for part in found if isinstance(part, dict) and part.get("text"))


def custom_tools(fields: Mapping[str, Any]) -> frozenset[str]:
    """Names of the tools that take a text of any form."""
    tools = fields.get("tools") if isinstance(fields.get("tools"), list) else []
    return frozenset(str(t.get("name")) for t in tools or () if isinstance(t, dict) and t.get("type") == "custom")


def grouped_tools(fields: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Group and name of the tools that stand in a group, by the name that the engine knows them under.

    Codex sends its agents' tools so: `{"type": "namespace", "name", "tools"}`; a call names both.
    """
    return {
        _flat_name(group.get("name"), str(tool.get("name"))): (str(group.get("name")), str(tool.get("name")))
        for group in fields.get("tools") or ()
        if group.get("type") == "namespace"
        for tool in _members(group)
    }


def _flat_name(group: object, name: str) -> str:
    return f"{group}__{name}" if group else name


def _members(group: Mapping[str, Any]) -> Messages:
    tools = group.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest("tools: a namespace needs a list of tools", param="tools")
    return [tool for tool in tools if not str(tool.get("type")).startswith(_HOSTED)]


def _tools(fields: Mapping[str, Any]) -> dict[str, Any]:
    tools = fields.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest("tools: a list of tools is required", param="tools")
    found = []
    for tool in _members({"tools": tools}):
        if tool.get("type") == "namespace":
            found += [
                _tool({**one, "name": _flat_name(tool.get("name"), str(one.get("name")))}) for one in _members(tool)
            ]
        else:
            found.append(_tool(tool))
    told: dict[str, Any] = {"tools": found} if found else {}
    choice = fields.get("tool_choice")
    if isinstance(choice, str) and found:
        told["tool_choice"] = choice
    elif isinstance(choice, dict) and choice.get("name"):
        told["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    return told


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") == "custom":  # a text of any form, which a function's one argument can be
        schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
        function = {"name": tool.get("name"), "description": tool.get("description", ""), "parameters": schema}
        return {"type": "function", "function": function}
    if tool.get("type") != "function":
        raise BadRequest(f"tools: {tool.get('type')!r} is run by OpenAI's servers, which are not asked", param="tools")
    keys = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool[key] for key in keys if tool.get(key) is not None}}


def _shape(fields: Mapping[str, Any]) -> dict[str, Any]:
    text = fields.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return {}
    if wanted["type"] == "json_schema":
        schema = {
            key: wanted[key] for key in ("name", "schema", "strict", "description") if wanted.get(key) is not None
        }
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {"response_format": {"type": "json_object"}}
