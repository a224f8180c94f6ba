import json

import pytest

from roundhouse.cli.bench import Level, Sample, summed
from roundhouse.dialects import sse
from tests.cli.commands import chunk, error, run_here, stub

PATH = "POST /v1/chat/completions"
USAGE = sse.encode({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})
ANSWER = [chunk(content="a"), chunk(content="b"), USAGE, b"data: [DONE]\n\n"]


def test_speed_is_that_after_the_first_token():
    assert Sample(1.0, 3.0, 21).speed == 10.0
    assert [Sample(1.0, seconds, tokens).speed for seconds, tokens in ((3.0, None), (3.0, 1), (1.0, 9))] == [None] * 3


def test_figures_of_a_level():
    samples = [Sample(1.0, 3.0, 21), Sample(2.0, 3.0, 31), Sample(0.5, 3.0, None), None]
    assert summed(2, samples, 4.0) == Level(2, 4, 1, 1.0, 2.0, 20.0, 13.0, 52)
    assert summed(1, [None], 4.0) == Level(1, 1, 1, None, None, None, None, None)


def test_a_model_is_measured_alone_and_with_several_at_once():
    with stub({PATH: (200, ANSWER)}) as there:
        shown = run_here("bench", "m", "--at-once", "3", "--rounds", "2", "--tokens", "7", "--json", "--url", there.url)
    assert shown.code == 0, shown.err
    assert [(one["at_once"], one["requests"], one["tokens"]) for one in shown.json["levels"]] == [
        (1, 2, 10),
        (3, 6, 30),
    ]
    asked = [request.json for request in there.asked]
    assert len({request["messages"][0]["content"] for request in asked}) == len(asked) == 9
    assert asked[0] | {"max_tokens": 7, "stream": True, "stream_options": {"include_usage": True}} == asked[0]
    assert there.asked[0].headers["x-roundhouse-status"] == "off"


def test_as_a_table_and_only_once_where_one_is_all():
    with stub({PATH: (200, ANSWER)}) as there:
        shown = run_here("bench", "m", "--at-once", "1", "--url", there.url)
    assert len(there.asked) == 4
    assert "FIRST TOKEN" in shown.out
    assert shown.out.splitlines()[-1].split()[:3] == ["1", "3", "0"]


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((404, error("no m here")), 4, "no m here"),
        ((503, error("no room")), 1, "no room"),
        ((200, [b"data: [DONE]\n\n"]), 1, "The answer was empty"),
        ((200, [chunk(content="a")]), 1, "ended before its end"),
        ((200, [b"data: x\n\n"]), 1, "no JSON"),
        ((200, [b'data: {"error": {"message": "it crashed"}}\n\n']), 1, "it crashed"),
    ],
)
def test_what_goes_wrong_at_once_ends_it(answer, code, said):
    with stub({PATH: answer}) as there:
        shown = run_here("bench", "m", "--url", there.url)
    assert (shown.code, said in shown.err) == (code, True)


def test_a_failure_in_the_middle_is_counted_and_exits_1():
    with stub({PATH: (200, ANSWER)}) as there:
        usual = there.answer

        def answer(asked):
            status, body = usual(asked)
            return (503, error("full")) if len(there.asked) == 3 else (status, body)

        there.answer = answer
        shown = run_here("bench", "m", "--at-once", "1", "--json", "--url", there.url)
    assert shown.code == 1
    assert json.loads(shown.out)["levels"][0]["failed"] == 1


def test_real_tokens_of_a_real_roundhouse(real):
    shown = run_here("bench", "one", "--at-once", "2", "--rounds", "1", "--json", "--url", real.url)
    assert shown.code == 0, shown.err
    assert all(level["tokens"] > 0 and level["speed_all"] > 0 for level in shown.json["levels"])
