"""Which slot a conversation goes to, what is saved and brought back (spec D11)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.core import conversations as decide
from roundhouse.core.conversations import Conversation, Prefix, Saved, Slot, Tally, choose, shared

LONG = b"".join(b"The number %d comes after %d. " % (n + 1, n) for n in range(400))
TALK = ("key", "", "chat")
OTHER_TALK = ("key", "", "other chat")


def held(text: bytes = LONG, owner: str = "key", talk: decide.Talk = TALK, tokens: int = 3000, used: float = 1.0):
    return Conversation(owner, talk, Prefix.of(text), tokens, used)


def slot(number: int = 0, holds: Conversation | None = None, *, busy: bool = False, kept: str | None = None) -> Slot:
    return Slot(number, holds, empty=holds is None, busy=busy, kept=kept)


def saved(name: str = "a", text: bytes = LONG, owner: str = "key", used: float = 1.0, size: int = 100) -> Saved:
    return Saved(name, "state", size, held(text, owner, used=used))


def chosen(slots, text=LONG, shelf=(), owner="key", talk=TALK):
    return choose(slots, shelf, owner, talk, Prefix.of(text))


# --- how texts are compared ---


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 60_000))
def test_d11_what_two_texts_share_is_never_overrated_and_seldom_underrated(a: bytes, b: bytes, length: int):
    start = (LONG * 5)[:length]
    one, other = start + a, start + b
    common = next((n for n, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    found = shared(Prefix.of(one), Prefix.of(other))
    assert found <= common
    step = next(step for limit, step in decide.STEPS if common < limit)
    assert common - found < max(step, 1) or common - found < 64 * 2


def test_d11_a_text_has_few_marks_however_long_it_is():
    assert len(Prefix.of(b"x" * 1000).marks) == 15
    assert len(Prefix.of(b"x" * 400_000).marks) < 160
    assert Prefix.of(b"x" * 100).told == 64


def test_d11_a_mark_stands_for_all_before_it():
    one, other = Prefix.of(b"a" + LONG), Prefix.of(b"b" + LONG)
    assert shared(one, other) == 0
    assert not set(one.marks) & set(other.marks)


# --- which slot ---


def test_d11_a_conversation_goes_back_to_the_slot_that_holds_it():
    mine = slot(1, held())
    choice = chosen([slot(0), mine, slot(2, held(b"z" * 9000))], LONG + b"and its next turn")
    assert choice is not None
    assert (choice.slot, choice.restore, choice.keep, choice.fresh) == (mine, None, False, False)
    assert choice.expected > len(LONG) - 512


def test_d11_a_busy_slot_is_not_given_away():
    assert chosen([slot(0, held(), busy=True), slot(1, busy=True)]) is None
    choice = chosen([slot(0, held(), busy=True), slot(1)])
    assert choice is not None
    assert choice.slot.number == 1


def test_d11_a_new_conversation_takes_an_empty_slot_before_one_that_holds_another():
    choice = chosen([slot(0, held()), slot(1)], b"something else" * 100)
    assert choice is not None
    assert (choice.slot.number, choice.keep, choice.fresh) == (1, False, False)


def test_d11_what_a_small_task_would_overwrite_is_saved_first():
    choice = chosen([slot(0, held())], b"Make a title for this chat: " * 10)
    assert choice is not None
    assert choice.keep


@pytest.mark.parametrize(("tokens", "kept"), [(decide.LEAST_TOKENS - 1, None), (3000, "saved already"), (3000, "")])
def test_d11_what_is_small_or_saved_already_is_not_saved_again(tokens: int, kept: str | None):
    choice = chosen([slot(0, held(tokens=tokens), kept=kept)], b"something else" * 100)
    assert choice is not None
    assert not choice.keep


def test_d11_of_full_slots_the_one_goes_whose_loss_costs_least():
    kept, fresh, older = slot(0, held(b"x" * 9000), kept="a"), slot(1, held(b"y" * 9000)), slot(2, held(b"z" * 9000))
    older.holds = held(b"z" * 9000, used=0.5)
    for slots, wanted in (([fresh, kept, older], kept), ([fresh, older], older)):
        choice = chosen(slots, b"something else" * 100)
        assert choice is not None
        assert choice.slot is wanted


def test_d11_a_short_conversation_is_known_by_its_session():
    short = Prefix.of(b"hi")
    assert not short.marks
    slots = [slot(0, held(b"hi", talk=OTHER_TALK)), slot(1, held(b"hi", talk=TALK))]
    choice = chosen(slots, b"hi there")
    assert choice is not None
    assert choice.slot.number == 1


def test_d11_an_edited_conversation_stays_in_its_slot_if_most_of_it_stands():
    mine = slot(0, held())
    for cut, stays in ((len(LONG) * 3 // 4, True), (len(LONG) // 4, False)):
        choice = chosen([mine, slot(1)], LONG[:cut] + b"no, something else" * 50)
        assert choice is not None
        assert (choice.slot is mine) is stays


# --- what is brought back ---


def test_d11_a_saved_conversation_is_brought_into_a_free_slot():
    choice = chosen([slot(0, held(b"z" * 9000)), slot(1)], LONG + b"and its next turn", [saved()])
    assert choice is not None
    assert (choice.slot.number, choice.restore, choice.keep) == (1, saved(), False)
    assert choice.expected > len(LONG) - 512


def test_d11_what_a_slot_still_holds_is_better_than_what_was_saved_of_it():
    choice = chosen([slot(0, held()), slot(1)], LONG + b"and its next turn", [saved()])
    assert choice is not None
    assert (choice.slot.number, choice.restore) == (0, None)


def test_d11_of_saved_ones_the_longest_match_is_brought_back():
    shelf = [saved("short", LONG[:4000], used=9.0), saved("long", LONG), saved("other", b"z" * 9000)]
    choice = chosen([slot()], LONG + b"more", shelf)
    assert choice is not None
    assert choice.restore is not None
    assert choice.restore.id == "long"


def test_d11_little_in_common_is_not_worth_bringing_back():
    tokens = 3000 / Prefix.of(LONG).told
    for share, restored in ((decide.LEAST_GAIN * 0.7, False), (decide.LEAST_GAIN * 1.3, True)):
        choice = chosen([slot()], LONG[: int(share / tokens)] + b"z" * 3000, [saved()])
        assert choice is not None
        assert (choice.restore is not None) is restored


def test_d11_what_stands_in_the_way_of_a_restore_is_saved_first():
    choice = chosen([slot(0, held(b"z" * 9000))], LONG, [saved()])
    assert choice is not None
    assert choice.restore is not None
    assert choice.keep


# --- keys ---


def test_d11_nothing_saved_for_one_key_is_brought_back_for_another():
    choice = chosen([slot()], LONG, [saved(owner="somebody else")])
    assert choice is not None
    assert choice.restore is None


def test_d11_nothing_of_what_a_slot_holds_for_one_key_is_used_for_another():
    choice = chosen([slot(0, held(owner="somebody else"))], LONG)
    assert choice is not None
    assert choice.fresh
    assert choice.expected == 0


def test_d11_what_goes_on_after_a_floor_has_to_be_tried_and_what_does_not_uses_nothing():
    """Of a sliding window a file has only the last one: nobody may go back in it."""
    restored = slot(0, replace(held(), floor=2900))
    goes_on = chosen([restored], LONG + b"And then?")
    assert (goes_on.slot, goes_on.floor, goes_on.fresh) == (restored, 2900, False)
    elsewhere = chosen([restored], LONG[:400] + b"Something else. " * 900)
    assert (elsewhere.slot, elsewhere.floor, elsewhere.fresh) == (restored, 0, True)


def test_d11_nothing_of_what_is_not_known_is_used():
    choice = chosen([Slot(0, None, empty=False)], LONG)
    assert choice is not None
    assert choice.fresh


TEXTS = st.sampled_from([LONG, LONG[:5000], LONG + b"more" * 500, b"z" * 9000, b"hi", b""])
OWNERS = st.sampled_from(["key", "another", ""])
HELD = st.builds(held, TEXTS, OWNERS, st.sampled_from([TALK, OTHER_TALK]), st.integers(0, 5000), st.floats(0, 9))
SLOTS = st.lists(
    st.builds(Slot, st.just(0), st.none() | HELD, st.booleans(), st.booleans(), st.sampled_from([None, "", "file"])),
    max_size=4,
)
SHELVES = st.lists(st.builds(saved, st.just("x"), TEXTS, OWNERS, st.floats(0, 9)), max_size=4)


@given(SLOTS, SHELVES, OWNERS, TEXTS)
def test_d11_whatever_is_held_and_saved_a_choice_is_sound(slots, shelf, owner, text):
    for number, one in enumerate(slots):
        one.number, one.empty = number, one.empty and one.holds is None
    choice = choose(slots, shelf, owner, TALK, Prefix.of(text))
    assert (choice is None) == all(one.busy for one in slots)
    if choice is None:
        return
    assert not choice.slot.busy
    assert choice.restore is None or choice.restore.conversation.owner == owner
    of_others = choice.slot.holds is not None and choice.slot.holds.owner != owner
    unknown = choice.slot.holds is None and not choice.slot.empty
    assert choice.restore is not None or choice.fresh == (of_others or unknown)
    lost = choice.slot in decide.worth_keeping(slots) and (of_others or choice.restore is not None)
    assert choice.keep or not lost
    best = max(
        (shared(o.holds.prefix, Prefix.of(text)) for o in slots if o.holds and o.holds.owner == owner and not o.busy),
        default=0,
    )
    if choice.restore is not None:
        assert choice.restore.conversation.tokens_of(choice.expected - best) >= decide.LEAST_GAIN


# --- what is saved, and for how long ---


def test_d11_the_latest_conversation_of_a_leaving_engine_is_saved_first():
    slots = [slot(0, held(used=1.0)), slot(1, held(used=3.0)), slot(2, held(used=2.0), busy=True), slot(3)]
    assert [one.number for one in decide.worth_keeping(slots)] == [1, 0]


@pytest.mark.parametrize(
    ("link", "prefill", "worth"), [(1e9, None, True), (1e9, 1000.0, True), (1e6, 1000.0, False), (1e9, 1e6, False)]
)
def test_d11_what_is_computed_sooner_than_it_is_read_is_not_saved(link: float, prefill: float | None, worth: bool):
    assert decide.pays(100_000, link, prefill) is worth


def test_d11_an_older_state_of_the_same_conversation_leaves():
    new = saved("new", LONG + b"more" * 300)
    older, other, foreign = saved("older"), saved("other", b"z" * 9000), saved("foreign", owner="another")
    elsewhere = Saved("elsewhere", "another state", 1, held())
    unmarked = saved("unmarked", b"hi")
    assert decide.superseded([older, other, foreign, elsewhere, unmarked, new], new) == [older]


def test_d11_the_budget_is_kept_by_letting_the_longest_unused_go():
    shelf = [saved("a", used=2.0, size=40), saved("b", used=1.0, size=40), saved("c", used=3.0, size=40)]
    assert decide.evicted(shelf, 200, 80) == []
    assert [one.id for one in decide.evicted(shelf, 150, 40) or ()] == ["b"]
    assert [one.id for one in decide.evicted(shelf, 150, 150) or ()] == ["b", "a", "c"]
    assert decide.evicted(shelf, 150, 151) is None


# --- whether it was of any use ---


def test_d11_a_restore_is_judged_by_what_the_answer_reused():
    tally = Tally()
    assert tally.judge(saved(), len(LONG), 2900)
    assert (tally.restored, tally.failed, tally.off) == (1, 0, "")
    assert not tally.judge(saved(), len(LONG), 0)
    assert tally.off == ""
    assert tally.judge(saved(), len(LONG), 2900)  # once may be chance
    for _ in range(decide.MOST_MISSED):
        tally.judge(saved(), len(LONG), 7)
    assert (tally.restored, tally.failed) == (2, 3)
    assert tally.off == "the engine used 7 of about 3000 restored tokens"


def test_d11_an_engine_that_saves_nothing_is_not_asked_for_ever():
    tally = Tally()
    for _ in range(decide.MOST_MISSED):
        assert tally.off == ""
        tally.missed("it said no")
    assert (tally.failed, tally.off) == (2, "it said no")


def test_d11_a_restore_of_which_only_a_part_was_to_be_used_is_judged_by_that_part():
    assert Tally().judge(saved(), len(LONG) // 4, 700)
    assert not Tally().judge(saved(), len(LONG) // 4, 300)
