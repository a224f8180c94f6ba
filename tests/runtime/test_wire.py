from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.errors import BadRequest
from roundhouse.ports import Endpoint
from roundhouse.runtime.wire import authority, chunked, name, request_head, slices

HERE = Endpoint("127.0.0.1", 1234)


@pytest.mark.parametrize(
    ("endpoint", "host", "words"),
    [
        (HERE, b"127.0.0.1:1234", "The engine at 127.0.0.1:1234"),
        (Endpoint("::1", 1234), b"[::1]:1234", "The engine at [::1]:1234"),
        (Endpoint("llm.example", 443, tls=True), b"llm.example", "The engine at llm.example:443"),
        (Endpoint("llm.example", 80, tls=True), b"llm.example:80", "The engine at llm.example:80"),
        (Endpoint("llm.example", 80), b"llm.example", "The engine at llm.example:80"),
    ],
)
def test_what_an_endpoint_is_called(endpoint, host, words):
    assert authority(endpoint) == host
    assert name(endpoint) == words


def test_unknown_length_is_sent_in_chunks():
    head = request_head(b"x", HERE, b"POST", b"/", [(b"content-length", b"5")], None)
    assert head == b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_whatever_is_in_it_a_head_has_as_many_lines_as_were_asked_for(path, key, value):
    try:
        head = request_head(b"x", HERE, b"GET", b"/" + path, [(b"x-" + key, value)], 0)
    except BadRequest:
        assert any(byte in path + key + value for byte in b"\r\n ")
        return
    assert len(head.replace(b"\r", b"\n").split(b"\n\n")) == len(head.split(b"\r\n"))
    assert head.split(b"\r\n")[0].count(b" ") == 2


@given(st.binary(max_size=100), st.integers(1, 40))
async def test_slices_are_the_whole_body(body, size):
    pieces = [piece async for piece in slices(body, size)]
    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= size for piece in pieces)


async def test_chunks_leave_out_what_is_empty():
    async def body():
        for piece in (b"", b"a" * 16, b""):
            yield piece

    assert [piece async for piece in chunked(body())] == [b"10\r\n" + b"a" * 16 + b"\r\n", b"0\r\n\r\n"]
