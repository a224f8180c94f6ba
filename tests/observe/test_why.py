from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from roundhouse.core.chronicle import Chronicle, Kind
from roundhouse.observe.past import read_why
from roundhouse.observe.store import NoteRow, Request, Store
from roundhouse.observe.why import obstacle, of_model, of_request, sentence
from tests.core.traffic import traffic

NOW = 1_800_000_000.0


def note(kind: str, at: float = NOW, model: str = "beta", beneficiary: str = "", **facts: object) -> NoteRow:
    return NoteRow(at, model, kind, beneficiary, facts)


def request(story: dict | None = None, **more: object) -> Request:
    told = Request("r1", NOW, "beta", "me", "", 200, 5.0, 2.0, 0.2, 10.0, wanted="beta", service_s=3.0)
    return told._replace(why=json.dumps(story) if story else "", **more)


def texts(lines) -> list[str]:
    return [line.text for line in lines]


WAITED = {"arrived": {"here": [], "before": 2, "task": False}, "granted": {"after_s": 7.0, "active": 1}}


@pytest.mark.parametrize("service", [3.0, 0.0])
def test_a_request_that_was_answered_at_once_says_so(service):
    first, last = texts(of_request(request(queue_s=0.0, load_s=0.0, service_s=service), []))
    assert first == "A request came for beta, which was loaded and had a free slot: it was answered at once."
    assert last == "It ended after 10 s with status 200."


def test_a_request_that_came_to_no_engine_does_not_say_so():
    refused = request(queue_s=0.0, load_s=0.0, service_s=None, status=501)
    assert texts(of_request(refused, []))[0] == "A request came for beta."


def test_what_was_so_when_it_came_is_told_as_of_then():
    before = note("starts", NOW - 3.0, waiting=1)
    after = note("ready", NOW + 7.0, seconds=10.0, expected_s=None, stages={"reading": 9.0, "quick": 0.001})
    lines = of_request(request(WAITED), [before, after])
    assert texts(lines) == [
        "A request came for beta. Nothing was loaded then. 2 requests for beta waited already.",
        "Since 3.0 s before: beta began to load (1 request waited).",
        "beta was loaded in 10 s (reading 9.0 s); how long it takes was not known.",
        "beta took it after 7.0 s.",
        "It ended after 10 s with status 200.",
    ]
    assert [line.at for line in lines] == [NOW, NOW, NOW + 7, NOW + 7, NOW + 10]


def test_what_came_after_its_grant_is_not_its_story():
    assert len(of_request(request(WAITED), [note("asked", NOW + 9.0, want="unload")])) == 3


def test_waits_are_told_with_their_length():
    waits = note("waits", NOW, **{"for": [{"what": "slots", "slots": 1, "waiting": 3}]})
    assert "beta waited: it is loaded, but its slot is taken. That took 7.0 s." in texts(
        of_request(request(WAITED), [waits])
    )


def test_a_request_that_waits_now_tells_of_now():
    story = {"arrived": WAITED["arrived"]}
    memory = {"what": "memory", "reason": "firefox holds it"}
    lines = texts(of_request(request(story, status=0, model="", total_s=4.0), [], [memory]))
    assert lines[-1] == "It waits now: firefox holds it."
    assert texts(of_request(request(story, status=0, model=""), [], []))[-1] == "It waits now: its turn is next."


def test_a_client_that_left_and_a_restored_conversation():
    assert texts(of_request(request(WAITED, status=499), []))[-1] == "Its client left after 10 s."
    talk = {**WAITED, "conversation": {"slot": 1, "restored": 900, "known": 1}}
    assert "slot 1, into which its saved conversation (900 tokens) was read back" in " ".join(
        texts(of_request(request(talk), []))
    )


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"kept": "pinned"}, "gamma is pinned."),
        ({"kept": "turn", "until_s": 30.0}, "gamma had its turn for 30 s more."),
        ({"kept": "turn", "until_s": None}, "gamma had its turn as long as it has work."),
        ({"kept": "session", "until_s": 1.5}, "gamma was kept for a session for 1.5 s more."),
        ({"kept": "protected"}, "goes last."),
        ({"kept": "regret", "regret": 12.5}, "missed more (regret 12.5)"),
        ({"kept": "draining"}, "gamma was draining."),
    ],
)
def test_why_this_one_left_and_no_other(kept, words):
    facts = {
        "why": "room for alpha",
        "for": "alpha",
        "active": 0,
        "idle_s": 20.0,
        "others": [{"model": "gamma", **kept}],
    }
    told = sentence(note("leaves", **facts, reload_s=9.0, regret=2.0, requests_of_late=0.5), "alpha")
    assert told.startswith(
        "beta had to leave for alpha (idle for 20 s). It was missed least: a reload takes about 9.0 s"
    )
    assert words in told


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"why": "idle", "idle_s": 300.0, "ttl_s": 300.0}, "nobody had asked for it for 5 min 0 s (ttl 5 min 0 s)"),
        ({"why": "unload asked"}, "an operator unloaded it"),
        ({"why": "more is held on gpu0 than it may give"}, "more is held on gpu0"),
    ],
)
def test_other_reasons_to_leave(facts, words):
    assert words in sentence(note("leaves", active=0, **facts), "beta")


def test_a_crash_says_what_follows():
    end = note("ended", reason="CUDA error", expected=False, was="ready", left="", times=3, short=True, backoff_s=5.0)
    assert sentence(end, "beta") == (
        "beta ended by itself: CUDA error. It found too little memory, so its estimate was raised. After 3 failures it is "
        "tried again in 5.0 s at the earliest."
    )


def test_notes_of_a_newer_kind_are_passed_over():
    assert of_model([note("invented")], "beta") == []
    assert obstacle({"what": "invented"}) == "invented"


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_noted_has_words(seed):
    play, told, notes = replace(traffic(seed), seconds=150.0), Chronicle(), []
    after = play.box._after

    def look(event, before, actions):
        after(event, before, actions)
        notes.extend(told.saw(play.box.fleet, event, actions, play.box.now))

    play.box._after = look
    play.play()
    assert notes
    for one in notes:
        said = sentence(NoteRow(one.at, one.model, one.kind, "", json.loads(json.dumps(one.facts))), one.model)
        assert said.endswith("."), one
        assert not re.search(r"None|\{|\bnan\b", said), said
        assert one.kind in Kind


async def test_the_history_tells_it_while_nothing_runs(tmp_path):
    file = tmp_path / "roundhouse.db"
    async with Store(file, clock=lambda: NOW) as store:
        store.record_request(request(WAITED))
        store.record_note(note("starts", waiting=1))
        store.record_note(note("leaves", model="alpha", beneficiary="beta", why="room for beta", active=0, idle_s=1.0))
        await store.flush()
        assert await store.request("r1") == request(WAITED)
        assert [n.model for n in await store.notes("beta", NOW - 1, NOW + 1)] == ["beta", "alpha"]
        assert await store.notes("beta", NOW + 1, NOW + 2) == []
    assert read_why(file, "r1").model == "beta"
    assert [line.text for line in read_why(file, "beta").lines] == [
        "beta began to load (1 request waited).",
        "alpha had to leave: room for beta.",
    ]
    assert read_why(file, "nobody") is None
