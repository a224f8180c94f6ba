import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse.engines.tabbyapi.stream import LONGEST_LINE, MOST, LoadEvents
from tests.engines.tabbyapi.samples import capture


def told(body: bytes, size: int = 1) -> tuple[LoadEvents, list]:
    events = LoadEvents()
    found = [events.feed(body[at : at + size]) for at in range(0, len(body), size)]
    return events, [progress for progress in found if progress is not None]


def module(number: int, of: int, part: str = "model", status: str = "processing") -> bytes:
    return (
        b"data: "
        + json.dumps({"model_type": part, "module": number, "modules": of, "status": status}).encode()
        + b"\r\n\r\n"
    )


def test_c5_the_percent_is_exact():
    _, found = told(capture("30-load-8b.txt")[1])
    assert [progress.fraction for progress in found] == [*(n / 8 for n in range(1, 8)), MOST, MOST]
    assert {progress.stage for progress in found} == {"reading weights"}
    assert not any(progress.guessed for progress in found)


def test_c5_several_parts_each_finished_are_one_load():
    events, found = told(capture("87-load-vision.txt")[1])
    fractions = [progress.fraction for progress in found]
    assert fractions == sorted(fractions)
    assert fractions[2] == pytest.approx(0.05)  # the vision projector has finished; the load has not
    assert [progress.stage for progress in found][::6] == [
        "reading the vision projector",
        "reading the draft model",
        "reading weights",
    ]
    assert fractions[-1] == MOST
    assert events.counted


def test_a_load_of_what_is_in_counts_nothing():
    events, found = told(capture("33-load-same.txt")[1])
    assert not events.counted
    assert found[-1].fraction == MOST
    assert not LoadEvents().counted  # nor does an empty stream


def test_an_error_event_is_kept_and_what_was_told_before_stands():
    events, found = told(capture("78-load-oom.txt")[1])
    assert events.error == "Insufficient VRAM in split for model and cache"
    assert len(found) == 9


def test_an_error_after_finished_is_an_error():
    events, _ = told(module(2, 2) + module(2, 2, status="finished") + b'data: {"error":{"message":"late"}}\r\n\r\n')
    assert events.error == "late"


def test_pings_and_nonsense_say_nothing():
    events, found = told(
        b": ping - 2026\r\n\r\ndata: [DONE]\r\n\r\ndata: {}\r\ndata: 7\r\n" + module(0, 0) + module(9, 3)
    )
    assert found == []
    assert events.error is None


def test_e6_a_line_without_end_is_not_kept():
    events = LoadEvents()
    for _ in range(3):
        events.feed(b"x" * LONGEST_LINE)
    assert len(events._rest) <= LONGEST_LINE


@settings(deadline=None)
@given(st.integers(1, 70))
def test_the_same_however_the_bytes_are_cut(size):
    body = capture("86-load-draft2.txt")[1]
    assert told(body, size)[1][-1] == told(body)[1][-1]
    assert told(body, size)[0].counted


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["vision", "draft", "model", "other"]), st.integers(1, 9), st.booleans()), max_size=12
    )
)
def test_it_never_says_that_all_is_done(parts):
    events = LoadEvents()
    for part, modules, finished in parts:
        for number in range(1, modules + 1):
            progress = events.feed(module(number, modules, part, "finished" if finished else "processing"))
            assert 0 < progress.fraction <= MOST
