"""Requests of other APIs become OpenAI requests, and their answers come back in their own words: with a made-up API."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from roundhouse.api.auth import Caller
from roundhouse.api.routes import API, PATH, ROUTES
from roundhouse.api.translated import Spoken
from roundhouse.config.models import Limits
from roundhouse.core.model import Want
from roundhouse.errors import BadRequest, LoadFailed, Unauthorized


class Shout:
    """Everything in capitals."""

    path, content_type = "/v1/chat/completions", b"application/x-shout"

    model = "m"

    def __init__(self, body: bytes, before: Want | None = None, after: Want | None = None) -> None:
        self.body, self.before, self.after = body, before, after

    def feed(self, data: bytes) -> bytes:
        return data.upper() if data != b"quiet" else b""

    def end(self) -> bytes:
        return b"!"

    def whole(self, body: bytes) -> bytes:
        if body == b"odd":
            raise KeyError("choices")
        return body.upper()


FAULTS = {b"deep": RecursionError("deep"), b"odd": KeyError("odd")}
WISHES = {b"load": (Want.LOAD, None), b"unload": (Want.UNLOAD, None), b"hi, and go": (None, Want.UNLOAD)}


class Shouting:
    name = "shout"

    def translate(self, path, headers, raw):
        if raw == b"bad":
            raise BadRequest("Not so.")
        if raw in FAULTS:
            raise FAULTS[raw]
        before, after = WISHES.get(raw, (None, None))
        return Shout(b"openai:" + raw, before, after)

    def error(self, status, fields):
        return f"{status} {fields['message'].upper()}".encode()


class Wire:
    """A client's ASGI side, and a gateway that answers what the test says."""

    def __init__(self, *answer: dict, body: bytes = b"hi", known: bool = True, headers=()) -> None:
        self.answer, self.body, self.sent, self.got = answer, body, [], None
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/shout",
            "query_string": b"",
            "headers": [(b"content-type", b"text/x"), *headers],
        }
        self.known = known
        self.left = 0
        self.done: list[str] = []
        self.broken = False
        self.caller = Caller("", anonymous=True)

    async def receive(self):
        self.left += 1
        return {"type": "http.request", "body": self.body} if self.left == 1 else {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    def unexpected(self, where, error):
        self.done.append(f"told of {error!r}")

    async def __call__(self, scope, receive, send, route):
        """As the gateway."""
        self.got = SimpleNamespace(scope=scope, route=route, body=await receive(), then=await receive())
        for message in self.answer:
            await send(message)

    def identify(self, headers, query):
        if not self.known:
            raise Unauthorized("Who are you?")
        return self.caller

    def require_model(self, caller, name):
        self.done.append(f"may {name}")

    async def load(self, name):
        if self.broken:
            raise LoadFailed("It is broken.")
        self.done.append(f"load {name}")

    async def unload(self, name):
        self.done.append(f"unload {name}")

    async def run(self):
        guard = SimpleNamespace(relay=lambda *_: None)
        spoken = Spoken(self, self, SimpleNamespace(identify=self.identify), guard, Limits(body=100), Shouting())
        await spoken(self.scope, self.receive, self.send)
        head, *parts = self.sent
        return head["status"], dict(head["headers"]), [part["body"] for part in parts]


def head(status: int, kind: bytes) -> dict:
    headers = [(b"content-type", kind), (b"content-length", b"5"), (b"x-request-id", b"r")]
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, *, more: bool = False) -> dict:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_the_gateway_sees_an_openai_request_and_when_the_client_leaves():
    wire = Wire(head(200, b"application/json"), part(b"fine"))
    await wire.run()
    assert wire.got.body == {"type": "http.request", "body": b"openai:hi", "more_body": False}
    assert wire.got.then == {"type": "http.disconnect"}
    assert wire.got.route is ROUTES["/v1/chat/completions"]
    scope = wire.got.scope
    assert (scope["path"], scope[API], scope[PATH]) == ("/v1/chat/completions", "shout", "/shout")
    headers = dict(scope["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == b"9"
    assert headers[b"x-roundhouse-status"] == b"event"


async def test_a_channel_that_the_client_names_stays():
    wire = Wire(head(200, b"application/json"), part(b"fine"), headers=[(b"x-roundhouse-status", b"off")])
    await wire.run()
    assert dict(wire.got.scope["headers"])[b"x-roundhouse-status"] == b"off"


async def test_an_answer_in_one_piece_is_translated_when_it_is_whole():
    status, headers, parts = await Wire(head(200, b"application/json"), part(b"fi", more=True), part(b"ne")).run()
    assert (status, parts) == (200, [b"FINE"])
    assert headers == {b"x-request-id": b"r", b"content-type": b"application/json", b"content-length": b"4"}


async def test_a_stream_is_translated_piece_by_piece():
    answer = (
        head(200, b"text/event-stream; charset=utf-8"),
        part(b"a", more=True),
        part(b"quiet", more=True),
        part(b"b"),
    )
    status, headers, parts = await Wire(*answer).run()
    assert (status, parts) == (200, [b"A", b"B!"])
    assert headers == {b"x-request-id": b"r", b"content-type": b"application/x-shout"}


async def test_a4_errors_before_the_first_byte_have_the_dialects_shape():
    error = json.dumps({"error": {"message": "no room", "type": "t", "param": None, "code": "c"}}).encode()
    status, headers, parts = await Wire(head(503, b"application/json"), part(error)).run()
    assert (status, parts, headers[b"content-length"]) == (503, [b"503 NO ROOM"], b"11")


@pytest.mark.parametrize(
    ("wire", "status", "told"),
    [
        (Wire(body=b"bad"), 400, b"400 NOT SO."),
        (Wire(known=False), 401, b"401 WHO ARE YOU?"),
        (Wire(body=b"x" * 101), 413, b"413 THE REQUEST BODY IS OVER 100 B, THE LIMIT (LIMITS.BODY)."),
        (Wire(headers=[(b"content-length", b"101")]), 413, None),
    ],
)
async def test_a4_so_have_those_that_the_gateway_never_sees(wire, status, told):
    found, _, parts = await wire.run()
    assert found == status
    assert told is None or parts == [told]
    assert wire.got is None


@pytest.mark.parametrize(("body", "did"), [(b"load", "load m"), (b"unload", "unload m")])
async def test_a_load_or_unload_asks_no_model(body, did):
    wire = Wire(body=body)
    assert (await wire.run())[::2] == (200, [b""])
    assert wire.done == ["may m", did]
    assert wire.got is None


async def test_a_failed_load_has_its_status():
    wire = Wire(body=b"load")
    wire.broken = True
    assert (await wire.run())[::2] == (503, [b"503 IT IS BROKEN."])


async def test_what_is_to_be_done_afterwards_is_done_when_the_answer_has_ended():
    wire = Wire(head(200, b"application/json"), part(b"fine"), body=b"hi, and go")
    assert (await wire.run())[::2] == (200, [b"FINE"])
    assert wire.done == ["may m", "unload m"]


async def test_f3_to_unload_takes_a_key_that_may():
    wire = Wire(body=b"unload")
    wire.caller = Caller("kid", apis=("shout",))
    assert (await wire.run())[0] == 403
    assert wire.done == ["may m"]
    wire = Wire(head(200, b"application/json"), part(b"fine"), body=b"hi, and go")
    wire.caller = Caller("kid", apis=("shout",))
    assert (await wire.run())[::2] == (200, [b"FINE"])
    assert wire.done == ["may m"]


async def test_f2_a_key_for_other_apis_loads_nothing():
    wire = Wire(body=b"load")
    wire.caller = Caller("kid", apis=("openai",))
    assert (await wire.run())[0] == 403
    assert wire.done == []


async def test_a_strangers_body_is_not_read():
    wire = Wire(known=False)
    await wire.run()
    assert wire.left == 0


async def test_a4_a_request_nested_too_deeply_to_follow_is_refused():
    status, _, parts = await Wire(body=b"deep").run()
    assert (status, parts) == (400, [b"400 THE REQUEST IS NESTED TOO DEEPLY."])


async def test_a4_a_mistake_of_ours_is_told_in_the_dialect_and_to_the_log():
    wire = Wire(body=b"odd")
    status, _, parts = await wire.run()
    assert (status, parts) == (500, [b"500 ROUNDHOUSE MADE A MISTAKE; ITS LOG HAS THE DETAILS."])
    assert wire.done == ["told of KeyError('odd')"]


async def test_a4_an_answer_in_another_shape_is_the_engines_fault():
    status, headers, parts = await Wire(head(200, b"application/json"), part(b"odd")).run()
    assert status == 502
    assert parts[0].startswith(b"502 THE ENGINE'S ANSWER IS NOT IN THE SHAPE")
    assert headers[b"content-length"] == b"%d" % len(parts[0])
