"""From bytes to lines: any split of the input gives the same lines; readers follow, memory is bounded."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given
from hypothesis import strategies as st

from roundhouse.launchers import lines as lines_module
from roundhouse.launchers.lines import LONGEST, Lines, LineSplitter


def split(*chunks: bytes):
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.close()


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\r\n", b"\n", b"\r", "é€😀".encode()])))
def test_lines_do_not_depend_on_how_the_bytes_came(chunks):
    whole = b"".join(chunks)
    expected = [line.decode("utf-8", "replace") for line in re.split(rb"[\r\n]", whole) if line]
    assert split(*chunks) == expected


def test_progress_bars_are_lines_as_they_come():
    splitter = LineSplitter()
    assert splitter.feed(b"\r 10%|#") == []
    assert splitter.feed(b"  |\r 20%|##") == [" 10%|#  |"]
    assert splitter.close() == [" 20%|##"]


def test_invalid_utf8_is_replaced():
    assert split(b"a\xffb\xe2\x82\n") == ["a�b�"]


def test_long_lines_are_cut_between_characters():
    text = "x" + "😀" * LONGEST
    pieces = split(*(text.encode()[at : at + 1000] for at in range(0, 4 * LONGEST + 1, 1000)))
    assert "".join(pieces) == text
    assert all(LONGEST - 4 < len(piece.encode()) <= LONGEST for piece in pieces[:-1])
    assert split(text.encode() + b"\n") == pieces


def test_long_nonsense_is_cut_too():
    assert [len(piece) for piece in split(b"\x80" * (LONGEST * 2))] == [LONGEST - 4] * 2 + [8]


async def test_slow_readers_lose_the_oldest_lines(monkeypatch):
    monkeypatch.setattr(lines_module, "KEPT", 20)
    kept = Lines()
    kept.feed(b"first line\n")
    reader = kept.follow()
    assert await anext(reader) == "first line"
    kept.feed(b"second line\nthird one\nfourth one\n")
    assert kept.tail(9) == ["third one", "fourth one"]
    assert [await anext(reader), await anext(reader)] == ["third one", "fourth one"]
    kept.close()
    assert [line async for line in reader] == []


async def test_followers_get_what_comes_and_end_with_the_rest():
    kept = Lines()
    got = []

    async def read():
        async for line in kept.follow():
            got.append(line)

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        await asyncio.sleep(0)
        kept.feed(b"one\ntw")
        await asyncio.sleep(0)
        assert got == ["one"]
        kept.close()
    assert got == ["one", "tw"]
    assert kept.tail(1) == ["tw"]
    assert kept.tail(0) == []
