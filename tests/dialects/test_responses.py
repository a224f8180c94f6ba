"""Requests of the Responses API as chats, and answers as its items and events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects.responses import Response, previous
from roundhouse.dialects.sse import DONE
from roundhouse.errors import BadRequest

USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4}, "total_s": 3.5}
COUNTED = {
    "input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 30, "total_s": 3.5,
}  # fmt: skip
FUNCTION = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}, "strict": True}
CUSTOM = {"type": "custom", "name": "patch", "description": "Patches.", "format": {"type": "grammar"}}


def made(earlier: list | None = None, **fields: object) -> Response:
    return Response(json.dumps({"model": "m", "input": "hi", **fields}).encode(), "7", 1000.5, earlier)


def asked(earlier: list | None = None, **fields: object) -> dict:
    return json.loads(made(earlier, **fields).body)


def event(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


def read(answer: Response, *stream: bytes, step: int = 11) -> tuple[list[dict], list[str]]:
    """Events and comments that a client reads, however the stream is cut."""
    whole = b"".join(stream)
    out = b"".join(answer.feed(whole[at : at + step]) for at in range(0, len(whole), step)) + answer.end()
    events, comments = [], []
    for block in out.decode().split("\n\n")[:-1]:
        if block.startswith(":"):
            comments.append(block[1:].strip())
            continue
        name, data = block.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        events.append(told)
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    return events, comments


def kinds(events: list[dict]) -> list[str]:
    return [one["type"].removeprefix("response.") for one in events]


# --- requests ---


def test_a_text_and_instructions():
    found = asked(instructions="Be short.", max_output_tokens=9, temperature=0, stream=True, metadata={"a": "b"})
    assert found == {
        "model": "m", "temperature": 0, "stream": True, "metadata": {"a": "b"}, "max_tokens": 9,
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}],
    }  # fmt: skip


def test_items_become_messages_and_what_one_assistant_did_is_one_of_them():
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well"}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** x"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "ok"}]},
    ]
    system, user, assistant, one, two = asked(input=items)["messages"]
    assert system == {"role": "system", "content": "Be kind."}
    assert user == {"role": "user", "content": "hi"}
    assert (assistant["content"], assistant["reasoning_content"]) == ("Well", "hm")
    assert [(c["id"], c["function"]["arguments"]) for c in assistant["tool_calls"]] == [
        ("c1", '{"a":1}'), ("c2", '{"input":"*** x"}'),
    ]  # fmt: skip
    assert (one["tool_call_id"], one["content"], two["tool_call_id"], two["content"]) == ("c1", "2", "c2", "ok")


def test_images():
    parts = [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": "data:x"}]
    (message,) = asked(input=[{"role": "user", "content": parts}])["messages"]
    assert message["content"][1] == {"type": "image_url", "image_url": {"url": "data:x"}}


def test_tools():
    web = {"type": "web_search"}
    found = asked(
        tools=[FUNCTION, CUSTOM, web], tool_choice={"type": "function", "name": "add"}, parallel_tool_calls=False
    )
    one, two = (tool["function"] for tool in found["tools"])
    assert one == {key: FUNCTION[key] for key in ("name", "description", "parameters", "strict")}
    assert two["parameters"]["required"] == ["input"]
    assert found["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert found["parallel_tool_calls"] is False
    assert "tools" not in asked(tools=[web], tool_choice="auto")


def test_tools_in_a_namespace_are_offered_by_both_names_and_called_by_each():
    """Codex's agents and MCP servers."""
    group = {"type": "namespace", "name": "agents", "tools": [FUNCTION, {"type": "web_search"}]}
    called = {"type": "function_call", "namespace": "agents", "name": "add", "call_id": "c", "arguments": "{}"}
    found = made(tools=[group], input=[{"role": "user", "content": "hi"}, called])
    told = json.loads(found.body)
    assert [tool["function"]["name"] for tool in told["tools"]] == ["agents__add"]
    assert told["messages"][1]["tool_calls"][0]["function"]["name"] == "agents__add"
    call = {"id": "c", "function": {"name": "agents__add", "arguments": "{}"}}
    answer = json.loads(found.whole(json.dumps({"choices": [{"message": {"tool_calls": [call]}}]}).encode()))
    assert {key: answer["output"][0][key] for key in called} == called


def test_shape_and_effort():
    wanted = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    found = asked(text={"format": wanted}, reasoning={"effort": "low"})
    assert found["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
    }  # fmt: skip
    assert found["reasoning_effort"] == "low"
    assert asked(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in asked(text={"format": {"type": "text"}})


def test_a_conversation_goes_on_from_what_was_said_before():
    earlier = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    found = made(earlier, instructions="New ones.")
    assert [m["content"] for m in json.loads(found.body)["messages"]] == ["New ones.", "one", "two", "hi"]
    assert [m["content"] for m in found.said] == ["one", "two", "hi"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": None}, "names no model"),
        ({"input": None}, "a text or a list of items"),
        ({"input": ["hi"]}, "each item must be an object"),
        ({"input": [{"role": "robot", "content": "x"}]}, "a role of user"),
        ({"input": [{"role": "user", "content": 7}]}, "a text or a list of parts"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "'input_file' is not supported"),
        ({"input": [{"type": "computer_call"}]}, "'computer_call' are not supported"),
        ({"tools": [{"type": "file_search"}]}, "run by OpenAI's servers"),
        ({"tools": ["x"]}, "a list of tools"),
        ({"tools": [{"type": "namespace", "tools": ["x"]}]}, "a list of tools"),
        ({"tools": [{"type": "namespace", "tools": {"a": 1}}]}, "a list of tools"),
        ({"tools": [{"type": "namespace", "tools": [{"type": "namespace"}]}]}, "run by OpenAI"),
        ({"background": True}, "background"),
    ],
)
def test_bad_requests_are_told_in_words(fields, words):
    with pytest.raises(BadRequest, match=words):
        made(**fields)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TYPES = ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "x"]
ITEM = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional={
        "role": st.sampled_from(["user", "assistant"]),
        **dict.fromkeys(("content", "summary", "arguments", "output", "input", "name", "call_id"), JSONISH),
    },
)
KEYS = ("tools", "tool_choice", "text", "reasoning", "instructions", "store", "stream", "max_output_tokens", "user")


@given(st.lists(ITEM, max_size=4) | JSONISH, st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSONISH)))
def test_whatever_is_sent_becomes_a_request_or_is_refused(given_input, fields):
    try:
        answer = made(input=given_input, **fields)
    except BadRequest:
        return
    assert json.loads(answer.body)["model"] == "m"


@pytest.mark.parametrize(("raw", "found"), [(b'{"previous_response_id":"resp_1"}', "resp_1"), (b"{}", None), (b"[", None), (b"[]", None), (b'{"previous_response_id":7}', None)])  # fmt: skip
def test_which_response_a_request_goes_on_from(raw, found):
    assert previous(raw) == found


# --- answers ---


def test_a_stream_has_its_events_in_order():
    answer = made(stream=True)
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE)
    events, _ = read(answer, delta(role="assistant"), delta(content="Hel"), delta(content="lo"), end, DONE)
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    told = events[-1]["response"]
    assert (told["id"], told["status"], told["usage"], told["created_at"]) == ("resp_7", "completed", COUNTED, 1000)
    assert told["output"][0]["content"][0]["text"] == "Hello"
    assert answer.answer == {"role": "assistant", "content": "Hello"}
    assert answer.told == told


def test_status_while_loading_is_a_comment():
    status = event(choices=[{"index": 0, "delta": {}}], event={"type": "status", "data": {"description": "⏳ Loading"}})
    events, comments = read(made(), status, b": keep-alive\n\n", delta(content="a"), DONE)
    assert kinds(events)[:3] == ["created", "in_progress", "output_item.added"]
    assert comments == ["⏳ Loading", "keep-alive"]


def test_thoughts_texts_and_calls_are_items_of_their_own():
    one = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    two = {"index": 1, "id": "c2", "function": {"name": "patch", "arguments": '{"input": "*** x"}'}}
    answer = made(tools=[FUNCTION, CUSTOM])
    events, _ = read(
        answer, delta(reasoning_content="hm"), delta(content="Hi"), delta(tool_calls=[one]), delta(tool_calls=[more]),
        delta(tool_calls=[two]), delta("tool_calls"), DONE,
    )  # fmt: skip
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert (output[0]["content"][0]["text"], output[2]["arguments"], output[3]["input"]) == ("hm", '{"a": 1}', "*** x")
    assert [item["status"] for item in output] == ["completed"] * 4
    assert len({item["id"] for item in output}) == 4
    added = [one["output_index"] for one in events if one["type"] == "response.output_item.added"]
    assert added == [0, 1, 2, 3]
    assert "custom_tool_call_input.done" in kinds(events)
    assert answer.answer["tool_calls"][1]["function"] == {"name": "patch", "arguments": '{"input":"*** x"}'}


def test_an_answer_cut_by_its_limit_is_incomplete():
    events, _ = read(made(), delta(content="a"), delta("length"), DONE)
    told = events[-1]
    assert told["type"] == "response.incomplete"
    assert told["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_an_error_in_a_stream_is_its_last_event_and_nothing_is_remembered():
    answer = made()
    events, _ = read(answer, delta(content="a"), event(error={"message": "the engine died", "code": "x"}), DONE)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "x", "message": "the engine died"}
    assert answer.told is None


def test_an_answer_in_one_piece():
    calls = [
        {"id": "c1", "function": {"name": "add", "arguments": "{}"}},
        {"id": "c2", "function": {"name": "patch", "arguments": "odd"}},
    ]
    message = {"content": "Hello", "reasoning_content": "hm", "tool_calls": calls}
    answer = made(tools=[FUNCTION, CUSTOM])
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": USAGE}
    told = json.loads(answer.whole(json.dumps(body).encode()))
    assert [item["type"] for item in told["output"]] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert told["output"][3]["input"] == "odd"
    assert (told["status"], told["usage"], told["model"]) == ("completed", COUNTED, "m")


def test_an_empty_answer_is_a_response():
    events, _ = read(made(), DONE)
    assert kinds(events) == ["created", "in_progress", "completed"]
