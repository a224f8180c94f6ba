import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.dialects import sse
from tests.dialects.streams import STREAMS, capture, cuts

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\n\n", b"\r\n\r", b"\r\r\n"])
JUNK = st.lists(st.one_of(ENDS, st.binary(max_size=5), st.just(b"data: x")), max_size=20).map(b"".join)


def _split(reads, limit=sse.LIMIT):
    splitter = sse.Splitter(limit)
    return [splitter.feed(read) for read in reads], splitter.rest()


@given(st.data(), JUNK)
def test_b7_bytes_come_out_as_they_went_in_and_cuts_do_not_depend_on_reads(data, stream):
    reads = data.draw(cuts(stream))
    blocks, rest = _split(reads)
    assert b"".join(blocks) + rest == stream
    whole, whole_rest = _split([stream])
    assert rest == whole_rest
    one_by_one = [event for block in blocks for event in sse.events(block)]
    assert one_by_one == list(sse.events(whole[0]))


@given(JUNK)
def test_events_end_where_a_scan_from_the_left_finds_blank_lines(stream):
    expected = [m.end() for m in re.finditer(rb"\n\n|\n\r\n|\r\r", stream)]
    (block,), rest = _split([stream])
    assert len(block) == (expected[-1] if expected else 0)
    assert len(block) + len(rest) == len(stream)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_b7_each_kind_of_line_end_ends_an_event(end):
    splitter = sse.Splitter()
    assert splitter.feed(b"data: a" + end) == b"data: a" + end
    assert splitter.feed(b"data: b" + end[:-1]) == b""
    assert splitter.held == len(b"data: b" + end[:-1])
    assert splitter.feed(end[-1:] + b"data") == b"data: b" + end
    assert splitter.rest() == b"data"


def test_b7_utf8_split_across_reads():
    event = "data: 🚂é\n\n".encode()
    for at in range(len(event)):
        blocks, rest = _split([event[:at], event[at:]])
        assert b"".join(blocks) == event
        assert rest == b""


def test_b7_a_1_mb_event_in_tiny_reads_is_linear():
    event = b"data: " + b"x" * 1_000_000 + b"\n\n"
    splitter = sse.Splitter()
    touched, out = 0, b""
    for at in range(0, len(event), 7):
        out = splitter.feed(event[at : at + 7])
        touched += len(splitter._seam) + 7
    assert out == event
    assert touched < 2 * len(event)  # what each read looks at is bounded by its own size


def test_e6_an_event_without_end_is_given_up():
    splitter = sse.Splitter(limit=100)
    splitter.feed(b"x" * 100)
    with pytest.raises(sse.DialectError, match="more than 100 bytes"):
        splitter.feed(b"x")


def test_the_limit_counts_one_event_not_the_stream():
    splitter = sse.Splitter(limit=100)
    for _ in range(50):
        assert splitter.feed(b"x" * 60 + b"\n") == b""
        assert splitter.feed(b"\n") == b"x" * 60 + b"\n\n"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b'data: {"a":1}\n\n', b'{"a":1}'),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b": ping\n\n", b""),
        (b"\n\n", b""),
        (b": c\ndata: x\nid: 1\n\n", b"x"),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb"),
        (b"data: a\rdata: b\r\r", b"a\nb"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
    ],
)
def test_payload(event, data):
    assert sse.payload(event) == data


def test_with_payload_keeps_comments_and_fields():
    assert sse.with_payload(b": c\r\nid: 1\r\ndata: a\r\ndata: b\r\n\r\n", b"z") == b": c\nid: 1\ndata: z\n\n"


def test_encode_and_comment():
    assert sse.encode({"a": "é"}) == 'data: {"a":"é"}\n\n'.encode()
    assert sse.encode(b"[DONE]") == sse.DONE
    assert sse.comment("keep\nalive") == b": keep alive\n\n"


@pytest.mark.parametrize("name", STREAMS)
def test_b7_captured_streams_survive_byte_by_byte(name):
    stream = capture(name)
    blocks, rest = _split([stream[i : i + 1] for i in range(len(stream))])
    assert b"".join(blocks) + rest == stream
    assert [event for event in blocks if event] == list(sse.events(_split([stream])[0][0]))
