import json

import pytest

from roundhouse.cli.client import Client
from roundhouse.cli.conversation import Kind, Piece, answer, pieces
from roundhouse.cli.exits import Failed
from tests.cli.commands import chunk, error, stub

PATH = "POST /v1/chat/completions"


def ask(parts):
    with stub({PATH: (200, parts)}) as there:
        return list(answer(Client(there.url), "m", [{"role": "user", "content": "hi"}])), there.asked[0]


def test_an_answer_in_pieces():
    told, asked = ask([
        chunk(line="⏳ Loading model... 0s / 5s"),
        chunk(line="✓ Model ready! (2s)", done=True),
        chunk(role="assistant"),
        chunk(reasoning_content="hm"),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk(line="[Performance: 1.0 tok/s | 1 tokens in 1.00s]", done=True),
        b'data: {"choices": [], "usage": {}}\n\n',
        b"data: [DONE]\n\n",
    ])  # fmt: skip
    assert told == [
        Piece(Kind.STATUS, "⏳ Loading model... 0s / 5s"),
        Piece(Kind.READY, "✓ Model ready! (2s)"),
        Piece(Kind.REASONING, "hm"),
        Piece(Kind.TEXT, "Hel"),
        Piece(Kind.TEXT, "lo"),
        Piece(Kind.PERFORMANCE, "[Performance: 1.0 tok/s | 1 tokens in 1.00s]"),
    ]
    assert asked.headers["user-agent"] == "roundhouse-chat"
    assert asked.headers["x-roundhouse-status"] == "event"
    assert asked.json == {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def test_performance_beside_the_last_text_comes_after_it():
    both = json.dumps({
        "choices": [{"delta": {"content": "end"}}],
        "event": {"type": "status", "data": {"description": "[Performance: x]", "done": True}},
    })  # fmt: skip
    assert [piece.kind for piece in pieces(both)] == [Kind.TEXT, Kind.PERFORMANCE]


def test_an_error_in_the_stream():
    with pytest.raises(Failed, match="the engine died"):
        ask(
            [
                chunk(content="a"),
                b"data: " + json.dumps(error("the engine died")).encode() + b"\n\n",
                b"data: [DONE]\n\n",
            ]
        )


def test_a_stream_without_its_end():
    with pytest.raises(Failed, match="ended before its end"):
        ask([chunk(content="a")])


def test_what_is_no_json():
    with pytest.raises(Failed, match="no JSON"):
        ask([b"data: {\n\n"])
