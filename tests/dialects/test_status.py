from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from roundhouse.dialects import status
from roundhouse.dialects.status import Channel, Frames
from roundhouse.errors import BadRequest
from tests.dialects.streams import answer, chunks, read

FRAMES = Frames("chatcmpl-1", 5, "smol")
EVENT, CONTENT = frozenset({Channel.EVENT}), frozenset({Channel.CONTENT})
CURL, BROWSER = "curl/8.5.0", "Python/3.11 aiohttp/3.14.5"


def test_b1_the_literal_lines():
    assert status.loading(15.9, 180) == "⏳ Loading model... 15s / 180s"
    details = ["smol", "", "42 %", "about 20s\nleft"]
    assert status.loading(15, 179.6, details) == "⏳ Loading model... 15s / 180s · smol · 42 % · about 20s left"
    assert status.loading(0, 0.2) == "⏳ Loading model... 0s / 1s"
    assert status.ready(41.7) == "✓ Model ready! (42s)"
    assert status.failed("no such file:\n/m.gguf") == "✗ Loading failed: no such file: /m.gguf"


def test_b3_the_literal_performance_line():
    assert status.performance(128, 2.83) == "[Performance: 45.2 tok/s | 128 tokens in 2.83s]"
    assert status.performance(100, 0.0312) == "[Performance: 3205.1 tok/s | 100 tokens in 0.0312s]"


@given(st.integers(1, 100_000), st.floats(0.001, 10_000))
def test_b3_the_three_figures_agree(tokens, seconds):
    words = status.performance(tokens, seconds).split()
    rate, shown = float(words[1]), float(words[-1].removesuffix("s]"))
    assert rate == pytest.approx(tokens / shown, rel=0.06, abs=0.06)


def _choose(header=None, key=None, model=None, config="auto", agent=BROWSER, streams=True, chat=True, text=True):
    return status.choose_channels(
        header=header,
        key=key,
        model=model,
        config=config,
        user_agent=agent,
        streams=streams,
        chat=chat,
        text_allowed=text,
    )


@pytest.mark.parametrize("agent", [CURL, "Wget/1.21", "HTTPie/3.2.2", "roundhouse-chat/0.1"])
def test_b2_auto_is_event_for_everyone_and_content_for_terminals(agent):
    assert _choose(agent=agent) == EVENT | CONTENT
    assert _choose(agent=BROWSER) == EVENT
    assert _choose(agent="") == EVENT
    assert _choose(agent="libcurl-agent/1.0") == EVENT


def test_b2_order_of_precedence():
    assert _choose("Comment ", "content", "reasoning", "event") == {Channel.COMMENT}
    assert _choose(None, "content", "reasoning", "event") == CONTENT
    assert _choose(None, None, "reasoning", "event") == {Channel.REASONING}
    assert _choose(None, None, None, "content") == CONTENT
    assert _choose("off", agent=CURL) == frozenset()
    assert _choose("auto", "off", agent=CURL) == EVENT | CONTENT


def test_b2_an_unknown_channel_is_a_400_that_names_them():
    with pytest.raises(BadRequest, match="auto, event, content, reasoning, comment, off"):
        _choose("loud")


def test_b4_content_gives_way_to_event_where_text_would_break_something():
    assert _choose("content", text=False) == EVENT
    assert _choose(agent=CURL, text=False) == EVENT
    assert _choose("reasoning", text=False) == {Channel.REASONING}


def test_b4_never_without_a_stream_and_only_comments_outside_chat():
    assert _choose("content", streams=False) == frozenset()
    assert _choose("content", chat=False) == {Channel.COMMENT}
    assert _choose("off", chat=False) == frozenset()


def test_performance_follows_the_status_or_its_own_setting():
    both = EVENT | CONTENT
    assert status.performance_channels("auto", both, text_allowed=True) == both
    assert status.performance_channels("auto", frozenset({Channel.REASONING}), text_allowed=True) == frozenset()
    assert status.performance_channels("content", EVENT, text_allowed=True) == CONTENT
    assert status.performance_channels("content", EVENT, text_allowed=False) == frozenset()
    assert status.performance_channels("usage", both, text_allowed=True) == frozenset()
    assert status.performance_channels("off", both, text_allowed=True) == frozenset()


def test_b2_each_channel_has_its_frame():
    line = status.loading(5, 180)
    (shown,) = chunks(FRAMES.status(EVENT, line, done=False))
    assert shown == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "smol",
        "choices": [{"index": 0, "delta": {}, "finish_reason": None}],
        "event": {"type": "status", "data": {"description": line, "done": False}},
    }
    assert answer(chunks(FRAMES.status(CONTENT, line, done=False))) == line + "\n"
    assert (
        answer(chunks(FRAMES.status(frozenset({Channel.REASONING}), line, done=False)), "reasoning_content")
        == line + "\n"
    )
    assert FRAMES.status(frozenset({Channel.COMMENT}), line, done=False) == f": {line}\n\n".encode()
    assert FRAMES.status(frozenset(), line, done=False) == b""
    assert len(read(FRAMES.status(EVENT | CONTENT, line, done=True))) == 2


def test_b4_two_newlines_after_ready():
    assert answer(chunks(FRAMES.status(CONTENT, status.ready(42), done=True))) == "✓ Model ready! (42s)\n\n"
    assert chunks(FRAMES.status(EVENT, status.ready(42), done=True))[0]["event"]["data"]["done"] is True


# --- B4: removal from history ---

SECONDS = st.floats(0, 5000)
LOADINGS = st.lists(
    st.builds(status.loading, SECONDS, SECONDS, st.lists(st.text(max_size=8), max_size=3)), min_size=1, max_size=3
)
ENDINGS = st.one_of(st.builds(status.ready, SECONDS), st.builds(status.failed, st.text(max_size=20)))
PERFORMANCES = st.builds(status.performance, st.integers(1, 10**6), st.floats(0.0001, 10**5))
OURS = st.sampled_from(
    ["⏳ Loading model... 1s / 2s\n", "✓ Model ready! (2s)\n\n", "\n\n[Performance: 1.0 tok/s | 1 tokens in 1.00s]\n"]
)
ANSWERS = st.lists(st.one_of(st.text(max_size=20), OURS, st.just("\n")), max_size=5).map("".join)


def _decorate(text, loadings, ending, performance):
    """What the content channel makes of an answer."""
    frames = [FRAMES.status(CONTENT, line, done=False) for line in loadings]
    if ending:
        frames.append(FRAMES.status(CONTENT, ending, done=True))
    before = answer(chunks(b"".join(frames)))
    return before + text + (f"\n\n{performance}\n" if performance else "")


@given(ANSWERS, LOADINGS, st.one_of(st.none(), ENDINGS), st.one_of(st.none(), PERFORMANCES))
def test_b4_scrub_undoes_decorate(text, loadings, ending, performance):
    assume(status.scrub(text) == text)  # an answer that itself begins or ends with such lines can't be told from ours
    assert status.scrub(_decorate(text, loadings, ending, performance)) == text


@given(ANSWERS, LOADINGS, ENDINGS, PERFORMANCES)
def test_b4_also_after_a_client_trimmed_the_message(text, loadings, ending, performance):
    text = text.strip()
    assume(status.scrub(text) == text)
    assert status.scrub(_decorate(text, loadings, ending, performance).strip()).strip() == text


@pytest.mark.parametrize(
    "text",
    [
        "I print\n⏳ Loading model... 1s / 2s\nthen more",
        "x\n\n[Performance: 1.0 tok/s | 1 tokens in 1.00s]\n\nmore",
        "The line [Performance: 1.0 tok/s | 1 tokens in 1.00s]",
        "⏳ Loading model... soon / 2s\n",
        "✓ Model ready! (2s) indeed",
        " ⏳ Loading model... 1s / 2s",
        "[Performance: fast]",
    ],
)
def test_b4_text_that_only_mentions_such_lines_stays(text):
    assert status.scrub(text) == text


def test_b4_a_stopped_load_leaves_nothing():
    assert status.scrub("⏳ Loading model... 5s / 180s\n⏳ Loading model... 10s / 180s · 42 %") == ""


def test_b4_only_assistant_messages_are_scrubbed():
    dirty = "✓ Model ready! (2s)\n\nHi\n\n[Performance: 1.0 tok/s | 1 tokens in 1.00s]"
    messages: list[Any] = [
        {"role": "user", "content": dirty},
        {"role": "assistant", "content": dirty, "name": "x"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "⏳ Loading model... 5s / 180s\nhm",
            "tool_calls": [],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "✓ Model ready! (2s)\n\na"},
                {"type": "image_url"},
                {"type": "text", "text": "b\n\n[Performance: 1.0 tok/s | 1 tokens in 1.00s]\n"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": dirty}]},
        {"role": "assistant", "content": [7]},
        "nonsense",
    ]
    scrubbed = status.scrub_messages(messages)
    assert scrubbed is not None
    assert scrubbed[0] == messages[0]
    assert scrubbed[1] == {"role": "assistant", "content": "Hi", "name": "x"}
    assert scrubbed[2] == {**messages[2], "reasoning_content": "hm"}
    assert [part.get("text") for part in scrubbed[3]["content"]] == ["a", None, "b"]
    assert scrubbed[4]["content"] == [{"type": "text", "text": "Hi"}]
    assert scrubbed[5:] == messages[5:]
    assert status.scrub_messages(scrubbed[1:]) is None


@given(LOADINGS, ENDINGS, PERFORMANCES)
def test_b4_the_quick_look_never_misses_a_line(loadings, ending, performance):
    for line in [*loadings, ending, performance]:
        assert status.may_hold_lines(line.encode())
        assert status.may_hold_lines(line.encode("ascii", "backslashreplace"))
