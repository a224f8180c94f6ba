import pytest

from roundhouse.cli.client import Client, events, lines, model_path
from roundhouse.cli.exits import Failed, NotRunning, Refused, Usage
from tests.cli.commands import error, stub


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://h:99999", "127.0.0.1:8002"])
def test_what_is_no_url_is_said_so(url):
    with pytest.raises(Usage):
        Client(url)


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_the_address_for_other_programs_will_do(tail):
    with stub({"GET /v1/models": (200, {"data": []})}) as there:
        assert Client(there.url + tail).get("/v1/models") == {"data": []}


def test_key_and_agent_are_sent():
    with stub({"GET /x": (200, {})}) as there:
        Client(there.url, "secret").get("/x")
        Client(there.url).get("/x")
    first, second = there.asked
    assert first.headers["authorization"] == "Bearer secret"
    assert first.headers["user-agent"] == "roundhouse-chat"
    assert "authorization" not in second.headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Failed), (401, Refused), (403, Refused), (404, Refused), (409, Refused), (429, Refused), (503, Failed)],
)
def test_errors_are_told_in_roundhouses_words(status, kind):
    with stub({"POST /x": (status, error("these words"))}) as there, pytest.raises(kind, match="these words"):
        Client(there.url).post("/x", {"a": 1})
    assert there.asked[0].json == {"a": 1}


def test_a_missing_key_says_how_to_give_it():
    with (
        stub({"GET /x": (401, error("An API key is needed."))}) as there,
        pytest.raises(Refused, match="ROUNDHOUSE_API_KEY"),
    ):
        Client(there.url).get("/x")


@pytest.mark.parametrize("answer", [(404, b"<html>"), (200, b"<html>"), (500, b"[]"), (302, b"")])
def test_another_program_on_the_port_is_told_apart(answer):
    with stub({"GET /x": answer}) as there, pytest.raises(Failed, match="Roundhouse"):
        Client(there.url).get("/x")


def test_nobody_there():
    with stub({}) as gone:
        pass
    with pytest.raises(NotRunning, match=r"refused.*roundhouse serve"):
        Client(gone.url).get("/x")


def test_lines_come_whole():
    with (
        stub({"GET /x": (200, [b"a\r\nb", b"c\n\xf0\x9f", b"\x9a\x82\nlast"])}) as there,
        Client(there.url).open("GET", "/x") as r,
    ):
        assert list(lines(r)) == ["a", "bc", "🚂", "last"]


def test_events_are_parsed():
    parts = [b": ping\n\nid: 1\nevent: ready\nda", b"ta: {}\n\n", b"data: a\ndata:b\n\nevent: x\n\ndata: unfinished"]
    with stub({"GET /x": (200, parts)}) as there, Client(there.url).open("GET", "/x") as response:
        assert list(events(response)) == [("ready", "{}"), ("message", "a\nb")]


def test_model_names_go_into_paths():
    assert model_path("org/model:7b ü", "load") == "/api/v1/models/org/model%3A7b%20%C3%BC/load"
