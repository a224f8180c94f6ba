"""Requests spoilt in one place: a field becomes any JSON value, goes, comes twice, or bytes are torn.

Everything is drawn from one `random.Random`, so that a seed tells a request; hypothesis's own does as well.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fuzz.samples import GETS, ORDERS, POSTS

if TYPE_CHECKING:
    from random import Random

MARK = "\ue000%d\ue000"
ODD = (
    "null", "true", "false", "0", "-1", "1", "-0.0", "0.5", "1e308", "1e400", "-1e400", "NaN", "Infinity", "-Infinity",
    "2147483648", "9223372036854775807", "9223372036854775808", "18446744073709551616", "-9223372036854775809",
    "1" * 400, "1" * 5000, "0x10", '""', '" "', '"\\ud800"', '"\\udc00x"', '"\\u0000"', '"𝕏\\u202e"', '"alpha"', '"user"',
    '"' + "a" * 5000 + '"', '"data:image/png;base64,%"', '"http://127.0.0.1:1/x.png"', "[]", "{}", "[[]]", "[null]",
    "[1,2]", "[{}]", '{"a":1}', '["x"]', '[["x"]]', '{"type":[]}', '{"type":{}}', '{"role":{}}', '{"content":5}',
    '{"function":7}', '[{"function":"x"}]', '[{"type":"text"}]', '[{"type":"text","text":5}]', '{"":{"":""}}',
    "[" * 100 + "]" * 100, "[" * 300 + "]" * 300, "[" * 1100 + "]" * 1100, "[" * 60000 + "]" * 60000,
    '{"a":' * 300 + "1" + "}" * 300, '{"a":' * 2000 + "1" + "}" * 2000, "[" + ",".join("1" * 300) + "]",
)  # fmt: skip
"""JSON, and what is near it, as text."""
HEADERS = (
    ("x-roundhouse-priority", "--5"), ("x-roundhouse-priority", "9" * 5000), ("x-roundhouse-priority", "99999999999999999999"),
    ("x-roundhouse-status", "nonsense"), ("x-roundhouse-status", "\xff"), ("x-request-id", "\xe4\xff" * 40),
    ("x-roundhouse-task", "\xff\x01"), ("x-openwebui-task", "{{TASK}}"), ("x-openwebui-chat-id", "\xff" * 300),
    ("content-type", "text/plain"), ("content-type", "multipart/form-data; boundary="), ("content-type", "\xff"),
    ("content-encoding", "gzip"), ("authorization", "Bearer"), ("authorization", "Bearer \xff"), ("authorization", "Basic =="),
    ("x-api-key", ""), ("anthropic-version", "1"), ("accept", "text/html"), ("last-event-id", "x-9999999999999999999"),
    ("range", "bytes=0-1"), ("expect", "nothing"), ("cookie", "a=\xff"), ("x-session-id", "\x01"), ("te", "trailers"),
    ("x-openwebui-user-id", "\xff" * 2000), ("x-openwebui-user-email", "a@b\xff"), ("accept-encoding", "br"),
)  # fmt: skip
"""Odd headers; each in turn goes with one request."""


@dataclass(frozen=True)
class Ask:
    """One request, and in which API's words an error must come."""

    api: str
    method: str
    path: str
    body: bytes | None
    headers: tuple[tuple[str, str], ...] = ()


def any_ask(random: Random) -> Ask:
    """A request of any kind."""
    return random.choice((get, order, post, post, post, post, post, post, post, post))(random)


def post(random: Random, path: str | None = None) -> Ask:
    """A body to `path`, or to any."""
    api, bodies = random.choice(FLAT) if path is None else next(found for found in FLAT if path in found[1])
    path = path or random.choice(tuple(bodies))
    return Ask(api, "POST", path, spoilt(random, random.choice(bodies[path])), some_headers(random))


FLAT = [(api, {path: bodies}) for api, paths in POSTS.items() for path, bodies in paths.items()]


def get(random: Random) -> Ask:
    """A look, by a path that may be torn."""
    path = random.choice(GETS)
    if random.random() < 0.6:
        at = random.randrange(1, len(path) + 1)
        path = (
            path[:at]
            + random.choice(("%ff", "%00", "%2f", "..", "/", "?", "%", "é", "-1", "9" * 30, "&limit=-5"))
            + path[at:]
        )
    plain = path.replace("%2f", "/")
    api = "ollama" if plain.startswith("/api/") and not plain.startswith("/api/v1/") else "openai"
    return Ask(
        api,
        random.choice(("GET", "GET", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")),
        path,
        None,
        some_headers(random),
    )


def order(random: Random) -> Ask:
    """To load or to unload."""
    return Ask("openai", "POST", random.choice(ORDERS), random.choice((b"", b"{}", b"\xff")), some_headers(random))


def some_headers(random: Random) -> tuple[tuple[str, str], ...]:
    return (random.choice(HEADERS),) if random.random() < 0.2 else ()


def spoilt(random: Random, body: dict[str, Any]) -> bytes:
    """A body with one, seldom two or three places changed; one in six is torn as bytes, too."""
    changed = copy.deepcopy(body)
    raws: list[str] = []
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        change(random, changed, raws)
    text = json.dumps(changed, ensure_ascii=random.random() < 0.5)
    for number, raw in enumerate(raws):
        text = text.replace(json.dumps(MARK % number), raw).replace(json.dumps(MARK % number, ensure_ascii=False), raw)
    data = text.encode("utf-8", "surrogatepass")
    return torn(random, data) if random.random() < 0.16 else data


def change(random: Random, body: Any, raws: list[str]) -> None:
    """Changes one place, at any depth."""
    found = list(places(body))
    if not found:
        body["x"] = None
    holder, key = random.choice(found or [(body, "x")])

    def put(raw: str) -> str:
        raws.append(raw)
        return MARK % (len(raws) - 1)

    match random.randrange(8):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[random.choice(("", "stream", "model", "fake", "n", "type", "__proto__", "x" * 300))] = put(
                random.choice(ODD)
            )
        case 2:
            holder[key] = [holder[key]]
        case 3:
            holder[key] = {random.choice(("a", "type", "text", "name")): holder[key]}
        case 4:  # the same key once more, with another value
            holder[key] = put(f"{json.dumps(holder[key])},{json.dumps(str(key))}:{random.choice(ODD)}")
        case _:
            holder[key] = put(random.choice(ODD))


def places(value: Any) -> Any:
    """Every (container, key) in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


def torn(random: Random, data: bytes) -> bytes:
    """Bytes flipped, cut, doubled, or put in."""
    at = random.randrange(len(data) + 1)
    match random.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
        case 2:
            return (
                data[:at]
                + random.choice((b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"', b"}", b"["))
                + data[at:]
            )
        case 3:
            return data + data
        case 4:
            return b"\xef\xbb\xbf" + data
        case _:
            end = min(len(data), at + random.randrange(30))
            return data[:at] + data[end:]
