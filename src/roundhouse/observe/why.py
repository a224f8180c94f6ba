"""Why a request waited and why a model came or went, in plain words, from what was recorded when it was decided.

Pure: gets the history's rows, gives lines. `core.chronicle` says what the facts of a note are.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from roundhouse.errors import RequestCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from roundhouse.observe.store import NoteRow, Request

    Facts = Mapping[str, Any]

LOOK_BACK = 3600.0
"""Seconds before a request within which notes may tell what it found when it came."""
AT_ONCE = 0.05
"""Seconds of waiting that are not worth a word."""


class Line(NamedTuple):
    """One thing to say: when it was, in seconds since the epoch."""

    at: float
    text: str


def of_request(request: Request, notes: Sequence[NoteRow], now: Sequence[Facts] | None = None) -> list[Line]:
    """The story of one request.

    Args:
        request: as the history has it; of one that has not ended the status is 0.
        notes: of the model it asked for, from `LOOK_BACK` before it came until it was granted.
        now: what it waits for now, None for one that does not wait.
    """
    story: Facts = orjson.loads(request.why) if request.why else {}
    wanted = request.wanted or request.model
    lines = [Line(request.at, _arrival(request, wanted, story))]
    granted, refused = story.get("granted"), story.get("refused")
    waited = (request.queue_s or 0.0) + (request.load_s or 0.0)
    if granted is not None:
        waited = granted["after_s"]
    elif refused is not None:
        waited = refused["after_s"]
    elif not request.model or request.status == 499:
        waited = request.total_s or 0.0
    until = request.at + waited
    if story.get("arrived") is not None:
        lines += _between(notes, wanted, request.at, None if now is not None else until)
    lines += _outcome(request, wanted, story, until)
    if now is not None:
        lines += [Line(until, f"It waits now: {obstacle(fact)}.") for fact in now]
        if not now:
            lines.append(Line(until, "It waits now: its turn is next."))
    elif request.status:
        lines.append(Line(request.at + (request.total_s or 0.0), _end(request)))
    # Two clocks told these times, so neighbours may be a millisecond out of order.
    times = accumulate((line.at for line in lines), max)
    return [Line(at, line.text) for at, line in zip(times, lines, strict=True)]


def of_model(notes: Sequence[NoteRow], model: str) -> list[Line]:
    """What happened to a model of late, and to others for it."""
    return [Line(note.at, text) for note in notes if (text := sentence(note, model))]


def sentence(note: NoteRow, model: str) -> str:
    """One note in words; '' where it says nothing to somebody who asks about that model."""
    say = _SENTENCES.get(note.kind)
    return say(note, model) if say is not None else ""


def obstacle(fact: Facts) -> str:
    """What is waited for, as a part of a sentence."""
    say = _OBSTACLES.get(fact["what"])
    return say(fact) if say is not None else str(fact["what"])


# --- requests ---


def _arrival(request: Request, wanted: str, story: Facts) -> str:
    what = f"A background task ({request.task})" if request.task else "A request"
    came = f"{what} came for {wanted}"
    arrived = story.get("arrived")
    if arrived is None and "refused" in story:
        return f"{came}. {_loaded(story['refused'].get('here', ()))}"
    if arrived is None:
        waited = (request.queue_s or 0.0) + (request.load_s or 0.0)
        went = request.service_s is not None or not request.status  # to an engine, or is on its way
        if not request.model or "granted" in story or waited > AT_ONCE or not went:
            return f"{came}."
        return f"{came}, which was loaded and had a free slot: it was answered at once."
    before = arrived.get("before", 0)
    queue = f" {_count(before, 'request')} for {wanted} waited already." if before else ""
    return f"{came}. {_loaded(arrived.get('here', ()))}{queue}"


def _loaded(here: Sequence[Facts]) -> str:
    if not here:
        return "Nothing was loaded then."
    told = []
    for each in here:
        state = each["state"]
        if state == "ready":
            active = each["active"]
            state = f"answering {active} of at most {each['slots']}" if active else "idle"
        told.append(f"{each['model']} ({state})")
    return f"Loaded then: {', '.join(told)}."


def _between(notes: Sequence[NoteRow], wanted: str, since: float, until: float | None) -> Iterator[Line]:
    """What happened while it waited; what was so already when it came is told as of then."""
    slack = 0.05  # a note may be written a moment before the request's own clock was read
    earlier = [note for note in notes if note.at < since - slack and note.model == wanted]
    during = [note for note in notes if since - slack <= note.at and (until is None or note.at <= until + slack)]
    if earlier and earlier[-1].kind in {"waits", "starts"}:
        yield Line(since, f"Since {_s(since - earlier[-1].at)} before: {sentence(earlier[-1], wanted)}")
    for number, note in enumerate(during):
        text = sentence(note, wanted)
        if note.kind == "waits":
            ends = next((n.at for n in during[number + 1 :] if n.model == wanted and n.kind != "asked"), until)
            text += f" That took {_s(ends - note.at)}." if ends is not None and ends - note.at > AT_ONCE else ""
        if text:
            yield Line(note.at, text)


def _outcome(request: Request, wanted: str, story: Facts, until: float) -> Iterator[Line]:
    granted, refused, talk = story.get("granted"), story.get("refused"), story.get("conversation")
    if granted is not None and (moved := granted.get("moved")):
        yield Line(
            until,
            f"{wanted} was not loaded, and a background task never switches models: it went to {moved}, which was.",
        )
    elif granted is not None:
        yield Line(until, f"{wanted} took it after {_s(granted['after_s'])}.")
    if refused is not None:
        yield Line(until, f"It was refused after {_s(refused['after_s'])}: {refused['error']}")
    if talk is not None:
        yield Line(until, _conversation(talk))


def _conversation(talk: Facts) -> str:
    if talk.get("slot") is None:
        return "Its engine chose the slot, as none was free of others' conversations."
    where = f"It was put into slot {talk['slot']}"
    if talk.get("restored"):
        return f"{where}, into which its saved conversation ({_count(talk['restored'], 'token')}) was read back."
    return f"{where}, which held its conversation still." if talk.get("known") else f"{where}; nothing was kept of it."


def _end(request: Request) -> str:
    took = _s(request.total_s or 0.0)
    if request.status == 499 and not request.error.startswith(RequestCancelled.SAID):
        return f"Its client left after {took}."
    said = f": {request.error}" if request.error else ""
    return f"It ended after {took} with status {request.status}{said}"[:600] + ("" if said else ".")


# --- notes ---


def _waits(note: NoteRow, model: str) -> str:
    if note.model != model:
        return ""
    told = "; ".join(obstacle(fact) for fact in note.facts["for"])
    return f"{note.model} waited: {told}."


def _leaves(note: NoteRow, _model: str) -> str:
    facts = note.facts
    if "for" not in facts:
        return f"{note.model} had to leave: {_reason(facts)}."
    busy = _count(facts["active"], "answer")
    doing = f"while it gave {busy}, which it finishes first" if facts["active"] else f"idle for {_s(facts['idle_s'])}"
    others = "".join(f" {_other(other)}" for other in facts.get("others", ()))
    return f"{note.model} had to leave for {facts['for']} ({doing}).{_cost(facts)}{others}"


def _reason(facts: Facts) -> str:
    why = facts["why"]
    if why == "idle":
        ttl = f" (ttl {_s(facts['ttl_s'])})" if facts.get("ttl_s") else ""
        return f"nobody had asked for it for {_s(facts['idle_s'])}{ttl}"
    return "an operator unloaded it" if why == "unload asked" else str(why)


def _cost(facts: Facts) -> str:
    reload, rate = facts.get("reload_s"), facts.get("requests_of_late", 0.0)
    known = f"a reload takes about {_s(reload)}" if reload else "what a reload takes was not known yet"
    return f" It was missed least: {known}, asked for {rate:g} times of late, regret {facts.get('regret', 0.0):g}."


def _other(other: Facts) -> str:
    name, kept, until = other["model"], other["kept"], other.get("until_s")
    time = f" for {_s(until)} more" if until else " as long as it has work"
    busy = " and was answering" if other.get("active") else ""
    says = {
        "pinned": "is pinned",
        "turn": f"had its turn{time}",
        "session": f"was kept for a session{time}",
        "resident": f"stayed for its min_resident{time}",
        "protected": "serves embeddings or reranking and goes last",
        "regret": f"would have been missed more (regret {other.get('regret', 0.0):g}){busy}, or was not enough",
    }
    return f"{name} {says.get(kept, f'was {kept}')}."


def _stays(note: NoteRow, _model: str) -> str:
    return f"{note.model} was called back: its place was not needed any more."


def _starts(note: NoteRow, model: str) -> str:
    waiting = note.facts["waiting"]
    who = f" ({_count(waiting, 'request')} waited)" if waiting else ""
    if not waiting and note.facts.get("asked"):
        who = " (an operator or preload asked)"
    return f"{note.model} began to load{who}." if note.model == model else ""


def _ready(note: NoteRow, _model: str) -> str:
    facts = note.facts
    stages = [f"{stage} {_s(seconds)}" for stage, seconds in facts["stages"].items() if seconds >= AT_ONCE]
    parts = f" ({', '.join(stages)})" if stages else ""
    expected = facts.get("expected_s")
    usual = f"; about {_s(expected)} was expected" if expected else "; how long it takes was not known"
    return f"{note.model} was loaded in {_s(facts['seconds'])}{parts}{usual}."


def _ended(note: NoteRow, _model: str) -> str:
    facts = note.facts
    if facts["expected"]:
        left = facts.get("left")
        return f"{note.model} was gone and its memory back{f' ({left})' if left else ''}."
    what = "could not be loaded" if facts["was"] == "loading" else "ended by itself"
    short = " It found too little memory, so its estimate was raised." if facts.get("short") else ""
    backoff = facts.get("backoff_s")
    again = f" After {facts['times']} failures it is tried again in {_s(backoff)} at the earliest." if backoff else ""
    return f"{note.model} {what}: {facts['reason']}.{short}{again}"


def _asked(note: NoteRow, _model: str) -> str:
    return f"An operator or preload asked to {note.facts['want']} {note.model}."


def _found(note: NoteRow, _model: str) -> str:
    pid = f" (pid {note.facts['pid']})" if note.facts.get("pid") else ""
    return f"{note.model} was found running{pid} and taken over."


_SENTENCES: Mapping[str, Callable[[NoteRow, str], str]] = {
    "waits": _waits,
    "leaves": _leaves,
    "stays": _stays,
    "starts": _starts,
    "ready": _ready,
    "ended": _ended,
    "asked": _asked,
    "found": _found,
}


# --- what is waited for ---


def _turn(fact: Facts) -> str:
    until = fact.get("until_s")
    doing = "has its turn" if fact["what"] == "turn" else "is kept for a session that may go on"
    return f"{fact['model']} {doing}{f' for at most {_s(until)} more' if until else ' as long as it has work'}"


def _drain(fact: Facts) -> str:
    return f"{fact['model']} finishes {_count(fact['answers'], 'answer')}, then its place is free"


def _load(fact: Facts) -> str:
    stage = fact.get("stage")
    return f"it is being loaded ({stage})" if stage else "it is being loaded"


def _slots(fact: Facts) -> str:
    slots = fact["slots"]
    return f"it is loaded, but {'its slot is' if slots == 1 else f'all of its {slots} slots are'} taken"


def _return(fact: Facts) -> str:
    return f"it is itself on its way out ({fact['why'] or 'stopping'}) and comes back after that"


_OBSTACLES: Mapping[str, Callable[[Facts], str]] = {
    "turn": _turn,
    "session": _turn,
    "drain": _drain,
    "unload": lambda fact: f"{fact['model']} is being unloaded",
    "other_load": lambda fact: f"{fact['model']} is being loaded first",
    "load": _load,
    "slots": _slots,
    "return": _return,
    "order": lambda fact: f"{', '.join(fact['models'])} came first",
    "memory": lambda fact: str(fact["reason"]),
}


def _s(seconds: float) -> str:
    """A duration for people."""
    if seconds < 10:
        return f"{max(0.0, seconds):.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes / 60:.1f} h"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
