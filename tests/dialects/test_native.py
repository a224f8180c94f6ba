"""llama-server's own completions, relayed and gathered (spec A2, A5, A8)."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects import sse
from roundhouse.dialects.meter import Meter
from roundhouse.dialects.native import NativeAnswer, NativeRelay
from roundhouse.errors import RouterError, UpstreamError

TIMINGS = {"prompt_n": 4, "predicted_n": 3, "predicted_per_second": 26.5}


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def part(text: str, index: int = 0, **more: object) -> bytes:
    return event(index=index, content=text, tokens=[len(text)], stop=False, id_slot=-1, **more)


def last(index: int = 0, **more: object) -> bytes:
    counts = {"tokens_predicted": 3, "tokens_evaluated": 5}
    return event(
        index=index, content="", tokens=[], stop=True, model="/models/x.gguf", **counts, timings=TIMINGS, **more
    )


STREAM = part("Once") + part(' "stop":true, ') + part("wörld 🚂") + last(prompt="Say")


@given(st.lists(st.integers(1, len(STREAM) - 1)))
def test_b7_events_pass_as_they_are_however_they_are_torn(cuts):
    relay = NativeRelay("asked", Meter(0.0))
    edges = [0, *sorted(cuts), len(STREAM)]
    out = b"".join(relay.feed(STREAM[a:b], 1.0) for a, b in itertools.pairwise(edges))
    assert out == STREAM.replace(b'"/models/x.gguf"', b'"asked"')
    assert relay.finished
    assert relay.error is None
    assert relay.meter.tokens == 3
    assert relay.meter.timings == TIMINGS


def test_two_prompts_end_with_the_second():
    relay = NativeRelay("asked", Meter(0.0), prompts=2)
    relay.feed(part("a") + last() + part("b", 1), 1.0)
    assert not relay.finished
    relay.feed(last(1), 1.0)
    assert relay.finished


def test_a9_an_engine_that_is_cut_off_is_told():
    relay = NativeRelay("asked", Meter(0.0))
    relay.feed(part("a") + b'data: {"con', 1.0)
    told = relay.end(2.0)
    assert b"ended its answer before it was finished" in told
    assert told.startswith(b'data: {"error"')
    assert isinstance(relay.error, UpstreamError)
    assert relay.end(2.0) == b""


def test_a_last_event_without_its_blank_line_counts():
    relay = NativeRelay("asked", Meter(0.0))
    assert relay.feed(part("a") + last()[:-2], 1.0) == part("a")
    assert b'"asked"' in relay.end(2.0)
    assert relay.error is None


def test_a4_an_error_in_the_stream_ends_it():
    relay = NativeRelay("asked", Meter(0.0))
    out = relay.feed(part("a") + event(error={"code": 500, "message": "no memory", "type": "server_error"}), 1.0)
    assert b"no memory" in out
    assert relay.finished
    assert relay.error is not None
    assert relay.feed(part("b"), 1.0) == b""


@given(st.lists(st.integers(1, len(STREAM) - 1)))
def test_a8_a_gathered_answer_is_what_the_engine_would_have_said(cuts):
    answer = NativeAnswer("asked", Meter(0.0))
    edges = [0, *sorted(cuts), len(STREAM)]
    for a, b in itertools.pairwise(edges):
        answer.feed(STREAM[a:b], 1.0)
    found = json.loads(answer.result(2.0))
    assert found["content"] == 'Once "stop":true, wörld 🚂'
    assert found["tokens"] == [4, 14, 7]
    assert (found["stop"], found["model"], found["prompt"]) == (True, "asked", "Say")


def test_probabilities_are_put_together():
    answer = NativeAnswer("asked", Meter(0.0))
    answer.feed(part("a", completion_probabilities=[{"id": 1}]) + part("b", completion_probabilities=[{"id": 2}]), 1.0)
    answer.feed(last(), 1.0)
    assert json.loads(answer.result(1.0))["completion_probabilities"] == [{"id": 1}, {"id": 2}]


def test_a9_half_an_answer_is_none():
    answer = NativeAnswer("asked", Meter(0.0))
    answer.feed(part("a") + sse.comment("still here"), 1.0)
    with pytest.raises(UpstreamError):
        answer.result(2.0)


def test_a4_a_failed_one_has_the_engines_error():
    answer = NativeAnswer("asked", Meter(0.0))
    with pytest.raises(RouterError, match="no memory"):
        answer.feed(event(error={"code": 500, "message": "no memory", "type": "server_error"}), 1.0)
