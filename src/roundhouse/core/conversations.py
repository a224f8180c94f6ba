"""Conversations that engines hold in their slots: which slot a request goes to, what is saved and brought back (D11).

A slot keeps the keys and values of the last prompt that it computed. A request that begins like that prompt need not
compute the common part again, which for a long chat takes longer than a load. So a conversation goes back to the slot
that holds it; what a slot holds is saved before something else takes its place or the engine stops; and what was saved
is brought back into a slot when a request begins like it.

Texts are not kept, only digests at some places of them (`Prefix`). Nothing saved for one API key is ever used for
another.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Talk = tuple[str, str, str]

STEPS: Final = ((1024, 64), (16 * 1024, 512), (1 << 62, 4096))
"""Up to so many bytes of a text, a mark every so many: short chats are told apart finely, long ones cheaply."""
LEAST_TOKENS: Final = 256
"""A conversation of fewer is computed again about as soon as it is read."""
LEAST_GAIN: Final = 128
"""Tokens that a saved conversation must have in common with a request beyond what a slot has."""
MOST_MISSED: Final = 2
"""So many conversations of a model in a row that its engine did not save, read or use, and it is given up."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """How a text begins: digests of all that stands before each mark, and the whole length in bytes."""

    marks: tuple[bytes, ...] = ()
    length: int = 0

    @classmethod
    def of(cls, text: bytes) -> Prefix:
        """Of a prompt's bytes; those after the last mark do not count."""
        marks, mark, start = [], b"", 0
        for end in _ends(len(text)):
            mark = blake2b(text[start:end], digest_size=8, key=mark).digest()
            marks.append(mark)
            start = end
        return cls(tuple(marks), len(text))

    @property
    def told(self) -> int:
        """Bytes up to the last mark: all that can be compared."""
        return _place(len(self.marks))


def shared(one: Prefix, other: Prefix) -> int:
    """Bytes at the beginning in which two texts are the same, down to a mark."""
    low, high = 0, min(len(one.marks), len(other.marks))
    while low < high:  # each mark stands for all before it
        middle = (low + high + 1) // 2
        if one.marks[middle - 1] == other.marks[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return _place(low)


def _ends(length: int) -> Iterator[int]:
    end, steps = 0, iter(STEPS)
    limit, step = next(steps)
    while end + step <= length:
        end += step
        yield end
        if end >= limit:
            limit, step = next(steps)


def _place(marks: int) -> int:
    """Where in a text the last of so many marks is."""
    place = 0
    for limit, step in STEPS:
        within = min(marks, (limit - place) // step)
        place += within * step
        marks -= within
        if not marks:
            break
    return place


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a slot came to hold by a request.

    Attributes:
        owner: the API key's name.
        talk: the session that the request belongs to.
        tokens: of prompt and answer, 0 where that is not known.
        used: seconds since the epoch.
        floor: so many of its tokens came from a file that has not all that a sliding window saw before their end. What
            goes on after them is right, what departs before they end is not; 0 where it may depart anywhere.
    """

    owner: str
    talk: Talk
    prefix: Prefix
    tokens: int
    used: float
    floor: int = 0

    @property
    def likely_tokens(self) -> int:
        """Tokens; where the engine did not say, by four bytes of text each."""
        return self.tokens or self.prefix.length // 4

    def tokens_of(self, size: int) -> float:
        """About how many of them so many bytes of its text are; none where no text is known."""
        told = self.prefix.told
        return self.likely_tokens * min(1.0, size / told) if told else 0.0


@dataclass(slots=True)
class Slot:
    """One slot of an engine that runs.

    Attributes:
        holds: None where that is empty or not known.
        empty: nothing was ever computed in it.
        busy: a request is in it.
        kept: the id of the saved conversation that is just what it holds.
    """

    number: int
    holds: Conversation | None = None
    empty: bool = True
    busy: bool = False
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved conversation: its file's id and size in bytes, and the state of the engine that can read it.

    `state` names everything that the file depends on: the model's file, the engine's build and all its settings.
    """

    id: str
    state: str
    size: int
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a request goes.

    Attributes:
        restore: what is brought into the slot first.
        keep: what the slot holds is saved before that.
        expected: bytes of its text that need not be computed then.
        fresh: nothing of what the slot holds may be used. It is somebody else's, and what an answer says of reused
            tokens would tell one key how another's prompts begin; or the request departs from it below its floor.
        floor: what the slot holds may be used if the request has at least so many tokens in common with it.
    """

    slot: Slot
    restore: Saved | None = None
    keep: bool = False
    expected: int = 0
    fresh: bool = False
    floor: int = 0


def choose(slots: Sequence[Slot], saved: Iterable[Saved], owner: str, talk: Talk, prefix: Prefix) -> Choice | None:
    """The slot for a request that begins so, among those that are not busy; None if all are."""
    free = [slot for slot in slots if not slot.busy]
    if not free:
        return None
    live = max(free, key=lambda slot: _likeness(slot, owner, talk, prefix))
    common = _common(live.holds, owner, prefix)
    best = max((one for one in saved if one.conversation.owner == owner), key=lambda s: _worth(s, prefix), default=None)
    known = shared(best.conversation.prefix, prefix) if best is not None else 0
    if best is not None and best.conversation.tokens_of(known - common) >= LEAST_GAIN:
        slot = min(free, key=_regret)
        return Choice(slot, restore=best, keep=_worth_keeping(slot), expected=known)
    if live.holds is not None and _continues(live.holds, owner, talk, prefix):
        return Choice(live, expected=common, floor=live.holds.floor)
    slot = min(free, key=_regret)
    common = _common(slot.holds, owner, prefix)
    return Choice(slot, keep=_worth_keeping(slot), expected=common, fresh=is_barred(slot, owner))


def is_barred(slot: Slot, owner: str) -> bool:
    """Whether a request that begins otherwise must use nothing of a slot: it may be another key's, or has a floor."""
    return not slot.empty and (slot.holds is None or slot.holds.owner != owner or slot.holds.floor > 0)


def _common(held: Conversation | None, owner: str, prefix: Prefix) -> int:
    return shared(held.prefix, prefix) if held is not None and held.owner == owner else 0


def _likeness(slot: Slot, owner: str, talk: Talk, prefix: Prefix) -> tuple[int, bool, float]:
    held = slot.holds
    same = held is not None and held.owner == owner and held.talk == talk
    return _common(held, owner, prefix), same, held.used if held is not None else 0.0


def _worth(saved: Saved, prefix: Prefix) -> tuple[int, float]:
    return shared(saved.conversation.prefix, prefix), saved.conversation.used


def _continues(held: Conversation, owner: str, talk: Talk, prefix: Prefix) -> bool:
    """Whether a request goes on with what is held: most of it is in it, or it is a short one of the same session."""
    if held.owner != owner:
        return False
    common = shared(held.prefix, prefix)
    return 2 * common >= held.prefix.told if held.prefix.marks else held.talk == talk


def _regret(slot: Slot) -> tuple[int, float]:
    """What is lost when something else takes a slot: nothing, what is saved or small, or a conversation."""
    if slot.holds is None:
        return (0 if slot.empty else 1), 0.0
    return (2 if _worth_keeping(slot) else 1), slot.holds.used


def _worth_keeping(slot: Slot) -> bool:
    return slot.holds is not None and slot.kept is None and slot.holds.likely_tokens >= LEAST_TOKENS


def worth_keeping(slots: Iterable[Slot]) -> list[Slot]:
    """Those of a leaving engine whose conversations are to be saved, the latest first."""
    found = [slot for slot in slots if not slot.busy and _worth_keeping(slot)]
    return sorted(found, key=lambda slot: slot.holds.used if slot.holds is not None else 0.0, reverse=True)


def pays(per_token: int, link: float, prefill: float | None) -> bool:
    """Whether writing and reading a token's state takes less than computing it.

    Args:
        per_token: bytes.
        link: bytes per second written or read.
        prefill: tokens per second that the engine computes, None where that is not known yet.
    """
    return prefill is None or 2 * per_token / link < 1 / prefill


def superseded(saved: Iterable[Saved], new: Saved) -> list[Saved]:
    """Those that a new one goes on with: nobody needs them any more."""
    mine = new.conversation
    return [
        one
        for one in saved
        if one.id != new.id
        and one.state == new.state
        and one.conversation.owner == mine.owner
        and one.conversation.prefix.marks
        and shared(one.conversation.prefix, mine.prefix) == one.conversation.prefix.told
    ]


def evicted(saved: Iterable[Saved], budget: int, size: int) -> list[Saved] | None:
    """Who leaves so that another one of `size` bytes fits the budget: the longest unused; None if it never fits."""
    if size > budget:
        return None
    oldest = sorted(saved, key=lambda one: one.conversation.used)
    total, gone = sum(one.size for one in oldest) + size, []
    for one in oldest:
        if total <= budget:
            break
        gone.append(one)
        total -= one.size
    return gone


@dataclass(slots=True)
class Tally:
    """What came of a model's conversations in one state of its engine, and why they are not kept any more (`off`)."""

    state: str = ""
    saved: int = 0
    restored: int = 0
    failed: int = 0
    off: str = ""
    in_a_row: int = 0
    prefill: float | None = None
    """Tokens per second that its engine computed of late."""

    def judge(self, saved: Saved, expected: int, reused: int) -> bool:
        """Takes in how many tokens of a restored conversation the engine used, where it had `expected` bytes of it.

        The engine's own word at the restore is worth nothing: with a sliding window it says 200 and uses none.
        """
        likely = saved.conversation.tokens_of(expected)
        if 2 * reused >= likely:
            self.restored += 1
            self.in_a_row = 0
            return True
        self.missed(f"the engine used {reused} of about {likely:.0f} restored tokens")
        return False

    def missed(self, reason: str) -> None:
        """Takes in that one was of no use, or could not be saved or read."""
        self.failed += 1
        self.in_a_row += 1
        if self.in_a_row >= MOST_MISSED:
            self.off = reason
