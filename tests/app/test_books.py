from __future__ import annotations

from types import SimpleNamespace

from roundhouse.api.record import Record
from roundhouse.app.books import Books
from roundhouse.core.model import Fleet
from roundhouse.observe.bus import Bus
from roundhouse.observe.log import get
from roundhouse.observe.metrics import Metrics


class Kept:
    """The books of a run, and what they told the history."""

    def __init__(self):
        self.told = []
        store = SimpleNamespace(record_request=self.told.append)
        self.books = Books(store, Metrics(["one"]), Bus(), get("test"), {"one": "openai"}, Fleet())

    def request(self, **fields):
        self.books.request(Record("req-1", 100.0, "/v1/chat/completions", 5.0, model="one", status=200, **fields))
        return self.told[-1]


def test_sessions_and_users_are_told_apart_and_not_named():
    kept = Kept()
    first = kept.request(session="chat-123", user="anna")
    again = kept.request(session="chat-123", user="berta")
    other = kept.request(session="chat-124", user="anna")
    assert first.session == again.session != other.session
    assert first.user == other.user != again.user
    assert all(len(name) == 12 and int(name, 16) >= 0 for name in (first.session, first.user))
    assert "anna" not in repr(kept.told)
    assert "chat-123" not in repr(kept.told)


def test_names_can_not_be_found_by_trying_those_one_knows():
    assert Kept().request(session="chat-123").session != Kept().request(session="chat-123").session


def test_what_has_no_name_has_none_in_the_history():
    told = Kept().request()
    assert (told.session, told.user) == ("", "")


def test_the_engines_time_is_what_is_left_of_the_whole():
    kept = Kept()
    served = kept.request(served_by="one", queue_s=1.0, load_s=20.0, total_s=25.5, priority=2)
    assert (served.service_s, served.wanted, served.priority) == (4.5, "one", 2)
    assert kept.request(queue_s=0.0, total_s=25.5).service_s is None
    assert kept.request(served_by="one", queue_s=3.0, total_s=2.9).service_s == 0.0
