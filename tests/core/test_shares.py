"""Who is next at a model's slots (spec D5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core.model import Device, Fleet, ModelSpec
from roundhouse.core.shares import Shares
from tests.core.story import Story, done, grant, nothing, ready, start

SIX = {"gpu0": 6}
A = ("a", "")


def test_d5_who_comes_anew_or_back_is_level_with_the_one_served_last():
    shares = Shares({("a", ""): 7.0, ("b", ""): 1.0}, level=5.0)
    assert [shares.of((key, "")) for key in ("a", "b", "new")] == [7.0, 5.0, 5.0]
    assert Shares().of(("new", "")) == 0.0


def test_d5_a_grant_is_charged_and_corrected_by_what_the_answer_took():
    shares = Shares({A: 5.0}).granted(A, 2.0)
    assert shares == Shares({A: 7.0}, level=5.0)
    assert shares.ended(A, 2.0, 9.0) == Shares({A: 14.0}, level=5.0)
    assert shares.ended(("b", ""), 2.0, 9.0) == shares


def test_d5_when_nobody_waits_any_more_all_start_anew():
    story = Story(Fleet([ModelSpec("alpha", claim=SIX)], [Device("gpu0", 10)]))
    story.asks(1, "alpha", key="a") << start(1, "alpha")
    story.asks(2, "alpha", key="a") << nothing
    story.asks(3, "alpha", key="a") << nothing
    story >> ready(1, 1) << grant(1, 1)
    story >> done(1) << grant(2, 1)
    assert story.fleet.models["alpha"].shares.charged
    story >> done(2) << grant(3, 1)
    assert story.fleet.models["alpha"].shares == Shares()


def test_d5_a_greedy_key_does_not_hold_up_a_modest_one():
    story = Story(Fleet([ModelSpec("alpha", claim=SIX)], [Device("gpu0", 10)]))
    story.asks(1, "alpha", key="greedy") << start(1, "alpha")
    story.asks(2, "alpha", key="greedy") << nothing
    story.asks(3, "alpha", key="greedy") << nothing
    story >> ready(1, 1) << grant(1, 1)
    story.now = 10.0
    story.asks(4, "alpha", key="modest") << nothing
    story >> done(1) << grant(4, 1)
    story.now = 12.0
    story >> done(4) << grant(2, 1)


def play(slots: int, seconds: dict[str, list[float]]) -> dict[str, float]:
    """Keys that always have the next request waiting; seconds each got until the first ran out of requests."""
    story = Story(Fleet([ModelSpec("alpha", claim=SIX)], [Device("gpu0", 10)]))
    waits = {key: list(lengths) for key, lengths in seconds.items()}
    number, ends, got = 0, {}, dict.fromkeys(seconds, 0.0)
    lengths: dict[int, tuple[str, float]] = {}

    def send(key: str) -> None:
        nonlocal number
        number += 1
        lengths[number] = (key, waits[key].pop(0))
        story.asks(number, "alpha", key=key)
        take(story.hears())

    def take(actions: list) -> None:
        for action in actions:
            if hasattr(action, "ticket"):
                ends[action.ticket.id] = story.now + lengths[action.ticket.id][1]

    for key in seconds:
        for _ in range(slots + 1):
            send(key)
    story >> ready(1, slots)
    take(story.hears())
    while all(waits.values()):
        ticket = min(ends, key=lambda t: ends[t])
        story.now = max(story.now, ends.pop(ticket))
        key, length = lengths[ticket]
        got[key] += length
        story >> done(ticket)
        take(story.hears())
        send(key)
    return got


@given(
    st.integers(1, 3),
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.lists(st.floats(0.5, 20.0), min_size=40, max_size=40), min_size=2
    ),
)
def test_d5_keys_with_work_get_the_same_time_whatever_the_length_of_their_answers(slots, seconds):
    got = play(slots, seconds)
    # Each may be ahead or behind by the answers that were begun before the last correction, at every slot.
    assert max(got.values()) - min(got.values()) <= 2 * slots * 20.0 + 20.0
