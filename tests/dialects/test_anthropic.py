"""Anthropic's requests as OpenAI chats, and answers as its messages and events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects.anthropic import CHAT, COUNT, MESSAGES, Anthropic, Count, Message
from roundhouse.dialects.sse import DONE
from roundhouse.errors import BadRequest

DIALECT = Anthropic(lambda name: name == "loaded")
HI = [{"role": "user", "content": "hi"}]
USAGE = {
    "prompt_tokens": 10, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4}, "total_s": 3.5,
    "response_token/s": 40.0,
}  # fmt: skip
COUNTED = {
    "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 20, "total_s": 3.5,
    "response_token/s": 40.0,
}  # fmt: skip


def made(path: str = MESSAGES, **fields: object) -> Message | Count:
    return DIALECT.translate(path, {}, json.dumps({"model": "m", "max_tokens": 9, "messages": HI, **fields}).encode())


def asked(**fields: object) -> dict:
    return json.loads(made(**fields).body)


def said(*content: dict, role: str = "user") -> list[dict]:
    return asked(messages=[{"role": role, "content": list(content)}])["messages"]


def event(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    return event(id="chatcmpl-7", choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


def events(*stream: bytes, step: int = 11) -> list[dict]:
    """What a client reads, however the stream is cut; each event's name is its type."""
    answer, whole = made(), b"".join(stream)
    out = b"".join(answer.feed(whole[at : at + step]) for at in range(0, len(whole), step)) + answer.end()
    found = []
    for block in out.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        found.append(told)
    return found


# --- requests ---


def test_a_message():
    assert asked(temperature=0.5, stream=True, metadata={"user_id": "u"}, stop_sequences=["x"], top_k=3) == {
        "model": "m", "max_tokens": 9, "messages": HI, "temperature": 0.5, "stream": True, "metadata": {"user_id": "u"},
        "stop": ["x"], "top_k": 3,
    }  # fmt: skip
    assert made().path == CHAT


@pytest.mark.parametrize("system", ["Be short.", [{"type": "text", "text": "Be short.", "cache_control": {}}]])
def test_the_system_text_is_the_first_message(system):
    assert asked(system=system)["messages"][0] == {"role": "system", "content": "Be short."}


def test_texts_and_images():
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "abc"}}
    url = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    assert said({"type": "text", "text": "a"}) == [{"role": "user", "content": "a"}]
    (message,) = said({"type": "text", "text": "a"}, png, url)
    assert message["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,abc"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    ]


def test_documents_of_text():
    plain = {"type": "document", "source": {"type": "text", "data": "a"}}
    parts = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "b"}]}}
    (message,) = said(plain, parts)
    assert [part["text"] for part in message["content"]] == ["a", "b"]


def test_tool_calls_and_results():
    use = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert said(thought, use, role="assistant") == [
        {
            "role": "assistant", "content": None, "reasoning_content": "hm",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
        }
    ]  # fmt: skip
    picture = {"type": "image", "source": {"type": "url", "url": "u"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "2"}, picture]}
    assert said(result, {"type": "text", "text": "go on"}) == [
        {"role": "tool", "tool_call_id": "t1", "content": "2"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "go on"}],
        },
    ]
    assert said({"type": "tool_result", "tool_use_id": "t1", "content": "2"}) == [
        {"role": "tool", "tool_call_id": "t1", "content": "2"}
    ]


def test_tools_and_choices():
    tool = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {}}}
    found = asked(tools=[tool], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert found["tools"] == [
        {"type": "function", "function": {"name": "add", "parameters": tool["input_schema"], "description": "Adds."}}
    ]
    assert (found["tool_choice"], found["parallel_tool_calls"]) == ("required", False)
    choice = asked(tools=[tool], tool_choice={"type": "tool", "name": "add"})["tool_choice"]
    assert choice == {"type": "function", "function": {"name": "add"}}


def test_thinking_effort_and_shape():
    assert asked(thinking={"type": "enabled", "budget_tokens": 99})["chat_template_kwargs"] == {"enable_thinking": True}
    assert asked(thinking={"type": "disabled"})["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in asked(thinking={"type": "adaptive"})
    assert asked(output_config={"effort": "low"})["reasoning_effort"] == "low"
    shape = {"type": "json_schema", "schema": {"type": "object"}}
    for fields in ({"output_format": shape}, {"output_config": {"format": shape}}):
        assert asked(**fields)["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": None}, "model: Field required"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages: a list"),
        ({"messages": ["hi"]}, "role of user or assistant"),
        ({"messages": [{"role": "user", "content": 7}]}, "content blocks"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "content blocks"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video' is not supported"),
        ({"tools": {}}, None),
        ({"tools": ["x"]}, "a list of tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "run by Anthropic's servers"),
        ({"system": 7}, "system: a text"),
    ],
)
def test_bad_requests_are_told_in_words(fields, words):
    if words is None:
        made(**fields)
        return
    with pytest.raises(BadRequest, match=words):
        made(**fields)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TYPES = st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "document", "x"])
BLOCK = st.fixed_dictionaries(
    {"type": TYPES},
    optional=dict.fromkeys(("text", "source", "content", "id", "input", "name", "thinking", "tool_use_id"), JSONISH),
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.lists(BLOCK, max_size=3) | JSONISH}
)
FIELDS = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, max_size=3)},
    optional=dict.fromkeys(
        ("system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "stream"), JSONISH
    ),
)


@given(FIELDS, st.sampled_from([MESSAGES, COUNT]))
def test_whatever_is_sent_becomes_a_request_or_is_refused(fields, path):
    try:
        answer = made(path, **fields)
    except BadRequest:
        return
    assert json.loads(answer.body)["model"] == "m"


# --- counting ---


def test_an_engine_that_is_loaded_counts_itself():
    answer = made(COUNT, model="loaded")
    assert answer.path == COUNT
    assert json.loads(answer.body)["messages"] == HI
    assert answer.whole(b'{"input_tokens":3}') == b'{"input_tokens":3}'


def test_else_tokens_are_estimated_and_nobody_is_loaded_for_it():
    image = {"role": "user", "content": [{"type": "image", "source": {"data": "x" * 9999}}]}
    answer = made(COUNT, messages=[{"role": "user", "content": "x" * 700}, image], system="y" * 350)
    assert answer.path is None
    tokens = json.loads(answer.whole(b""))["input_tokens"]
    assert 1900 <= tokens < 1950


# --- answers ---


def test_a_stream_has_its_events_in_order():
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE)
    found = events(delta(role="assistant"), delta(content="Hel"), delta(content="lo"), end, DONE)
    assert [one["type"] for one in found] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    message = found[0]["message"]
    assert (message["id"], message["model"], message["role"]) == ("msg_7", "m", "assistant")
    assert "".join(one["delta"]["text"] for one in found[2:4]) == "Hello"
    assert found[5]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert found[5]["usage"] == COUNTED


def test_status_while_loading_is_a_ping():
    status = event(id="chatcmpl-7", choices=[{"index": 0, "delta": {}}], event={"type": "status"})
    found = events(b": keep-alive\n\n", status, b": keep-alive\n\n", status, delta(content="a"), DONE)
    assert [one["type"] for one in found][:5] == ["message_start", "ping", "ping", "ping", "content_block_start"]


def test_thinking_text_and_calls_are_blocks_of_their_own():
    one = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    two = {"index": 1, "id": "c2", "function": {"name": "sub", "arguments": "{}"}}
    found = events(
        delta(reasoning_content="hm"), delta(content="Hi"), delta(tool_calls=[one]), delta(tool_calls=[more]),
        delta(tool_calls=[two]), delta("tool_calls"), DONE,
    )  # fmt: skip
    blocks = [(o["index"], o["content_block"]["type"]) for o in found if o["type"] == "content_block_start"]
    assert blocks == [(0, "thinking"), (1, "text"), (2, "tool_use"), (3, "tool_use")]
    assert [o["index"] for o in found if o["type"] == "content_block_stop"] == [0, 1, 2, 3]
    deltas = [(o["index"], o["delta"]) for o in found if o["type"] == "content_block_delta"]
    assert deltas[2] == (2, {"type": "input_json_delta", "partial_json": '{"a": 1}'})
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_tokens"), ("content_filter", "refusal"), ("odd", "end_turn")]
)
def test_why_an_answer_ended(finish, reason):
    assert events(delta(content="a"), delta(finish), DONE)[-2]["delta"]["stop_reason"] == reason


def test_an_error_in_a_stream_is_its_last_event():
    found = events(delta(content="a"), event(error={"message": "the engine died"}), DONE)
    assert found[-1] == {"type": "error", "error": {"type": "api_error", "message": "the engine died"}}
    assert "message_stop" not in [one["type"] for one in found]


def test_an_answer_without_a_word_is_still_a_message():
    assert [one["type"] for one in events(DONE)] == ["message_start", "message_delta", "message_stop"]


def test_an_answer_in_one_piece():
    call = {"id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    odd = {"id": "c2", "function": {"name": "g", "arguments": "no json"}}
    message = {"content": "Hello", "reasoning_content": "hm", "tool_calls": [call, odd]}
    body = {"id": "chatcmpl-7", "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": USAGE}
    found = json.loads(made().whole(json.dumps(body).encode()))
    assert found["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "g", "input": {"arguments": "no json"}},
    ]
    assert (found["stop_reason"], found["usage"], found["id"]) == ("tool_use", COUNTED, "msg_7")


@pytest.mark.parametrize(("status", "kind"), [(404, "not_found_error"), (503, "overloaded_error"), (418, "api_error")])
def test_a4_errors_have_anthropics_shape(status, kind):
    found = json.loads(DIALECT.error(status, {"message": "no", "code": "x"}))
    assert found == {"type": "error", "error": {"type": kind, "message": "no"}}
