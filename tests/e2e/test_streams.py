"""Streams through the running program: status, the answer, its end, in every channel (spec A3, B1 to B7)."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from tests.support.fake_engine import EMOJI
from tests.support.house import Running, Scripted
from tests.support.wire import chat, link

ANSWER = "".join(EMOJI)
LOADING = re.compile(r"⏳ Loading model\.\.\. \d+s / \d+s( · .+)?")
READY = re.compile(r"✓ Model ready! \(\d+s\)")
PERFORMANCE = re.compile(r"\[Performance: \d+\.\d tok/s \| \d+ tokens in \d+\.\d+s\]")
EXTRA = {"response_token/s", "total_s", "load_s", "queue_s", "ttft_s"}
TERMINAL = {"user-agent": "curl/8.5.0"}


@pytest.fixture(scope="module")
def house(shared_place):
    place = shared_place
    warm = Scripted(place.folder, "warm", preload=True, aliases=["nick", "org/nick"], served_name="inner-name")
    cold = Scripted(place.folder, "cold", "--load-gate", str(place.gate("cold")))
    quiet = Scripted(place.folder, "quiet", preload=True, status={"channel": "comment"})
    place.write([warm, cold, quiet], status={"every": "200ms"})
    with Running(place) as running:
        yield SimpleNamespace(api=running.api, warm=warm, cold=cold, place=place, running=running)


@pytest.fixture
async def cold(house):
    """The cold model, unloaded before and after."""
    gate = house.place.gate("cold")
    gate.unlink(missing_ok=True)
    yield house.cold
    gate.touch()
    await house.api.post("/api/v1/models/cold/unload")
    gate.unlink()


async def stream_cold(house, headers=None, **more):
    """A streamed chat with a model that gets ready only after some status has come."""
    gate = house.place.gate("cold")
    async with house.api.stream("cold", headers, **more) as answer:
        assert answer.status == 200
        await answer.part()
        for _ in range(3):
            await answer.part()
        gate.touch()
        return await answer.events()


async def test_b1_status_at_once_then_repeatedly_then_ready(house, cold):
    events = await stream_cold(house)
    loading = [text for text in events.statuses if text.startswith("⏳")]
    assert len(loading) >= 2
    assert all(LOADING.fullmatch(text) for text in loading)
    assert "cold" in loading[0]
    ready = events.statuses[len(loading)]
    assert READY.fullmatch(ready)
    assert "keep-alive" in events.comments
    assert LOADING.fullmatch(events.chunks[0]["event"]["data"]["description"])
    assert events.text_of_answer == ANSWER
    assert events.done


async def test_b1_no_ready_line_without_a_loading_line(house):
    events = await house.api.events("warm")
    assert [text for text in events.statuses if "ready" in text or "Loading" in text] == []


@pytest.mark.parametrize("channel", ["event", "content", "reasoning", "comment", "off"])
async def test_b2_channel_named_by_header(house, cold, channel):
    events = await stream_cold(house, {"X-Roundhouse-Status": channel})
    text, thought = events.text_of_answer, "".join(events.pieces("reasoning_content"))
    found = {
        "event": bool([s for s in events.statuses if LOADING.fullmatch(s)]),
        "content": bool(LOADING.match(text)),
        "reasoning": bool(LOADING.match(thought)),
        "comment": bool([c for c in events.comments if LOADING.fullmatch(c)]),
    }
    assert {name for name, seen in found.items() if seen} == {channel} - {"off"}
    assert ANSWER in text


async def test_b2_auto_adds_content_for_terminals(house, cold):
    events = await stream_cold(house, TERMINAL)
    assert LOADING.match(events.text_of_answer)
    assert [s for s in events.statuses if LOADING.fullmatch(s)]


async def test_b2_model_setting_wins_over_config_and_header_over_model(house):
    events = await house.api.events("quiet")
    assert [c for c in events.comments if PERFORMANCE.fullmatch(c)]
    assert not events.statuses
    events = await house.api.events("quiet", {"x-roundhouse-status": "event"})
    assert not [c for c in events.comments if PERFORMANCE.fullmatch(c)]
    assert PERFORMANCE.fullmatch(events.statuses[-1])


async def test_b2_unknown_channel_is_a_400(house):
    reply = await house.api.chat("warm", {"x-roundhouse-status": "smoke"}, stream=True)
    assert reply.status == 400
    assert "smoke" in reply.error()["message"]


async def test_b3_order_at_the_end_in_content(house):
    events = await house.api.events("warm", {"x-roundhouse-status": "content"}, stream_options={"include_usage": True})
    *_, performance, finish, usage = events.chunks
    assert PERFORMANCE.fullmatch(performance["choices"][0]["delta"]["content"].strip("\n"))
    assert performance["choices"][0]["delta"]["content"].startswith("\n\n")
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert set(usage["usage"]) >= EXTRA
    assert events.done
    assert len(events.usages) == 1


async def test_b3_order_at_the_end_in_event(house):
    events = await house.api.events("warm")
    finish = events.chunks[-1]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert PERFORMANCE.fullmatch(finish["event"]["data"]["description"])
    assert finish["event"]["data"]["done"] is True
    assert set(finish["usage"]) >= EXTRA
    assert finish["usage"]["completion_tokens"] == len(EMOJI)


async def test_b3_whole_answers_have_the_same_keys_and_headers(house):
    reply = await house.api.chat("warm")
    assert reply.status == 200
    assert set(reply.json()["usage"]) >= {"response_token/s", "total_s", "load_s", "queue_s"}
    assert reply.json()["choices"][0]["message"]["content"] == ANSWER
    for header in ("x-roundhouse-tokens-per-s", "x-roundhouse-total-s", "x-roundhouse-queue-s", "x-roundhouse-load-s"):
        assert float(reply.headers[header]) >= 0
    assert reply.headers["x-roundhouse-model"] == "warm"
    assert reply.headers["x-request-id"]


async def test_b3_figures_come_from_the_engine_never_from_counting(house):
    events = await house.api.events("warm", {"x-roundhouse-status": "content"}, fake={"silent": True})
    assert events.text_of_answer == ANSWER
    assert events.usages == []


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"n": 2},
        {"tool_choice": "required"},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_b4_no_text_of_ours_where_a_program_reads(house, more):
    events = await house.api.events("warm", {"x-roundhouse-status": "content"}, **more)
    assert events.text_of_answer == ANSWER


async def test_b4_no_text_of_ours_in_tool_calls(house):
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    raw = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}], "model": "inner-name"}
    fake = {"tokens": [], "raw": [f"data: {json.dumps(raw)}\n\n"]}
    events = await house.api.events("warm", TERMINAL, fake=fake)
    assert events.text_of_answer == ""
    assert events.pieces("tool_calls") == [[call]]


async def test_b4_no_text_of_ours_in_text_completions(house):
    async with house.api.open(
        "POST", "/v1/completions", {"model": "warm", "prompt": "a", "stream": True}, TERMINAL
    ) as answer:
        events = await answer.events()
    assert "".join(c["text"] for chunk in events.chunks for c in chunk["choices"]) == ANSWER
    assert events.done


async def test_b4_no_text_of_ours_in_a_background_task(house):
    events = await house.api.events("warm", {**TERMINAL, "x-roundhouse-task": "title"})
    assert events.text_of_answer == ANSWER


async def test_b4_our_lines_never_come_back_to_the_engine(house):
    said = await house.api.events("warm", TERMINAL)
    assert PERFORMANCE.search(said.text_of_answer)
    history = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": f"⏳ Loading model... 0s / 180s · warm\n✓ Model ready! (3s)\n\n{said.text_of_answer}",
        },
        {"role": "user", "content": "[Performance: 1.0 tok/s | 1 tokens in 1.00s] what is this?"},
    ]
    reply = await house.api.post("/v1/chat/completions", {"model": "warm", "messages": history})
    assert reply.status == 200
    sent = house.warm.last()["json"]["messages"]
    assert sent == [history[0], {"role": "assistant", "content": ANSWER}, history[2]]


@pytest.mark.parametrize("key", ['"event"', '"\\u0065vent"'])
async def test_b5_an_engines_event_key_is_dropped(house, key):
    hidden = key + ':{"type":"execute","data":{"code":"alert(1)"}}'
    choices = '"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]'
    fake = {"raw": [f"data: {{{hidden},{choices}}}\n\n"]}
    events = await house.api.events("warm", fake=fake)
    assert "alert" not in events.text
    assert events.text_of_answer == ANSWER + "x"


async def test_b6_usage_is_always_asked_for(house):
    await house.api.events("warm", stream_options={"include_usage": False})
    assert house.warm.last()["json"]["stream_options"] == {"include_usage": True}


async def test_b6_usage_rides_on_the_finish_chunk_unless_asked_for(house):
    events = await house.api.events("warm")
    assert "usage" in events.chunks[-1]
    assert events.chunks[-1]["choices"] != []
    events = await house.api.events("warm", stream_options={"include_usage": True})
    assert "usage" not in events.chunks[-2]
    assert events.chunks[-1]["choices"] == []


@pytest.mark.parametrize("split", [1, 3, 7])
async def test_b7_emoji_and_events_split_across_writes(house, split):
    events = await house.api.events("warm", fake={"split": split})
    assert events.text_of_answer == ANSWER
    assert events.done


async def test_b7_events_pass_untouched(house):
    odd = ': a comment\n\nevent: odd\nid: 7\ndata: {"choices":[{"index":0,"delta":{"content":"z"}}],"big":123456789012345678901234567890,"a":1,"a":2}\n\n'
    crlf = 'data: {"choices":[{"index":0,"delta":{"content":"w"}}]}\r\n\r\n'
    async with house.api.stream("warm", fake={"raw": [odd, crlf]}) as answer:
        raw = (await answer.rest()).decode()
    assert odd in raw
    assert crlf in raw


async def test_b7_one_megabyte_events(house):
    events = await house.api.events("warm", fake={"tokens": ["a", "b", "c"], "size": 1 << 20})
    assert [len(piece) for piece in events.pieces("content")] == [1 << 20] * 3
    assert events.done


async def test_a3_a_refusal_before_the_first_byte_keeps_its_status(house):
    body = '{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (2)","type":"exceed_context_size_error"}}'
    reply = await house.api.chat("warm", stream=True, fake={"status": 400, "body": body})
    assert reply.status == 400
    assert "context size" in reply.error()["message"]
    assert reply.headers["content-type"] == "application/json"


async def test_a3_a_failure_after_the_head_is_an_error_event(house, cold):
    gate = house.place.gate("cold")
    async with house.api.stream("cold", fake={"status": 500, "body": "kaboom", "kind": "text/plain"}) as answer:
        assert answer.status == 200
        await answer.until("⏳")
        gate.touch()
        events = await answer.events()
    assert [error["message"] for error in events.errors] == ["kaboom"]
    assert events.done
    assert READY.fullmatch(events.statuses[-1])


async def test_a3_one_body_for_one_that_does_not_stream(house, cold):
    house.place.gate("cold").touch()
    reply = await house.api.chat("cold", TERMINAL)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["choices"][0]["message"]["content"] == ANSWER
    assert float(reply.headers["x-roundhouse-load-s"]) > 0


async def test_a3_stream_headers(house):
    async with house.api.stream("warm", {"x-request-id": "my-id"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["x-roundhouse-model"] == "warm"
        assert answer.headers["x-request-id"] == "my-id"


async def test_a5_each_side_sees_the_name_it_knows(house):
    for name in ("warm", "nick", "org/nick"):
        events = await house.api.events(name)
        assert {chunk["model"] for chunk in events.chunks} == {name}
        assert house.warm.last()["json"]["model"] == "inner-name"
        reply = await house.api.chat(name)
        assert reply.json()["model"] == name
    for path in ("nick", "org/nick", "org%2Fnick"):
        reply = await house.api.get(f"/v1/models/{path}")
        assert reply.json()["id"] == "warm"


async def test_f2_the_clients_key_is_never_forwarded(house):
    await house.api.chat(
        "warm", {"authorization": "Bearer sk-client", "x-api-key": "sk-client", "cookie": "a=sk-client"}
    )
    assert "sk-client" not in json.dumps(house.warm.last())


async def test_e6_connections_are_used_again(house):
    async with link(house.place.port) as one:
        for _ in range(3):
            one.send("POST", "/v1/chat/completions", json.dumps(chat("warm", stream=True)).encode())
            events = await (await one.head()).events()
            assert events.done


async def left(house) -> list[str]:
    """What the metrics say of clients that left; other tests of this module have some."""
    metrics = (await house.api.get("/metrics")).body.decode()
    return [line for line in metrics.splitlines() if 'status="499"' in line]


async def test_a8_an_answer_that_was_complete_is_not_taken_for_one_left(house):
    """The server tells of a disconnect when an answer is complete, too; the engine may still be ending its own."""
    before = await left(house)
    async with link(house.place.port) as one:
        for _ in range(2):
            one.send(
                "POST", "/v1/chat/completions", json.dumps(chat("warm", stream=True, fake={"linger": 0.05})).encode()
            )
            assert (await (await one.head()).events()).done
    assert await left(house) == before
