"""What a model thought has both names that clients look for (issue: every client)."""

from __future__ import annotations

import copy

import orjson
import pytest

from roundhouse.dialects import reasoning
from roundhouse.dialects.aggregate import Aggregator
from roundhouse.dialects.meter import Meter
from roundhouse.dialects.relay import ChatRelay
from roundhouse.dialects.status import Frames

MODEL = "m"


@pytest.mark.parametrize("name", reasoning.NAMES)
@pytest.mark.parametrize("part", ["delta", "message"])
def test_the_missing_name_is_added(name, part):
    choices = [{part: {name: "hm"}}, {part: {"content": "x"}}]
    assert reasoning.complete(choices)
    assert choices == [{part: dict.fromkeys(reasoning.NAMES, "hm")}, {part: {"content": "x"}}]


@pytest.mark.parametrize(
    "choices",
    [None, 7, ["x"], [{"delta": None}], [{"delta": {"content": "x"}}], [{"delta": dict.fromkeys(reasoning.NAMES, "hm")}],
     [{"delta": {"reasoning": None}}], [{"message": {"reasoning": {"effort": 1}}}]],
)  # fmt: skip
def test_where_there_is_nothing_to_do_nothing_is_done(choices):
    before = copy.deepcopy(choices)
    assert not reasoning.complete(choices)
    assert choices == before


def chunk(**delta: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return b"data: " + orjson.dumps({"id": "1", "model": MODEL, "choices": [choice]}) + b"\n\n"


@pytest.mark.parametrize("name", reasoning.NAMES)
@pytest.mark.parametrize("step", [1000, 7])
def test_a_stream_has_both_and_its_text_passes_untouched(name, step):
    relay = ChatRelay(Frames("1", 1, MODEL), Meter(0.0), frozenset())
    thoughts, texts = [chunk(**{name: f"t{n}"}) for n in range(3)], [chunk(content=f"c{n}") for n in range(3)]
    stream = b"".join((*thoughts, *texts, *thoughts, *texts, b"data: [DONE]\n\n"))
    out = b"".join(relay.feed(stream[at : at + step], 1.0) for at in range(0, len(stream), step))
    deltas = [orjson.loads(e[6:])["choices"][0]["delta"] for e in out.split(b"\n\n") if e.startswith(b"data: {")]
    assert [d["reasoning"] for d in deltas if "reasoning" in d] == ["t0", "t1", "t2"] * 2
    assert [d["reasoning_content"] for d in deltas if "reasoning_content" in d] == ["t0", "t1", "t2"] * 2
    assert all(text in out for text in texts)


def test_a_gathered_answer_has_both():
    gathered = Aggregator(MODEL, Meter(0.0))
    gathered.feed(chunk(reasoning_content="h"), 1.0)
    gathered.feed(chunk(reasoning_content="m") + chunk(content="x") + b"data: [DONE]\n\n", 1.0)
    message = orjson.loads(gathered.result(1.0))["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"], message["content"]) == ("hm", "hm", "x")
