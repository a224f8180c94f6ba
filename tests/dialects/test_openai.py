import json
from typing import Any

import pytest

from roundhouse.dialects import openai
from roundhouse.dialects.openai import Operation
from roundhouse.errors import BadRequest

DIRTY = "✓ Model ready! (2s)\n\nHi\n\n[Performance: 1.0 tok/s | 1 tokens in 1.00s]"


def _peek(operation=Operation.CHAT, **fields: Any):
    return openai.peek(json.dumps({"model": "m", **fields}).encode(), operation)


def _prepare(request, **options: Any):
    return json.loads(openai.prepare(request, **{"served_name": "m", **options}))


def test_peek():
    request = _peek(stream=True, stream_options={"include_usage": True}, messages=[{"role": "user", "content": "hi"}])
    assert (request.model, request.stream, request.include_usage, request.choices) == ("m", True, True, 1)
    assert request.messages == [{"role": "user", "content": "hi"}]
    assert request.plain_text
    assert not request.task


@pytest.mark.parametrize("fields", [{}, {"stream": False}, {"stream": None}, {"messages": "x"}, {"stream_options": 3}])
def test_peek_takes_the_rest_as_absent(fields):
    request = _peek(**fields)
    assert (request.stream, request.include_usage, list(request.messages)) == (False, False, [])


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"{}", "model"),
        (b'{"model":""}', "model"),
        (b'{"model":3}', "model"),
        (b'{"model":"m","stream":"yes"}', "stream"),
    ],
)
def test_a4_missing_or_bad_fields_are_a_400_that_names_them(raw, param):
    with pytest.raises(BadRequest) as caught:
        openai.peek(raw)
    assert caught.value.param == param


def test_a2_the_model_may_come_from_elsewhere():
    assert openai.peek(b"{}", model="q").model == "q"
    assert openai.peek(b'{"model":"m"}', model="q").model == "m"


@pytest.mark.parametrize(
    ("fields", "choices"),
    [({"n": 3}, 3), ({"n": None}, 1), ({"n": 0}, 1), ({"prompt": ["a", "b"], "n": 2}, 4), ({"prompt": [1, 2]}, 1),
     ({"prompt": [[1], [2]]}, 2), ({"prompt": []}, 1), ({"prompt": "a"}, 1)],
)  # fmt: skip
def test_choices(fields, choices):
    assert _peek(Operation.COMPLETION, **fields).choices == choices


@pytest.mark.parametrize(
    "fields",
    [{"stream": False}, {"response_format": {"type": "json_object"}}, {"logprobs": True}, {"n": 2}, {"tool_choice": "required"},
     {"tool_choice": {"type": "function"}}, {"json_schema": {"a": 1}}, {"grammar": "root ::= x"}],
)  # fmt: skip
def test_b4_no_text_where_it_would_break_the_answer(fields):
    assert not _peek(**{"stream": True, **fields}).plain_text


def test_b4_open_webuis_tools_alone_do_not_forbid_text():
    assert _peek(stream=True, tools=[{"type": "function"}], response_format={"type": "text"}).plain_text
    assert not _peek(Operation.COMPLETION, stream=True).plain_text


@pytest.mark.parametrize("stream", [False, True])
def test_d7_a_chats_shape_names_the_task_that_it_is(stream):
    title = [{"role": "user", "content": "### Task:\nGenerate a concise title summarizing the chat history."}]
    assert _peek(messages=title, stream=stream).task == "title"
    assert not _peek(Operation.COMPLETION, messages=title, stream=stream).task


def test_a2_a_body_that_need_not_change_is_the_same_object():
    request = _peek(messages=[{"role": "assistant", "content": "hi"}])
    assert openai.prepare(request, served_name="m") is request.raw


def test_a5_the_engine_sees_the_name_it_serves():
    assert _prepare(_peek(), served_name='we"ird')["model"] == 'we"ird'
    assert json.loads(openai.prepare(openai.peek(b"{}", model="m"), served_name="m"))["model"] == "m"


def test_b6_the_engine_is_always_asked_for_usage():
    assert _prepare(_peek(stream=True))["stream_options"] == {"include_usage": True}
    asked = {"include_usage": False, "continuous_usage_stats": True, "x": 1}
    assert _prepare(_peek(stream=True, stream_options=asked))["stream_options"] == {"include_usage": True, "x": 1}
    request = _peek(stream=True, stream_options={"include_usage": True})
    assert openai.prepare(request, served_name="m") is request.raw
    assert "stream_options" not in _prepare(_peek(stream=False))


def test_a8_a_whole_answer_can_be_streamed_from_the_engine():
    prepared = _prepare(_peek(stream=False), stream_upstream=True)
    assert (prepared["stream"], prepared["stream_options"]) == (True, {"include_usage": True})


def test_a6_set_forces_defaults_fill_in_strip_removes():
    request = _peek(temperature=1, top_k=40, seed=5)
    prepared = _prepare(
        request,
        default_params={"temperature": 0.5, "min_p": 0.1},
        set_params={"seed": 1},
        strip_params=["top_k", "absent"],
    )
    assert prepared == {"model": "m", "temperature": 1, "seed": 1, "min_p": 0.1}


def test_a6_a_default_takes_the_place_of_what_is_stripped_whether_the_client_sent_it_or_not():
    for sent in ({"temperature": 1}, {}):
        found = _prepare(_peek(**sent), default_params={"temperature": 0.5}, strip_params=["temperature"])
        assert found == {"model": "m", "temperature": 0.5}


def test_a6_the_routers_own_needs_win():
    prepared = _prepare(_peek(stream=True), set_params={"model": "x", "stream_options": None}, strip_params=["stream"])
    assert prepared == {"model": "m", "stream": True, "stream_options": {"include_usage": True}}


def test_b4_our_lines_never_reach_the_engine():
    messages = [{"role": "user", "content": DIRTY}, {"role": "assistant", "content": DIRTY}]
    request = _peek(messages=messages, big=2**100)
    assert json.loads(request.raw.replace(b"\\u2713", "✓".encode()))["messages"] == messages
    prepared = _prepare(request)
    assert prepared["messages"] == [messages[0], {"role": "assistant", "content": "Hi"}]
    assert prepared["big"] == 2**100


def test_b4_messages_that_only_mention_our_lines_keep_their_bytes():
    request = _peek(messages=[{"role": "user", "content": DIRTY}])
    assert openai.prepare(request, served_name="m") is request.raw
