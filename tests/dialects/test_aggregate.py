import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects import reasoning
from roundhouse.dialects.aggregate import Aggregator
from roundhouse.dialects.meter import EXTRA_KEYS, Meter
from roundhouse.dialects.sse import DialectError
from roundhouse.errors import UpstreamError
from tests.dialects.streams import (
    CAPTURES,
    WHOLE_STREAMS,
    answer,
    capture,
    chunk,
    chunks,
    cuts,
    text,
    usage,
    usage_chunk,
    wire,
)

PAIRS = sorted(path.name for path in (CAPTURES / "llamacpp" / "pairs").glob("*.json"))
NEVER_THE_SAME = {"id", "created", "timings", "model"}
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}


def _whole(*reads: Any, now=9.0, model="asked", **options: Any):
    gatherer = Aggregator(model, options.pop("meter", Meter(0.0)), **options)
    for time, read in enumerate(reads, start=1):
        gatherer.feed(read, float(time))
    return json.loads(gatherer.result(now))


def _call(index=0, **function: Any):
    return chunk(
        {"content": None, "tool_calls": [{"index": index, "id": None, "type": "function", "function": function}]}
    )


@pytest.mark.parametrize("name", PAIRS)
def test_a8_the_same_as_llama_servers_own_whole_answer(name):
    """Both answers were captured from one llama-server (b11549) with the same seed, with and without `stream`."""
    pair = json.loads(capture(f"llamacpp/pairs/{name}"))
    got, want = _whole(pair["stream"].encode(), extra_usage=False), pair["whole"]
    assert set(got) == set(want)
    for key in set(want) - NEVER_THE_SAME:
        if key != "choices":
            assert got[key] == want[key], key
    # A call's id is drawn anew for each answer.
    assert _without_call_ids(got["choices"]) == _without_call_ids(want["choices"])
    assert set(got["timings"]) == set(want["timings"])


def _without_call_ids(choices):
    for choice in choices:
        for call in choice.get("message", {}).get("tool_calls", []):
            assert call.pop("id")
    return choices


@pytest.mark.parametrize(("engine", "stream"), [("sglang", "chat_stream_usage"), ("vllm", "chat_stream_usage")])
def test_a8_close_to_other_engines_whole_answers(engine, stream):
    got = _whole(capture(f"{engine}/{stream}.sse"))
    want = json.loads(capture(f"{engine}/chat_nostream.json"))
    assert set(got["usage"]) - set(EXTRA_KEYS) >= {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert got["object"] == want["object"]
    assert set(got["choices"][0]["message"]) <= {*want["choices"][0]["message"], *reasoning.NAMES}
    assert {"index", "message", "finish_reason", "logprobs"} <= set(got["choices"][0])


@pytest.mark.parametrize("name", WHOLE_STREAMS)
def test_a8_no_text_is_lost(name):
    raw = capture(name)
    got = _whole(raw)
    choice = got["choices"][0]
    assert got["model"] == "asked"
    assert got["id"] == chunks(raw)[0]["id"]
    assert choice["finish_reason"] in {"length", "stop"}
    told = choice.get("text") if "message" not in choice else choice["message"].get("content")
    assert (told or "") == answer(chunks(raw), "content")
    if "message" in choice:
        thought = "".join(answer(chunks(raw), key) for key in reasoning.NAMES)  # an engine has one of the names
        assert [choice["message"].get(key) or "" for key in reasoning.NAMES] == [thought, thought]


def test_a8_tool_calls_are_merged_by_index():
    stream = wire(
        chunk({"role": "assistant", "content": None}),
        chunk({"tool_calls": [CALL]}),
        _call(arguments='{"a"'),
        chunk({"tool_calls": [{**CALL, "index": 1, "id": "c2"}]}),
        _call(1, arguments="{}"),
        _call(0, name=None, arguments=":1}"),
        chunk(finish="tool_calls"),
        "[DONE]",
    )
    message = _whole(stream)["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_a8_captured_tool_calls(engine):
    raw = capture(f"{engine}/toolparser_stream.sse")
    parts = [
        call["function"].get("arguments") or ""
        for item in chunks(raw)
        for choice in item["choices"]
        for call in choice["delta"].get("tool_calls") or []
        if call["index"] == 0
    ]
    (call, *_) = _whole(raw)["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": "".join(parts)}
    assert call["type"] == "function"
    assert call["id"]
    assert "index" not in call


def test_a8_the_older_function_call():
    stream = wire(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}),
        chunk(finish="stop"),
    )
    assert _whole(stream)["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}


def test_a8_choices_by_index_with_refusal_reasoning_and_own_fields():
    stream = wire(
        chunk({"role": "assistant", "reasoning_content": "h"}, index=1),
        chunk({"role": "assistant", "content": "a"}, index=0),
        chunk({"reasoning_content": "m"}, index=1),
        chunk({"refusal": "no"}, index=0),
        {
            **chunk({}, index=1),
            "choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": "stop", "stop_reason": 7}],
        },
        {**chunk(), "choices": [{"index": 0, "delta": {}, "finish_reason": "length", "stop_reason": None}]},
        "[DONE]",
    )
    first, second = _whole(stream)["choices"]
    assert first == {
        "index": 0,
        "message": {"role": "assistant", "content": "a", "refusal": "no"},
        "finish_reason": "length",
        "stop_reason": None,
    }
    assert second == {
        "index": 1,
        "message": {"role": "assistant", "content": "b", "reasoning_content": "hm", "reasoning": "hm"},
        "finish_reason": "stop",
        "stop_reason": 7,
    }


def test_a8_logprobs_are_joined():
    def part(token):
        return {
            **chunk(),
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": token},
                    "finish_reason": None,
                    "logprobs": {"content": [{"token": token}], "refusal": None},
                }
            ],
        }

    logprobs = _whole(wire(part("a"), part("b"), chunk(finish="stop")))["choices"][0]["logprobs"]
    assert logprobs == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}


def test_a8_unknown_fields_are_kept_and_streams_own_are_not():
    stream = wire(
        text("a", odd=1, x=None, prompt_progress={"total": 1}),
        text("b", odd=2, event={"type": "execute"}),
        chunk(finish="stop", timings={"predicted_n": 8}, system_fingerprint="f"),
        usage_chunk(8),
        "[DONE]",
    )
    got = _whole(stream)
    assert (got["odd"], got["x"], got["system_fingerprint"], got["timings"]) == (2, None, "f", {"predicted_n": 8})
    assert got["object"] == "chat.completion"
    assert not {"event", "prompt_progress"} & set(got)


def test_b3_usage_with_our_keys():
    meter = Meter(0.0, queue_s=0.25, load_s=0.25)
    reads = [wire(text("a")), wire(text("b")), wire(text("c"), chunk(finish="stop"), usage_chunk(8), "[DONE]")]
    got = _whole(*reads, meter=meter)
    assert got["usage"] == {
        **usage(8),
        "response_token/s": 4.0,
        "total_s": 9.0,
        "load_s": 0.25,
        "queue_s": 0.25,
        "ttft_s": 0.5,
    }
    assert _whole(*reads, extra_usage=False)["usage"] == usage(8)


def test_usage_that_the_engine_never_told_is_null():
    assert _whole(wire(text("a"), chunk(finish="stop"), "[DONE]"))["usage"] is None


def test_missing_done_or_last_blank_line_is_no_error_after_a_finish():
    assert _whole(wire(text("a"), chunk(finish="stop")))["choices"][0]["message"]["content"] == "a"
    assert _whole(wire(text("a"), chunk(finish="stop")).removesuffix(b"\n\n"))["choices"][0]["finish_reason"] == "stop"


def test_finished_tells_when_the_stream_may_be_closed():
    gatherer = Aggregator("asked", Meter(0.0))
    gatherer.feed(wire(text("a")), 1.0)
    assert not gatherer.finished
    gatherer.feed(wire("[DONE]", text("late")), 1.0)
    assert gatherer.finished
    assert json.loads(gatherer.result(2.0))["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize("reads", [[], [wire(text("a"))], [wire("[DONE]")], [capture("tabbyapi/cut_stream.sse")]])
def test_a9_an_answer_that_was_cut_is_an_error(reads):
    with pytest.raises(UpstreamError, match="before it was finished"):
        _whole(*reads)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"error": {"message": "m", "code": 400, "type": "exceed_context_size_error"}}, 400),
        ({"object": "error", "message": "m", "code": 503}, 503),
        ({"error": {"message": "m", "trace": None}}, 502),
    ],
)
def test_a4_an_error_event_has_its_own_status(told, status):
    with pytest.raises(UpstreamError) as caught:
        _whole(wire(text("a"), told))
    assert (caught.value.status, caught.value.message) == (status, "m")


def test_an_event_that_is_no_json_is_an_error():
    with pytest.raises(DialectError, match="not JSON"):
        _whole(b"data: <html>\n\n")


@given(st.data(), st.sampled_from(WHOLE_STREAMS))
def test_b7_however_the_reads_fall(data, name):
    raw = capture(name)
    gatherer = Aggregator("asked", Meter(0.0))
    for read in data.draw(cuts(raw)):
        gatherer.feed(read, 1.0)
    assert json.loads(gatherer.result(9.0)) == _whole(raw)


def test_many_pieces_are_gathered_in_linear_time():
    pieces = [text("x" * 50) for _ in range(20_000)]
    got = _whole(wire(*pieces, chunk(finish="stop")))
    assert len(got["choices"][0]["message"]["content"]) == 1_000_000
