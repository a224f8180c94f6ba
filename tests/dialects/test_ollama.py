"""Ollama's requests as OpenAI's, and answers as its lines of JSON (issue: every client)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Want
from roundhouse.dialects.ollama import CHAT, EMBED, EMBEDDINGS, GENERATE, PATHS, Answer, Ollama
from roundhouse.dialects.sse import DONE
from roundhouse.errors import BadRequest

KNOWN = {"smol", "other:latest"}
DIALECT = Ollama(KNOWN.__contains__, lambda: 1_700_000_000.25)
WHEN = "2023-11-14T22:13:20.250000Z"
HI = [{"role": "user", "content": "hi"}]
USAGE = {
    "prompt_tokens": 7, "completion_tokens": 20, "total_s": 3.5, "load_s": 2.0, "queue_s": 0.5, "ttft_s": 0.25,
    "response_token/s": 40.0,
}  # fmt: skip
FIGURES = {
    "total_duration": 3_500_000_000, "load_duration": 2_500_000_000, "prompt_eval_count": 7,
    "prompt_eval_duration": 250_000_000, "eval_count": 20, "eval_duration": 500_000_000,
}  # fmt: skip


def made(path: str = CHAT, **fields: object) -> Answer:
    return DIALECT.translate(path, {}, json.dumps({"model": "smol", **fields}).encode())


def asked(path: str = CHAT, **fields: object) -> dict:
    return json.loads(made(path, **fields).body)


def event(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: object) -> bytes:
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


def lines(answer: Answer, *events: bytes, step: int = 7) -> list[dict]:
    """What a client reads, however the stream is cut."""
    stream = b"".join(events)
    out = b"".join(answer.feed(stream[at : at + step]) for at in range(0, len(stream), step)) + answer.end()
    return [json.loads(line) for line in out.splitlines()]


# --- requests ---


def test_a_chat():
    assert asked(messages=HI) == {"model": "smol", "stream": True, "messages": HI}
    assert asked(messages=HI, stream=False)["stream"] is False
    assert made(messages=HI).path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("name", "model"),
    [("smol", "smol"), ("smol:latest", "smol"), ("other:latest", "other:latest"), ("x:latest", "x:latest")],
)
def test_latest_is_no_part_of_a_name_that_is_known_without_it(name, model):
    assert (
        json.loads(DIALECT.translate(CHAT, {}, json.dumps({"model": name, "messages": HI}).encode()).body)["model"]
        == model
    )


def test_options_have_openais_names_and_the_context_is_ours_to_say():
    options = {
        "temperature": 0,
        "num_predict": 9,
        "stop": ["x"],
        "num_ctx": 99,
        "seed": 1,
        "repeat_penalty": 1.1,
        "num_gpu": 3,
    }
    found = asked(messages=HI, options=options)
    assert found == {
        "model": "smol", "stream": True, "messages": HI, "temperature": 0, "max_tokens": 9, "stop": ["x"], "seed": 1,
        "repeat_penalty": 1.1,
    }  # fmt: skip
    assert "max_tokens" not in asked(messages=HI, options={"num_predict": -1})


def test_formats():
    assert asked(messages=HI, format="json")["response_format"] == {"type": "json_object"}
    schema = {"type": "object", "properties": {}}
    assert asked(messages=HI, format=schema)["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in asked(messages=HI, format="")


def test_thinking():
    assert asked(messages=HI, think=False)["chat_template_kwargs"] == {"enable_thinking": False}
    assert asked(messages=HI, think="high")["reasoning_effort"] == "high"


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("/9j/4AAQ", "data:image/jpeg;base64,/9j/4AAQ"),
        ("iVBORw0K", "data:image/png;base64,iVBORw0K"),
        ("????", "data:image/png;base64,????"),
        ("https://x/y.png", "https://x/y.png"),
    ],
)
def test_images(image, url):
    (message,) = asked(messages=[{"role": "user", "content": "what?", "images": [image]}])["messages"]
    assert message["content"] == [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]


def test_tool_calls_and_their_results_get_ids():
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    other = {"function": {"name": "sub", "arguments": {}}}
    messages = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call, other]},
        {"role": "tool", "content": "0", "tool_name": "sub"},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "?"},
    ]
    tools = [{"type": "function", "function": {"name": "add"}}]
    found = asked(messages=messages, tools=tools)
    assert found["tools"] == tools
    _, calls, *results = found["messages"]
    assert [(c["id"], c["function"]) for c in calls["tool_calls"]] == [
        ("call_1", {"name": "add", "arguments": '{"a":1}'}),
        ("call_2", {"name": "sub", "arguments": "{}"}),
    ]
    assert [result["tool_call_id"] for result in results] == ["call_2", "call_1", "call_0"]


def test_generate():
    found = asked(GENERATE, prompt="why?", system="Be short.", images=["iVBORw0K"])
    assert [message["role"] for message in found["messages"]] == ["system", "user"]
    assert asked(GENERATE, prompt="why?")["messages"] == [{"role": "user", "content": "why?"}]
    raw = made(GENERATE, prompt="why?", raw=True)
    assert (raw.path, json.loads(raw.body)["prompt"]) == ("/v1/completions", "why?")


def test_embeddings():
    assert asked(EMBED, input=["a", "b"], dimensions=3) == {
        "model": "smol", "input": ["a", "b"], "encoding_format": "float", "dimensions": 3
    }  # fmt: skip
    assert asked(EMBEDDINGS, prompt="a")["input"] == "a"


@pytest.mark.parametrize(
    ("fields", "before", "after"),
    [
        ({"messages": []}, Want.LOAD, None),
        ({}, Want.LOAD, None),
        ({"messages": [], "keep_alive": 0}, Want.UNLOAD, None),
        ({"messages": [], "keep_alive": "5m"}, Want.LOAD, None),
        ({"messages": HI, "keep_alive": 0}, None, Want.UNLOAD),
        ({"messages": HI, "keep_alive": "0s"}, None, Want.UNLOAD),
        ({"messages": HI, "keep_alive": -1}, None, None),
        ({"messages": HI}, None, None),
    ],
)
def test_a_request_that_says_nothing_loads_and_keep_alive_zero_unloads(fields, before, after):
    assert (made(**fields).before, made(**fields).after) == (before, after)


def test_what_a_load_answers():
    assert json.loads(made(messages=[]).whole(b"")) == {
        "model": "smol", "created_at": WHEN, "message": {"role": "assistant", "content": ""}, "done": True,
        "done_reason": "load",
    }  # fmt: skip
    assert json.loads(made(GENERATE, prompt="", keep_alive=0).whole(b""))["done_reason"] == "unload"


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        (CHAT, {"model": 7}, "model is required"),
        (CHAT, {"messages": "hi"}, "messages must be a list"),
        (CHAT, {"messages": ["hi"]}, "each message must be an object"),
        (CHAT, {"messages": HI, "stream": "yes"}, "stream must be true or false"),
        (CHAT, {"messages": HI, "options": []}, None),
        (CHAT, {"messages": HI, "options": [1]}, "options must be an object"),
        (CHAT, {"messages": [{"role": "user", "images": [1]}]}, "images must be base64"),
        (GENERATE, {"prompt": ["a"]}, "prompt must be a string"),
        (GENERATE, {"prompt": "a", "suffix": "b"}, "suffix is not supported"),
    ],
)
def test_bad_requests_are_told_in_words(path, fields, words):
    if words is None:
        made(path, **fields)
        return
    with pytest.raises(BadRequest, match=words):
        made(path, **fields)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["messages", "prompt", "options", "stream", "tools", "format", "think", "keep_alive", "images", "input", "raw"]
)


@given(
    st.sampled_from(PATHS),
    st.dictionaries(
        KEYS,
        JSONISH
        | st.lists(
            st.fixed_dictionaries({"role": JSONISH, "content": JSONISH, "tool_calls": JSONISH, "images": JSONISH}),
            max_size=2,
        ),
    ),
)
def test_whatever_is_sent_becomes_a_request_or_is_refused(path, fields):
    try:
        answer = made(path, **fields)
    except BadRequest:
        return
    assert json.loads(answer.body)["model"] == "smol"


# --- answers ---


def test_a_stream_is_a_line_for_each_text_and_a_last_one_with_figures():
    answer = made(messages=HI)
    found = lines(
        answer, delta(role="assistant"), delta(content="Hel"), delta(content="lo"),
        event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE), DONE,
    )  # fmt: skip
    head = {"model": "smol", "created_at": WHEN}
    assert found == [
        {**head, "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {**head, "message": {"role": "assistant", "content": "lo"}, "done": False},
        {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **FIGURES},
    ]


def test_status_while_loading_is_no_part_of_an_answer():
    status = event(choices=[{"index": 0, "delta": {}, "finish_reason": None}], event={"type": "status"})
    found = lines(made(messages=HI), b": keep-alive\n\n", status, delta(content="a"), delta("length"), DONE)
    assert [line.get("done_reason") for line in found] == [None, "length"]


def test_thinking_and_tool_calls_come_back():
    call = {"index": 0, "id": "x", "function": {"name": "add", "arguments": '{"a"'}}
    more = {"index": 0, "function": {"arguments": ": 1}"}}
    found = lines(
        made(messages=HI), delta(reasoning_content="hm"), delta(tool_calls=[call]), delta(tool_calls=[more]),
        delta("tool_calls"), DONE,
    )  # fmt: skip
    assert found[0]["message"]["thinking"] == "hm"
    assert found[1]["message"]["tool_calls"] == [{"function": {"name": "add", "arguments": {"a": 1}}}]
    assert (found[2]["done"], found[2]["done_reason"]) == (True, "stop")


def test_an_error_in_a_stream_is_its_last_line():
    found = lines(made(messages=HI), delta(content="a"), event(error={"message": "the engine died"}), DONE)
    assert found[-1] == {"error": "the engine died"}
    assert len(found) == 2


def test_generate_has_its_text_elsewhere():
    found = lines(made(GENERATE, prompt="a", raw=True), event(choices=[{"text": "b", "finish_reason": None}]), DONE)
    assert [line["response"] for line in found] == ["b", ""]


def test_an_answer_in_one_piece():
    message = {"content": "Hello", "tool_calls": [{"function": {"name": "f", "arguments": "no json"}}]}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE}).encode()
    found = json.loads(made(messages=HI, stream=False).whole(body))
    assert found["message"]["content"] == "Hello"
    assert found["message"]["tool_calls"] == [{"function": {"name": "f", "arguments": {"arguments": "no json"}}}]
    assert {key: found[key] for key in FIGURES} == FIGURES
    text = json.dumps({"choices": [{"text": "b"}]}).encode()
    assert json.loads(made(GENERATE, prompt="a", raw=True, stream=False).whole(text))["response"] == "b"


def test_vectors_come_in_the_order_of_their_inputs():
    body = json.dumps(
        {"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 4}}
    )
    assert json.loads(made(EMBED, input=["a", "b"]).whole(body.encode())) == {
        "model": "smol", "embeddings": [[1.0], [2.0]], "total_duration": 0, "load_duration": 0, "prompt_eval_count": 4
    }  # fmt: skip
    assert json.loads(made(EMBEDDINGS, prompt="a").whole(body.encode())) == {"embedding": [1.0]}


def test_an_error_is_a_text():
    assert json.loads(DIALECT.error(404, {"message": "no such model", "code": "x"})) == {"error": "no such model"}
