"""Models brought in and out of a TabbyAPI process by its admin API: the conversations, without their I/O.

The protocol is that of commits 84bb1ce (December 2025), 79126f9 (June 2026, the last with EXL2) and e632af4 (August
2026); where they differ, what all of them take is done. Knows nothing of processes, units or other requests: streams of
the model that leaves must have been closed before, for an unload lets them hang for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from roundhouse.core.model import Progress
from roundhouse.engines.tabbyapi import replies, settings, words
from roundhouse.engines.tabbyapi.stream import MOST, LoadEvents
from roundhouse.errors import LoadFailed
from roundhouse.ports import Exchange, Loads, More, Reply, Wait

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeVar

    from roundhouse.config.models import ModelConfig
    from roundhouse.engines.tabbyapi.settings import Card
    from roundhouse.ports import ModelFacts, Place, Step, Talk

    Given = TypeVar("Given")
    Part = Generator[Step, Reply | bytes | None, Given]
    """A piece of a talk that comes to a result."""

LOAD_LIMIT: Final = 900.0
"""Seconds until a load's answer must begin. It begins with the first module, after running answers have ended and after
a load that is under way; the load's own limits (`load_timeout`) are others' business."""
UNLOAD_LIMIT: Final = 60.0
PAUSE: Final = 0.25
USABLE_POLLS: Final = 120
"""Times PAUSE: 30 s in which a loaded model must appear."""
EMPTY_POLLS: Final = 40
LOST_POLLS: Final = 10
TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Sent:
    """How a load request ended: `lost` with its connection, or well; `counted` where modules were really loaded."""

    lost: bool = False
    counted: bool = False


class TabbyLoads(Loads):
    """Loads by the admin API."""

    def process(self, model: ModelConfig) -> str:
        """By checkout, port and unit; and by all that a process is told once, when it starts."""
        tabby = settings.tabby_of(model)
        told = (*model.args, *(f"{name}={text}" for name, text in sorted(model.env.items())))
        return " ".join(("tabbyapi", str(tabby.dir), str(tabby.model_dir), str(model.port), str(model.service), *told))

    def load(self, model: ModelConfig, facts: ModelFacts | None, place: Place | None = None) -> Talk:
        """Brings the model in and sees that it is there with what was asked for.

        What is loaded is unloaded first, even where a load would do it: a load of the same folder, in old versions of
        the same last name, changes nothing. What the model's own tabby_config.yml sets differently is accepted (current
        versions let it win) and told as a stage.
        """
        yield from _identify(model)
        want = settings.wanted(model, facts)
        card = yield from _loaded()
        if card is not None and settings.proven(card, model, want, place):
            return
        if card is not None:
            yield from _emptied(model)
        request = settings.load_request(model, facts, place)
        for _ in range(TRIES):
            sent = yield from _send(model, request)
            if sent.lost and (yield from _found_again(model)) is None:
                continue
            card = yield from _usable(model)
            differing = settings.differences(card, want)
            if sent.counted or not differing:
                stage = f"the model's tabby_config.yml says {', '.join(differing)}" if differing else "ready"
                yield Progress(MOST, stage)
                return
            yield from _emptied(model)  # it was in already, with other settings: nothing was loaded
        raise LoadFailed(
            f"TabbyAPI did not load {settings.basename(settings.tabby_of(model))} in {TRIES} tries; see its log"
        )

    def unload(self, model: ModelConfig) -> Talk:
        """Brings out whatever is loaded.

        A load that is under way can't be seen and goes on: only the end of the process ends it.
        """
        yield from _emptied(model)


def _identify(model: ModelConfig) -> Part[None]:
    """What answers is TabbyAPI, and takes our key as its admin key."""
    reply = yield from _ask("GET", "/.well-known/serviceinfo")
    if reply.status == 0:
        raise LoadFailed("TabbyAPI does not answer; see its log")
    if replies.answer(reply.body, "software", "name") != "TabbyAPI":
        raise LoadFailed("what answers on its port is not TabbyAPI: end that program, or give the model another `port`")
    reply = yield from _ask("GET", "/v1/auth/permission")
    permission = replies.answer(reply.body, "permission")
    if reply.status in {401, 403}:
        raise LoadFailed(words.refused_key(model, replies.text_of(reply.body)))
    if permission != "admin":
        raise LoadFailed(words.no_admin(model, permission))


def _loaded() -> Part[Card | None]:
    """What is loaded. None for nothing, and the same while a load is under way (503; 400 before April 2025)."""
    reply = yield from _ask("GET", "/v1/model")
    if reply.status == 0:
        raise LoadFailed("TabbyAPI stopped answering; see its log")
    return settings.card_of(reply.body) if reply.status == 200 else None


def _emptied(model: ModelConfig) -> Part[None]:
    """Unloads until nothing is loaded."""
    for _ in range(TRIES):
        reply = yield from _ask("POST", "/v1/model/unload", timeout=UNLOAD_LIMIT)
        if reply.status == 0:
            raise LoadFailed(f"TabbyAPI did not unload its model within {UNLOAD_LIMIT:.0f} s and has to be restarted")
        if reply.status in {401, 403}:
            raise LoadFailed(words.refused_key(model, replies.text_of(reply.body)))
        for _ in range(EMPTY_POLLS):
            if (yield from _loaded()) is None:
                return
            yield Wait(PAUSE)
    raise LoadFailed("TabbyAPI keeps a model loaded although it was told to unload it; restart it")


def _send(model: ModelConfig, request: bytes) -> Part[Sent]:
    """Asks for the load and follows it to the end of its stream, which is where it has succeeded or failed.

    The stream is read to its end also because old versions give a load up when its client leaves.
    """
    yield Progress(stage="waiting for TabbyAPI")
    reply = yield from _ask("POST", "/v1/model/load", request, timeout=LOAD_LIMIT, stream=True)
    if reply.status == 0:
        return Sent(lost=True)
    if reply.status != 200:
        body = yield from _rest()
        raise LoadFailed(words.refused(model, reply.status, replies.text_of(body)))
    events = LoadEvents()
    while piece := (yield from _more()):
        told = events.feed(piece)
        if told is not None:
            yield told
    if events.error is not None and not words.is_loaded_already(events.error):
        raise LoadFailed(words.load_error(events.error))
    if piece is None and not events.error:
        return Sent(lost=True, counted=events.counted)
    yield Progress(MOST, "making it ready")
    return Sent(counted=events.counted)


def _found_again(model: ModelConfig) -> Part[Card | None]:
    """The connection of a load was lost: whether the process still answers, and what it has loaded by now.

    Current versions go on with the load; asking again waits for it. Old ones have dropped it.
    """
    for _ in range(LOST_POLLS):
        yield Wait(PAUSE * 2)  # time for the process to be seen ending, which explains more
        reply = yield from _ask("GET", "/v1/model")
        if reply.status == 200:
            card = settings.card_of(reply.body)
            return card if card is not None and card.name == settings.basename(settings.tabby_of(model)) else None
        if reply.status != 0:
            return None
    raise LoadFailed("TabbyAPI stopped answering while it loaded; see its log")


def _usable(model: ModelConfig) -> Part[Card]:
    """Waits for the model's card: the stream's "finished" comes before the model can be used."""
    name = settings.basename(settings.tabby_of(model))
    card = None
    for _ in range(USABLE_POLLS):
        card = yield from _loaded()
        if card is not None and card.name == name:
            return card
        yield Wait(PAUSE)
    if card is None:
        raise LoadFailed(f"TabbyAPI said that {name} is loaded, but after 30 s has no model; see its log")
    raise LoadFailed(f"TabbyAPI has {card.name} loaded instead of {name}: does another program use it too?")


def _ask(method: str, path: str, body: bytes = b"", *, timeout: float = 10.0, stream: bool = False) -> Part[Reply]:
    answer = yield Exchange(method, path, body, timeout, stream)
    assert isinstance(answer, Reply)
    return answer


def _more() -> Part[bytes | None]:
    answer = yield More()
    assert answer is None or isinstance(answer, bytes)
    return answer


def _rest() -> Part[bytes]:
    """The body of a refusal, as much of it as anyone needs."""
    body = b""
    while len(body) < 65536 and (piece := (yield from _more())):
        body += piece
    return body
