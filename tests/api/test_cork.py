"""Twin of api/cork.py."""

from __future__ import annotations

from roundhouse.api.cork import Corked


class Loop:
    def __init__(self):
        self.soon = []

    def call_soon(self, work):
        self.soon.append(work)

    def turn(self):
        due, self.soon = self.soon, []
        for work in due:
            work()


class Transport:
    def __init__(self):
        self.writes = []
        self.closed = False

    def write(self, data):
        self.writes.append(data)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def corked():
    loop, transport = Loop(), Transport()
    return Corked(transport, loop), loop, transport


def test_a_head_goes_out_with_its_body_in_one_write():
    cork, loop, transport = corked()
    cork.write(HEAD)
    cork.write(b"body")
    loop.turn()
    assert transport.writes == [HEAD + b"body"]


def test_a_head_without_a_body_waits_for_one_turn_of_the_loop_at_most():
    cork, loop, transport = corked()
    cork.write(HEAD)
    assert transport.writes == []
    loop.turn()
    assert transport.writes == [HEAD]
    cork.write(b"later")
    assert transport.writes == [HEAD, b"later"]


def test_closing_loses_no_head():
    cork, loop, transport = corked()
    cork.write(HEAD)
    cork.close()
    assert transport.writes == [HEAD]
    assert transport.closed
    assert cork.is_closing()
    loop.turn()
    assert transport.writes == [HEAD]


def test_a_body_that_looks_like_a_head_keeps_its_order():
    cork, loop, transport = corked()
    cork.write(b"HTTP/1.1 is how this text begins")
    cork.write(b" and goes on")
    loop.turn()
    assert b"".join(transport.writes) == b"HTTP/1.1 is how this text begins and goes on"
