"""Who may do what: keys, cross-site requests, and what strangers see (spec F1, F2, F3, H)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from roundhouse.api.auth import hash_key
from tests.support.house import Place, Running, Scripted
from tests.support.wire import Api, chat, link

KEYS = {"admin": "sk-admin", "keeper": "sk-keeper", "user": "sk-user", "anthropic": "sk-anthropic"}


@pytest.fixture(scope="module")
def open_house(shared_place):
    """No keys; one web origin is allowed."""
    place = shared_place
    place.write([Scripted(place.folder, "warm", preload=True)], cors={"origins": ["https://chat.example.org"]})
    with Running(place) as running:
        yield running.api


@pytest.fixture(scope="module")
def keyed_house():
    place = Place()
    warm, other = Scripted(place.folder, "warm", preload=True, aliases=["w"]), Scripted(place.folder, "other")
    keys = [
        {"name": "admin", "hash": hash_key("sk-admin"), "admin": True},
        {"name": "keeper", "hash": hash_key("sk-keeper"), "manage": True},
        {"name": "user", "hash": hash_key("sk-user"), "models": ["warm"], "status": "comment"},
        {"name": "anthropic", "hash": hash_key("sk-anthropic"), "apis": ["anthropic"]},
        {"name": "old", "hash": hash_key("sk-old"), "expires": "2020-01-01"},
    ]
    place.write([warm, other], keys=keys)
    with Running(place) as running:
        yield SimpleNamespace(port=place.port, warm=warm, other=other, running=running)
    place.remove()


def as_(house, name):
    return Api(house.port, {"authorization": f"Bearer {KEYS[name]}"})


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer sk-wrong"}, {"x-api-key": "sk-old"}, {"authorization": "Basic eA=="}]
)
@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/api/v1/state", "/api/v1/events", "/api/v1/models/warm/log"]
)
async def test_f2_without_a_key_nothing_is_told(keyed_house, headers, path):
    reply = await Api(keyed_house.port).get(path, headers)
    assert reply.status == 401
    assert reply.error()["code"] == "invalid_api_key"
    assert reply.headers["www-authenticate"] == "Bearer"


async def test_f2_a_key_in_either_header(keyed_house):
    api = Api(keyed_house.port)
    assert (await api.chat("warm")).status == 401
    assert (await api.chat("warm", {"authorization": "Bearer sk-user"})).status == 200
    assert (await api.chat("warm", {"x-api-key": "sk-user"})).status == 200
    assert "sk-user" not in str(keyed_house.warm.notes("request"))


async def test_f2_a_key_has_its_models_and_apis(keyed_house):
    user = as_(keyed_house, "user")
    assert (await user.chat("w")).status == 200
    reply = await user.chat("other")
    assert reply.status == 403
    assert reply.error()["type"] == "permission_error"
    assert keyed_house.other.starts == 0
    assert [m["id"] for m in (await user.get("/v1/models")).json()["data"]] == ["warm"]
    assert (await user.get("/v1/models/other")).status == 404
    assert (await as_(keyed_house, "anthropic").chat("warm")).status == 403


async def test_f3_loading_needs_a_key_that_may_manage(keyed_house):
    reply = await as_(keyed_house, "user").post("/api/v1/models/warm/load")
    assert reply.status == 403
    assert (await Api(keyed_house.port).post("/api/v1/models/warm/load")).status == 401
    for name in ("keeper", "admin"):
        assert (await as_(keyed_house, name).post("/api/v1/models/warm/load")).status == 200
    assert (await as_(keyed_house, "user").get("/api/v1/models/warm/log")).status == 403


async def test_f3_with_a_key_any_host_name_will_do(keyed_house):
    reply = await as_(keyed_house, "admin").post("/api/v1/models/warm/load", None, {"host": "roundhouse.lan"})
    assert reply.status == 200


async def test_b2_the_keys_channel_is_between_header_and_config(keyed_house):
    events = await as_(keyed_house, "user").events("warm")
    assert [c for c in events.comments if c.startswith("[Performance")]
    events = await as_(keyed_house, "user").events("warm", {"x-roundhouse-status": "event"})
    assert events.statuses


async def test_h_health_is_short_for_strangers(keyed_house):
    api = Api(keyed_house.port)
    assert set(await api.health()) > {"models", "devices"}  # loopback
    for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
        reply = await api.get("/health", {header: "10.0.0.1"})
        assert reply.status == 200
        assert set(reply.json()) == {"status", "version"}
        assert "models" in (await api.get("/health", {header: "10.0.0.1", "x-api-key": "sk-user"})).json()


async def test_f4_no_key_and_no_hash_is_ever_shown(keyed_house):
    texts = [
        keyed_house.running.log(),
        *[
            (await as_(keyed_house, "admin").get(path)).body.decode()
            for path in ("/health", "/metrics", "/api/v1/state")
        ],
    ]
    for secret in [*KEYS.values(), *(hash_key(key).removeprefix("sha256:") for key in KEYS.values())]:
        assert not [text for text in texts if secret in text]
    assert 'key_class="key"' in texts[2]


CROSS = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"host": "rebound.example", "origin": "http://rebound.example"},
    {"host": "rebound.example", "referer": "http://rebound.example/x"},
]


@pytest.mark.parametrize("headers", CROSS, ids=lambda h: next(iter(h.values())))
async def test_f3_cross_site_requests_are_refused(open_house, headers):
    for path, body in (("/v1/chat/completions", chat("warm")), ("/api/v1/models/warm/unload", b"")):
        reply = await open_house.ask("POST", path, body, headers)
        assert reply.status == 403
        assert reply.error()["type"] == "permission_error"
    assert (await open_house.model("warm"))["state"] == "ready"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://chat.example.org"},
        {"host": "localhost:1", "origin": "http://localhost:1", "sec-fetch-site": "same-origin"},
    ],
)
async def test_f3_own_pages_and_allowed_origins_pass(open_house, headers):
    assert (await open_house.chat("warm", headers)).status == 200
    assert (await open_house.post("/api/v1/models/warm/load", None, headers)).status == 200


async def test_f3_programs_may_use_any_name_for_answers_but_not_for_orders(open_house):
    headers = {"host": "host.docker.internal:8002"}
    assert (await open_house.chat("warm", headers)).status == 200
    assert (await open_house.chat("warm", headers)).status == 200
    reply = await open_house.post("/api/v1/models/warm/unload", None, headers)
    assert reply.status == 403


async def test_f3_state_is_never_changed_by_get(open_house):
    for verb in ("load", "unload"):
        assert (await open_house.get(f"/api/v1/models/warm/{verb}")).status == 405
    assert (await open_house.model("warm"))["state"] == "ready"


async def test_h_without_keys_any_key_is_accepted(open_house):
    for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer anything"}, {"x-api-key": "x"}):
        assert (await open_house.chat("warm", headers)).status == 200


# --- keys that are made while it runs ---


@pytest.fixture
def made_house():
    """One admin key in the file; everything else is made."""
    place = Place()
    keys = [{"name": "admin", "hash": hash_key("sk-admin"), "admin": True}]
    place.write(
        [Scripted(place.folder, "warm", preload=True, aliases=["w"]), Scripted(place.folder, "other")], keys=keys
    )
    with Running(place) as running:
        yield SimpleNamespace(
            port=place.port, admin=Api(place.port, {"authorization": "Bearer sk-admin"}), running=running
        )
    place.remove()


async def make(house, name: str, **settings):
    reply = await house.admin.post("/api/v1/keys", {"name": name, **settings})
    assert reply.status == 201, reply.body
    assert reply.headers["cache-control"] == "no-store"
    return Api(house.port, {"authorization": f"Bearer {reply.json()['key']}"})


async def test_f2_a_key_that_was_made_is_good_at_once_and_until_it_is_revoked(made_house):
    kid = await make(made_house, "kid", models=["w"])
    assert (await kid.post("/v1/chat/completions", chat("w"))).status == 200
    assert (await kid.post("/v1/chat/completions", chat("other"))).status == 403
    assert [model["id"] for model in (await kid.get("/v1/models")).json()["data"]] == ["w"]
    for method, path in (("GET", "/api/v1/keys"), ("POST", "/api/v1/keys"), ("DELETE", "/api/v1/keys/kid")):
        assert (await kid.ask(method, path, {})).status == 403
    (told,) = [one for one in (await made_house.admin.get("/api/v1/keys")).json()["keys"] if one["name"] == "kid"]
    assert told["today"]["requests"] == 2
    assert told["today"]["completion_tokens"] > 0
    assert (await made_house.admin.ask("DELETE", "/api/v1/keys/kid")).status == 200
    assert (await kid.get("/v1/models")).status == 401


async def test_f2_limits_are_told_and_kept_and_a_stream_says_them_too(made_house):
    kid = await make(made_house, "kid", rate={"requests": "2/h", "tokens": "1M/d"})
    reply = await kid.post("/v1/chat/completions", chat("warm"))
    assert (reply.headers["x-ratelimit-limit-requests"], reply.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    async with kid.open("POST", "/v1/chat/completions", chat("warm", stream=True)) as answer:
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        await answer.events()
    refused = await kid.post("/v1/chat/completions", chat("warm"))
    assert refused.status == 429
    assert refused.error()["code"] == "rate_limit_exceeded"
    assert 1700 < int(refused.headers["retry-after"]) <= 1800
    theirs = await kid.post(
        "/v1/messages", {"model": "warm", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    )
    assert theirs.status == 429
    assert theirs.json()["error"]["type"] == "rate_limit_error"
    assert theirs.headers["anthropic-ratelimit-requests-limit"] == "2"


async def test_f2_keys_and_what_they_used_today_outlive_a_restart(made_house):
    kid = await make(made_house, "kid", rate={"requests": "2/d"})
    assert (await kid.post("/v1/chat/completions", chat("warm"))).status == 200
    made_house.running.end()
    made_house.running.start()
    assert (await kid.post("/v1/chat/completions", chat("warm"))).headers["x-ratelimit-remaining-requests"] == "0"
    assert (await kid.post("/v1/chat/completions", chat("warm"))).status == 429


async def test_f2_another_secret_and_the_former_one_for_a_while(made_house):
    old = await make(made_house, "kid")
    reply = await made_house.admin.post("/api/v1/keys/kid/rotate?grace=1h", {})
    new = Api(made_house.port, {"x-api-key": reply.json()["key"]})
    assert [(await api.get("/v1/models")).status for api in (old, new)] == [200, 200]
    await made_house.admin.post("/api/v1/keys/kid/rotate", {})
    assert [(await api.get("/v1/models")).status for api in (old, new)] == [401, 401]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"name": "admin"}, 409),
        ({"name": "x", "hash": "y"}, 400),
        ({"name": "x", "rate": 5}, 400),
        ([], 400),
    ],
)
async def test_f2_what_can_be_no_key_is_refused_with_words(made_house, body, status):
    reply = await made_house.admin.post("/api/v1/keys", body)
    assert reply.status == status
    assert reply.error()["message"]


@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/plan", "/api/v1/reload", "/models/load", "/api/show"])
async def test_f2_of_who_has_no_key_no_body_is_read_and_of_who_has_one_not_without_end(keyed_house, path):
    async with link(keyed_house.port) as one:
        one.send("POST", path, None, {"content-type": "application/json", "content-length": "1000000000"})
        assert (await one.head()).status == 401  # nothing of the body was sent
    if path != "/api/v1/reload":  # which has none
        async with link(keyed_house.port) as one:
            told = {
                "authorization": "Bearer sk-admin",
                "content-type": "application/json",
                "content-length": "1000000000",
            }
            one.send("POST", path, None, told)
            one.writer.write(b'{"text": "' + b"x" * (2 << 20))
            reply = await (await one.head()).reply()
            assert (reply.status, "over 1.0 MiB" in reply.body.decode()) == (413, True), reply.body


@pytest.mark.parametrize("query", ["key=sk-user", "api_key=sk-user", "x=1&access_token=sk-user"])
async def test_f2_a_key_in_the_address_is_refused(keyed_house, query):
    reply = await Api(keyed_house.port).post(f"/v1/chat/completions?{query}", chat("warm"))
    assert reply.status == 401
    assert "in the address" in reply.error()["message"]
    assert "sk-user" not in keyed_house.running.log()
    assert (
        await as_(keyed_house, "user").get(f"/v1/models?{query}")
    ).status == 200  # theirs counts, the address's doesn't
