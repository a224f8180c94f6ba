import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roundhouse.dialects import failures, reasoning, sse
from roundhouse.dialects.relay import ChatRelay
from roundhouse.dialects.status import Channel
from roundhouse.errors import UpstreamError
from tests.dialects.streams import (
    CHANNEL_SETS,
    CHAT_STREAMS,
    STREAMS,
    WHOLE_STREAMS,
    answer,
    capture,
    chunk,
    chunks,
    cuts,
    read,
    relay,
    text,
    through,
    usage,
    usage_chunk,
    usages,
    wire,
)

LINE = "[Performance: 4.0 tok/s | 8 tokens in 2.00s]"
STOP = chunk(finish="stop")
EVENT = {"type": "execute", "data": {"code": "alert(1)"}}


def _answer(*contents: Any, tokens=8, **fields: Any):
    """A plain answer, one event per read."""
    items = [chunk({"role": "assistant", "content": ""}), *(text(content) for content in contents), STOP]
    return [wire(item) for item in [*items, usage_chunk(tokens, **fields)]] + [wire("[DONE]")]


# --- B7: bytes ---


def test_b7_everything_before_the_end_passes_untouched():
    stream = (
        b": ping\n\n"
        b'data: {"id":"x", "choices":[{"index":0,"delta":{"content":"\xf0\x9f\x9a\x82"}}],"model":"asked","n":1e400, "odd":[1,2]}\r\n\r\n'
        b'data:{"choices":[{"index":0,"delta":{"content":"b \\"event\\" \\u00e9"}}],"model":"asked"}\n\n'
        b"event: x\nid: 7\nretry: 3\ndata: not json\n\n"
        b'data: {"choices":[{"index":0,"delta":\ndata: {"content":"two lines"}}],"model":"asked"}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"c"},"finish_reason":null}],"usage":null,"model":"asked"}\n\n'
    )
    one = relay({Channel.EVENT})
    assert one.feed(stream, 1.0) == stream
    again = relay({Channel.EVENT})
    assert b"".join(again.feed(stream[i : i + 1], 1.0) for i in range(len(stream))) == stream


def test_b7_utf8_split_across_reads():
    stream = b"".join(_answer("🚂 tschüß", "🚂🚃"))
    for at in range(len(stream)):
        got = through([stream[:at], stream[at:]], now=1.0)
        assert answer(chunks(got)) == "🚂 tschüß🚂🚃"


def test_b7_a_1_mb_event():
    big = "x" * 1_000_000
    stream = b"".join(_answer("a", big, "b"))
    got = through([stream[i : i + 65_536] for i in range(0, len(stream), 65_536)], {Channel.EVENT}, now=1.0)
    assert answer(chunks(got)) == "a" + big + "b"


@pytest.mark.parametrize("end", ["\r\n\r\n", "\r\r"])
def test_b7_other_line_ends(end):
    stream = wire(text("a"), text("b"), text("c"), STOP, usage_chunk(8), "[DONE]", end=end)
    got = through([stream], {Channel.EVENT})
    assert answer(chunks(got)) == "abc"
    assert read(got)[-1] == "[DONE]"


def test_b7_the_quick_way_and_the_careful_way_agree():
    """Events that differ only in their text pass at once; here each is also sent through a relay that never learns."""
    contents = ["a", "b", 'say "x"', "\\", "c\n\nd", "é", "", "data: [DONE]", "\\u0065", "e" * 5000, "f", "g"]
    for ascii_only in (False, True):
        quick, careful = relay(), relay()
        for content in contents:
            event = wire(text(content), ascii_only=ascii_only)
            careful._head, careful._tail = relay()._head, relay()._tail
            assert quick.feed(event, 1.0) == careful.feed(event, 1.0)


def test_b7_text_that_is_no_one_event_takes_the_careful_way():
    one = relay()
    one.feed(wire(text("a")), 1.0)
    one.feed(wire(text("b")), 1.0)
    head, _, tail = wire(text("@@")).partition(b"@@")
    assert one._head == head.replace(b"asked", b"served")
    got = one.feed(head + b"x\n\ndata: [DONE]\n\ny" + tail, 1.0)
    assert got.count(b"[DONE]") == 1
    assert one.finished


# --- A5: names ---


def test_a5_the_client_sees_the_name_it_asked_for():
    got = through(_answer("a", "b", "c"), {Channel.CONTENT, Channel.EVENT}, model='as"ked/ü')
    assert {item["model"] for item in chunks(got)} == {'as"ked/ü'}


def test_a5_a_name_as_the_engine_spells_it():
    stream = b"".join(_answer("a", "b")).replace(b'"served"', b'"\\/opt\\/m.gguf"').replace(b'"model": ', b'"model"  :')
    assert {item["model"] for item in chunks(through([stream]))} == {"asked"}


def test_a5_tabbyapis_model_name():
    got = chunks(through([capture("tabbyapi/completions_stream.sse")]))
    assert {item["model_name"] for item in got} == {"asked"}


def test_b13_what_older_tabbyapi_leaves_out_of_its_chunks_is_added():
    """As captured from its version of June 2026: neither object nor created, and `model_name` for `model`."""
    old = {"id": "chatcmpl-3", "choices": [{"index": 0, "delta": {"content": "Hello!"}, "finish_reason": None}]}
    old["model_name"] = "Fake-8B-exl3-4.0bpw"
    end = {**old, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage(2)}
    got = chunks(through([wire(old), wire(old), wire(old), wire(end), wire("[DONE]")]))
    assert all({"id", "object", "created", "model", "choices"} <= chunk.keys() for chunk in got)
    assert {chunk["model"] for chunk in got} == {"asked"}
    assert {chunk["object"] for chunk in got} == {"chat.completion.chunk"}


def test_a5_only_the_name_changes():
    one = relay()
    event = wire(text('the "model": "served" here', note={"x": "served"}))
    assert one.feed(event, 1.0) == event.replace(b'"model": "served", "choices"', b'"model": "asked", "choices"')


def test_a5_only_the_first_name_is_learned():
    """So that what is changed does not depend on which events happen to be parsed."""
    reads = [
        wire(item)
        for item in (text("a", model="asked"), text("b"), text("c"), text("d", usage=usage(1)), STOP, "[DONE]")
    ]
    got = through(reads)
    assert [item["model"] for item in chunks(got)][1:4] == ["served"] * 3


# --- B3, B6: the end ---


def _shape(client):
    """What the last events are, in order."""
    kinds = []
    for item in read(client):
        if item == "[DONE]":
            kinds.append("done")
        elif "error" in item:
            kinds.append("error")
        else:
            kinds.append(_kind(item))
    return kinds


def _kind(item):
    marks = "".join(
        mark for key, mark in (("usage", "+usage"), ("event", "+event"), ("timings", "+timings")) if item.get(key)
    )
    if not item["choices"]:
        return "none" + marks
    choice = item["choices"][0]
    content = choice["delta"].get("content") or ""
    name = (
        "finish" if choice["finish_reason"] else "line" if "[Performance" in content else "text" if content else "empty"
    )
    return name + marks


@pytest.mark.parametrize(
    ("channels", "include_usage", "shape"),
    [
        (set(), False, ["empty", "text", "text", "finish+usage", "done"]),
        (set(), True, ["empty", "text", "text", "finish", "none+usage", "done"]),
        ({Channel.EVENT}, False, ["empty", "text", "text", "finish+usage+event", "done"]),
        ({Channel.EVENT}, True, ["empty", "text", "text", "finish+event", "none+usage", "done"]),
        ({Channel.CONTENT}, False, ["empty", "text", "text", "line", "finish+usage", "done"]),
        (
            {Channel.CONTENT, Channel.EVENT},
            True,
            ["empty", "text", "text", "line", "finish+event", "none+usage", "done"],
        ),
    ],
)
def test_b3_b6_order_at_the_end(channels, include_usage, shape):
    got = through(_answer("a", "b"), channels, include_usage=include_usage)
    assert _shape(got) == shape


def test_b3_the_line_in_both_ways():
    got = through(_answer("a", "b", "c"), {Channel.CONTENT, Channel.EVENT})  # text at 2, 3 and 4
    assert answer(chunks(got)) == f"abc\n\n{LINE}\n"
    assert chunks(got)[-1]["event"] == {"type": "status", "data": {"description": LINE, "done": True}}


def test_b3_the_line_as_a_comment():
    got = through(_answer("a", "b", "c"), {Channel.COMMENT})
    assert f": {LINE}\n\n".encode() in got
    assert answer(chunks(got)) == "abc"


def test_b3_our_keys_in_usage():
    got = through(_answer("a", "b", "c"), include_usage=True, queue_s=0.25, load_s=0.5)
    assert chunks(got)[-1]["usage"] == {
        **usage(8), "response_token/s": 4.0, "total_s": 7.0, "load_s": 0.5, "queue_s": 0.25, "ttft_s": 1.25
    }  # fmt: skip
    plain = through(_answer("a", "b", "c"), include_usage=True, extra_usage=False)
    assert chunks(plain)[-1]["usage"] == usage(8)


def test_b3_the_finish_chunk_is_held_until_usage_is_known():
    one = relay({Channel.EVENT})
    *before, use, done = _answer("a")
    out = [one.feed(data, 1.0) for data in before]
    assert out[-1] == b""
    assert one.feed(b": ping\n\n", 1.0) == b": ping\n\n"
    assert one.feed(use, 1.0) == b""
    assert _shape(one.feed(done, 1.0)) == ["finish+usage+event", "done"]
    assert one.finished
    assert one.error is None
    assert one.feed(wire(text("late"), "[DONE]"), 2.0) == b""
    assert one.end(3.0) == b""


def test_b3_no_usage_no_line_rather_than_a_lie():
    *items, _, done = _answer("a", "b")
    assert _shape(through([*items, done], {Channel.CONTENT, Channel.EVENT})) == [
        "empty",
        "text",
        "text",
        "finish",
        "done",
    ]


def test_b3_timings_serve_where_usage_is_missing():
    stream = capture("llamacpp/chat_stream.sse")
    got = chunks(through([stream], {Channel.EVENT}, include_usage=True))
    assert got[-1]["choices"] == []
    assert got[-1]["usage"]["completion_tokens"] == 8
    assert got[-1]["usage"]["response_token/s"] == 28.58
    assert got[-1]["id"] == got[0]["id"]


def test_b3_timings_ride_with_usage_on_the_finish_chunk():
    got = chunks(through([capture("llamacpp/chat_stream_usage.sse")], {Channel.EVENT}))
    assert got[-1]["timings"]["predicted_n"] == 8
    assert got[-1]["choices"][0]["finish_reason"] == "length"
    assert got[-1]["event"]["data"]["description"] == "[Performance: 26.1 tok/s | 8 tokens in 0.31s]"


def test_b3_with_n_only_the_last_finish_is_held():
    one = relay({Channel.EVENT}, choices=2)
    first = one.feed(wire(text("a"), chunk({"content": "b"}, index=1), STOP), 1.0)
    assert _shape(first) == ["text", "text", "finish"]
    assert one.feed(wire(chunk(finish="stop", index=1)), 1.0) == b""
    last = one.feed(wire(usage_chunk(8), "[DONE]"), 1.0)
    assert chunks(last)[0]["choices"][0]["index"] == 1
    assert _shape(last) == ["finish+usage+event", "done"]


def test_b3_a_choice_that_goes_on_after_the_held_finish_keeps_its_order():
    got = through([wire(text("a"), STOP, chunk({"content": "b"}, index=1), chunk(finish="stop", index=1), "[DONE]")])
    finishes = [item["choices"][0]["index"] for item in chunks(got) if item["choices"][0]["finish_reason"]]
    assert (finishes, _shape(got)) == ([0, 1], ["text", "finish", "text", "finish", "done"])


@pytest.mark.parametrize("warm", [1, 2, 5])
def test_b3_text_after_the_held_finish_keeps_its_order(warm):
    reads = [wire(item) for item in [*[text("a")] * warm, STOP, text("b"), text("c"), STOP, "[DONE]"]]
    got = through(reads)
    assert answer(chunks(got)) == "a" * warm + "bc"
    assert _shape(got) == ["text"] * warm + ["finish", "text", "text", "finish", "done"]
    assert got == through([b"".join(reads)])


def test_b3_a_ping_after_the_last_token_does_not_stretch_the_answer():
    *items, use, done = _answer("a", "b", "c")  # text at 2, 3 and 4
    got = through([*items[:-1], b": ping\n\n", b": ping\n\n", items[-1], use, done], {Channel.EVENT})
    assert chunks(got)[-1]["event"]["data"]["description"] == LINE


def test_b3_text_in_the_finish_chunk_stands_before_the_line():
    """vLLM's last chunk has both text and finish_reason."""
    stream = wire(text("a"), text("b"), chunk({"content": "c"}, finish="stop"), usage_chunk(8), "[DONE]")
    got = through([stream], {Channel.CONTENT}, now=2.0)
    assert answer(chunks(got)).startswith("abc\n\n[Performance")
    assert _shape(got) == ["text", "text", "text", "line", "finish+usage", "done"]
    assert answer(chunks(through([stream], {Channel.EVENT}, now=2.0))) == "abc"


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
@pytest.mark.parametrize(
    "name_calls", [{"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, {"function_call": {"name": "f"}}]
)
def test_b4_no_text_of_ours_beside_tool_calls(finish, name_calls):
    for before in ([], [text("x"), text("y")]):
        stream = [
            wire(item) for item in (*before, chunk(name_calls), chunk(name_calls), chunk(finish=finish), usage_chunk(8))
        ]
        got = through([*stream, wire("[DONE]")], {Channel.CONTENT, Channel.EVENT})
        assert "[Performance" not in answer(chunks(got))
        assert chunks(got)[-1]["event"]["data"]["description"].startswith("[Performance")


def test_b3_finish_reason_tool_calls_is_enough():
    got = through([wire(text("x"), chunk(finish="tool_calls"), usage_chunk(8), "[DONE]")], {Channel.CONTENT})
    assert answer(chunks(got)) == "x"


def test_b3_continuous_usage_is_sent_once_and_last():
    items = [text("a", usage=usage(1)), text("b", usage=usage(2)), chunk(finish="stop", usage=usage(2)), "[DONE]"]
    for include_usage in (False, True):
        got = chunks(through([wire(*items)], include_usage=include_usage, now=1.0))
        assert answer(got) == "ab"
        assert len(usages(got)) == 1
        assert got[-1]["usage"]["completion_tokens"] == 2
        assert bool(got[-1]["choices"]) is not include_usage


def test_b3_done_without_a_finish_chunk_still_brings_usage():
    got = through([wire(text("a"), usage_chunk(8), "[DONE]")], {Channel.EVENT})
    assert _shape(got) == ["text", "empty+usage+event", "done"]
    got = through(
        [capture("vllm/completions_stream.sse").replace(b'"finish_reason":"length"', b'"finish_reason":null')]
    )
    assert chunks(got)[-1]["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": None}]


def test_missing_done_is_added():
    *items, _ = _answer("a")
    got = through(items, {Channel.EVENT})
    assert _shape(got) == ["empty", "text", "finish+usage+event", "done"]


def test_a_last_event_without_its_blank_line_counts():
    stream = b"".join(_answer("a")).removesuffix(b"\n\n")
    assert _shape(through([stream])) == ["empty", "text", "finish+usage", "done"]
    assert _shape(through([wire(text("a"), STOP).removesuffix(b"\n")])) == ["text", "finish", "done"]


# --- B5: foreign events ---


@pytest.mark.parametrize("key", ["event", "\\u0065vent", "\\u0065\\u0076\\u0065\\u006e\\u0074", "even\\u0074"])
@pytest.mark.parametrize("warm", [0, 3])
def test_b5_a_foreign_event_key_is_dropped(key, warm):
    raw = json.dumps(text("x", big=2**80, EVENT=EVENT)).replace("EVENT", key)
    reads = [wire(item) for item in [*[text("w")] * warm, raw, text("y"), STOP, "[DONE]"]]
    for got in (through(reads, now=1.0), through([b"".join(reads)], now=1.0)):
        assert not any("event" in item for item in chunks(got))
        assert answer(chunks(got)) == "w" * warm + "xy"
        assert str(2**80).encode() in got


@pytest.mark.parametrize(
    "lines",
    [
        ['data: {"choices":[],', 'data: "event":{"type":"execute"}}'],
        ['data: {"event":{"type":"execute"}}', 'data: {"choices":[]}'],
        ['data: {"x":', 'data: {"event":{"type":"execute"}}', "data: }"],
        ["data: [1,", 'data: {"event":{"type":"execute"}}', "data: ]"],
        ['data: {"event":{"type":"execute"},"x":NaN}'],
        ['data: {"event":{"type":"execute"},"x":"\\ud800"}'],
        ['data: {"event":{"type":"execute"},"x":"tab\there"}'],
        ['data: {"event":{"type":"execute"},"x":' + "[" * 3000 + "]" * 3000 + "}"],
        ['data: {"event":1,"\\u0065vent":{"type":"execute"}}'],
    ],
)
def test_b5_however_it_is_hidden(lines):
    for end in ("\n", "\r\n", "\r"):
        got = through([(end.join(lines) + end + end).encode(), wire(text("x"), STOP, "[DONE]")], now=1.0)
        for line in got.splitlines():  # as Open WebUI reads: every line by itself
            if line.startswith(b"data:") and b"[DONE]" not in line:
                try:
                    found = json.loads(line[5:], strict=False)
                except ValueError:
                    assert b"vent" not in line
                else:
                    assert "event" not in found


def test_b5_the_word_in_a_text_is_no_event():
    event = wire(text('an "event" \\u00e9 {"event": 1}', model="asked"))
    one = relay()
    assert one.feed(event, 1.0) == event
    assert one.feed(event, 1.0) == event


def test_b5_an_event_smuggled_into_a_shape_that_is_known():
    one = relay()
    one.feed(wire(text("a")), 1.0)
    one.feed(wire(text("b")), 1.0)
    raw = wire(text("@@"))
    for smuggled in (
        b'x"}}],"event":{"type":"execute"},"y":[{"z":{"w":"',
        b'x"}}],"\\u0065vent":{"type":"execute"},"y":[{"z":{"w":"',
    ):
        got = one.feed(raw.replace(b"@@", smuggled), 1.0)
        assert b"event" not in got
        assert b"vent" not in got


# --- errors ---


@pytest.mark.parametrize("name", [name for name in WHOLE_STREAMS if "usage" in name])
def test_a9_an_engine_that_dies_leaves_text_error_and_done(name):
    stream = capture(name)
    dead = UpstreamError("The engine of 'm' ended with signal 9.")
    last_text = (
        stream.rindex(b'"finish_reason":"') if b'"finish_reason":"' in stream else stream.rindex(b'"finish_reason": "')
    )
    for at in range(0, last_text, 97):
        one = relay({Channel.EVENT, Channel.CONTENT})
        got = one.feed(stream[:at], 1.0) + one.broken(dead, 2.0)
        items = read(got)
        assert items[-1] == "[DONE]"
        assert items[-2]["error"]["message"] == dead.message
        assert answer(chunks(through([stream], now=1.0))).startswith(answer(items[:-2]))
        assert one.error is dead
        assert one.broken(dead, 3.0) == b""


def test_a9_a_whole_answer_is_no_error_because_the_engine_died_after_it():
    one = relay({Channel.EVENT})
    out = one.feed(wire(text("a"), STOP), 1.0) + one.broken(UpstreamError("gone"), 2.0)
    assert _shape(out) == ["text", "finish", "done"]
    assert one.error is None


def test_a9_a_stream_cut_with_a_clean_end_is_an_error():
    """TabbyAPI after an unload, llama-server on SIGTERM: the stream ends as if all were well."""
    got = through([capture("tabbyapi/cut_stream.sse")], {Channel.EVENT})
    assert _shape(got)[-2:] == ["error", "done"]
    assert answer(chunks(got)[:-1]).startswith("Hello! I am a fake model")
    assert _shape(through([])) == ["error", "done"]


def test_a9_half_an_event_is_not_sent():
    one = relay()
    out = one.feed(wire(text("a")) + b'data: {"choices":[{"ind', 1.0) + one.broken(UpstreamError("gone"), 2.0)
    assert _shape(out) == ["text", "error", "done"]


@pytest.mark.parametrize(
    "told",
    [
        {"error": {"message": "m", "code": 500, "type": "server_error"}},
        {"object": "error", "message": "m", "type": "BadRequestError", "code": 400},
        {"error": {"message": "m", "trace": None}},
    ],
)
def test_a4_an_error_event_is_normalised_and_ends_the_stream(told):
    one = relay({Channel.EVENT})
    got = one.feed(wire(text("a"), text("b"), told, text("c"), "[DONE]"), 1.0) + one.end(2.0)
    assert _shape(got) == ["text", "text", "error", "done"]
    assert set(chunks(got)[-1]["error"]) == {"message", "type", "param", "code"}
    assert one.error is not None
    assert one.error.message == "m"
    assert one.finished


def test_a4_tabbyapis_captured_error():
    got = through([capture("tabbyapi/error_stream.sse")])
    assert _shape(got) == ["error", "done"]


# --- properties ---

CONTENTS = st.lists(st.text(max_size=8), max_size=6)
OPTIONS = st.fixed_dictionaries(
    {
        "channels": st.sampled_from(CHANNEL_SETS),
        "include_usage": st.booleans(),
        "model": st.sampled_from(["asked", "served"]),
    }
)


@st.composite
def streams(draw):
    """Made-up answers with everything that engines do; what the client must read of them, and whether usage is told."""
    end, ascii_only = draw(st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"])), draw(st.booleans())
    continuous = draw(st.booleans())
    items, whole = [], ""
    for number, content in enumerate(draw(CONTENTS)):
        extra = draw(
            st.sampled_from(
                [{}, {"event": EVENT}, {"timings": {"predicted_n": number}}, {"usage": None}, {"x": {"error": None}}]
            )
        )
        items.append(text(content, **{**extra, **({"usage": usage(number)} if continuous else {})}))
        whole += content
    last = draw(st.text(max_size=3))
    items.append(chunk({"content": last} if last else {}, finish="stop"))
    told = draw(st.booleans()) or continuous
    if told:
        items.append(usage_chunk(5))
    if draw(st.booleans()):
        items.append("[DONE]")
    data = b"".join(
        draw(st.sampled_from([b"", b"", b": ping\n\n", b"\n"])) + wire(item, ascii_only=ascii_only, end=end)
        for item in items
    )
    return data, whole + last, told


@given(st.data(), streams(), OPTIONS)
def test_b7_reads_that_fall_otherwise_give_the_same_bytes(data, stream, options):
    raw, _, _ = stream
    assert through(data.draw(cuts(raw)), now=3.0, **options) == through([raw], now=3.0, **options)


@given(streams(), OPTIONS)
def test_b3_every_text_once_and_in_order_one_usage_one_done(stream, options):
    raw, whole, told = stream
    items = read(through([raw], now=3.0, **options))
    got = answer([item for item in items if item != "[DONE]"])
    if Channel.CONTENT in options["channels"] and "[Performance" in got:
        got = got[: got.rindex("\n\n[Performance")]
    assert got == whole
    assert items.count("[DONE]") == 1
    assert items[-1] == "[DONE]"
    found = usages(items[:-1])
    timed = b"predicted_n" in raw
    assert len(found) == (1 if told or timed else 0)
    assert not found or items[-2].get("usage") == found[0]
    assert all(item.get("event", {"type": "status"})["type"] == "status" for item in items[:-1])
    assert {item["model"] for item in items[:-1]} == {options["model"]}


@given(st.data(), st.sampled_from(WHOLE_STREAMS), OPTIONS)
def test_b7_captured_streams_however_read(data, name, options):
    raw = capture(name)
    got = through(data.draw(cuts(raw)), now=3.0, **options)
    assert got == through([raw], now=3.0, **options)
    items = read(got)
    assert items.count("[DONE]") == 1
    assert items[-1] == "[DONE]"


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=9), st.sampled_from([b"\n\n", b"data: ", wire(text("a")), wire("[DONE]"), wire(STOP)])
        ),
        max_size=12,
    )
)
@example([wire(text("a"))])
def test_any_bytes_at_all_end_in_one_done(reads):
    got = through(reads, {Channel.EVENT}, now=1.0)
    assert got.endswith(sse.DONE)
    whole = b"".join(reads)
    assert through([whole], {Channel.EVENT}, now=1.0) == got


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("include_usage", [False, True])
def test_captured_text_arrives_whole(name, include_usage):
    raw = capture(name)
    sent = [i for i in chunks(raw) if "error" not in i]
    got = [i for i in chunks(through([raw], {Channel.EVENT}, include_usage=include_usage)) if "error" not in i]
    assert answer(got, "content") == answer(sent, "content")
    if "completions" in name:
        return
    thought = "".join(answer(sent, key) for key in reasoning.NAMES)  # an engine has one of the names
    assert [answer(got, key) for key in reasoning.NAMES] == [thought, thought]


@pytest.mark.parametrize("name", CHAT_STREAMS)
def test_b6_captured_usage_is_where_the_client_asked_for_it(name):
    for include_usage in (False, True):
        got = chunks(through([capture(name)], {Channel.EVENT}, include_usage=include_usage))
        if "usage" in name or "toolparser" in name:
            assert len(usages(got)) == 1
            assert got[-1]["usage"]["completion_tokens"] > 0
            assert bool(got[-1]["choices"]) is not include_usage


def test_constructing_does_nothing():
    assert isinstance(relay(), ChatRelay)
    assert failures.is_error({"error": "x"})
