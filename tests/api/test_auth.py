from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.api.auth import ANYBODY, Keys, guard_state_change, hash_key
from roundhouse.config.models import Key
from roundhouse.errors import ConfigError, Forbidden, MethodNotAllowed, Unauthorized

SECRET = "rh-correct-horse"
IDS = ("alpha", "beta", "org/alpha-7b")


def key(secret=SECRET, name="kid", **more: Any):
    return Key(name=name, hash=hash_key(secret), **more)


def bearer(secret):
    return [(b"authorization", b"Bearer " + secret.encode())]


def caller_of(**more: Any):
    return Keys([key(**more)], IDS).identify(bearer(SECRET))


@pytest.mark.parametrize(
    "headers",
    [
        bearer(SECRET),
        [(b"authorization", f"bearer   {SECRET} ".encode())],
        [(b"x-api-key", SECRET.encode())],
        [(b"accept", b"*/*"), (b"authorization", b"Bearer other"), (b"x-api-key", SECRET.encode())],
        [(b"x-api-key", b""), *bearer(SECRET)],
    ],
)
def test_f2_a_known_key_is_recognised(headers):
    assert Keys([key("another", name="me"), key()], IDS).identify(headers).name == "kid"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", SECRET.encode())],
        [(b"authorization", b"Basic " + SECRET.encode())],
        [(b"x-api-key", b" ")],
        [(b"cookie", SECRET.encode())],
        bearer("wrong"),
        bearer(hash_key(SECRET)),
        bearer(SECRET.upper()),
    ],
)
def test_f2_without_a_known_key_nobody_gets_in(headers):
    with pytest.raises(Unauthorized) as error:
        Keys([key()], IDS).identify(headers)
    assert SECRET not in error.value.message


@given(st.text(alphabet=st.characters(min_codepoint=33, codec="utf-8")))
def test_f2_no_other_string_authenticates(text):
    if text.strip() == SECRET:
        return
    keys = Keys([key(), key("rh-other", name="me")] if text != "rh-other" else [key()])
    for headers in (bearer(text), [(b"x-api-key", text.encode())]):
        with pytest.raises(Unauthorized):
            keys.identify(headers)


@given(st.binary())
def test_f2_no_bytes_whatever_break_it(value):
    if value.strip() == SECRET.encode():
        return
    with pytest.raises(Unauthorized):
        Keys([key()]).identify([(b"x-api-key", value), (b"authorization", value)])


def test_f2_of_two_known_keys_the_first_counts():
    keys = Keys([key("one", name="1"), key("two", name="2")])
    assert keys.identify([*bearer("two"), (b"x-api-key", b"one")]).name == "2"
    assert keys.identify([*bearer("one"), (b"x-api-key", b"two")]).name == "1"


def test_f2_expiry():
    end = datetime(2027, 1, 1, tzinfo=UTC)
    now = end.timestamp() - 1
    keys = Keys([key(expires=end)], IDS, clock=lambda: now)
    assert keys.identify(bearer(SECRET)).name == "kid"
    now += 1
    with pytest.raises(Unauthorized, match="'kid' has expired"):
        keys.identify(bearer(SECRET))


def test_f2_every_key_is_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(ours, theirs):
        compared.append(theirs)
        return ours == theirs

    monkeypatch.setattr("roundhouse.api.auth.compare_digest", compare)
    keys = Keys([key("one", name="1"), key("two", name="2"), key("three", name="3")])
    keys.identify(bearer("one"))
    assert len(compared) == 3


@pytest.mark.parametrize("text", ["sha256:", "sha256:abc", "sha256:" + "zz" * 32, "sha256:" + "ab" * 31])
def test_f2_a_hash_that_is_none_is_a_configuration_error(text):
    with pytest.raises(ConfigError, match="'kid'"):
        Keys([Key(name="kid", hash=text)])


def test_f2_uppercase_hash():
    assert Keys([Key(name="kid", hash="sha256:" + hash_key(SECRET)[7:].upper())]).identify(bearer(SECRET)).name == "kid"


def test_f4_neither_key_nor_hash_is_shown():
    keys = Keys([key()], IDS)
    assert repr(keys) == "<Keys: kid>"
    assert hash_key(SECRET)[7:] not in repr(keys.identify(bearer(SECRET)))


@pytest.mark.parametrize("headers", [[], bearer(""), bearer("any-value"), [(b"x-api-key", b"any")]])
def test_h_without_keys_a_blank_or_any_key_is_accepted(headers):
    keys = Keys()
    assert not keys
    caller = keys.identify(headers)
    assert caller is ANYBODY
    assert (caller.admin, caller.manage, caller.anonymous, caller.allowed_models) == (True, True, True, None)
    caller.require_model("alpha")
    caller.require_api("openai")
    caller.require_manage()
    caller.require_admin()


def test_f2_allowed_models():
    caller = caller_of(models=("alpha", "org/*", "gpt-4o"))
    assert caller.allowed_models == {"alpha", "org/alpha-7b"}
    caller.require_model("alpha")
    caller.require_model("gpt-4o", "beta")  # an alias that is allowed
    caller.require_model("nick", "alpha")  # an alias of a model that is allowed
    with pytest.raises(Forbidden, match="'kid' may not use the model 'nick'"):
        caller.require_model("nick", "beta")
    assert not caller.allowed("ALPHA")
    assert caller_of(models=()).allowed_models == frozenset()
    assert caller_of().allowed_models is None


def test_f2_a_model_name_with_brackets_is_allowed_by_its_own_name():
    assert caller_of(models=("m[1]",)).allowed("m[1]")


def test_f2_allowed_apis():
    caller = caller_of(apis=("openai",))
    caller.require_api("openai")
    with pytest.raises(Forbidden, match="may not use the ollama API"):
        caller.require_api("ollama")


@pytest.mark.parametrize(
    ("rights", "manages", "administers", "key_class"),
    [({}, False, False, "key"), ({"manage": True}, True, False, "key"), ({"admin": True}, True, True, "admin")],
)
def test_f3_who_may_change_what(rights, manages, administers, key_class):
    caller = caller_of(**rights)
    assert (may(caller.require_manage), may(caller.require_admin), caller.key_class) == (
        manages,
        administers,
        key_class,
    )


def may(require):
    try:
        require()
    except Forbidden:
        return False
    return True


def test_f2_what_else_a_key_says():
    caller = caller_of(priority=7, status="off", trusted=True)
    assert (caller.priority, caller.status, caller.trusted, caller.anonymous) == (7, "off", True, False)


def post(host="127.0.0.1:8002", **headers: str):
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return [(b"host", host.encode()), *pairs] if host else pairs


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "get", "TRACE"])
def test_f3_state_is_never_changed_by_get(method):
    with pytest.raises(MethodNotAllowed):
        guard_state_change(method, post(), [])


@pytest.mark.parametrize(
    "headers",
    [
        post(),
        post("localhost"),
        post("LocalHost:8002"),
        post("app.localhost:8002"),
        post("[::1]:8002"),
        post("192.168.1.7:8002"),
        post("gpubox:8002"),
        post("GPUbox.:8002"),
        post(origin="http://127.0.0.1:8002", sec_fetch_site="same-origin"),
        post("localhost", origin="http://localhost"),
        post("gpubox", origin="https://gpubox"),
        post("gpubox:443", origin="https://gpubox"),
        post("[::1]:8002", origin="http://[::1]:8002"),
        post(sec_fetch_site="none"),
        post(origin="https://chat.example.org", sec_fetch_site="cross-site"),
    ],
)
def test_f3_own_requests_pass(headers):
    guard_state_change("POST", headers, ["gpubox"], origins=["https://chat.example.org"])


@pytest.mark.parametrize(
    "headers",
    [
        post(origin="https://evil.example"),
        post(origin="http://127.0.0.1:3000"),
        post(origin="http://localhost:8002"),
        post("localhost:8002", origin="http://localhost"),
        post(origin="null"),
        post(origin=""),
        post(origin="http://127.0.0.1:8002/path"),
        post(origin="http://127.0.0.1:8002@evil.example"),
        post(origin="file://127.0.0.1:8002"),
        post(origin="http://[broken"),
        post(sec_fetch_site="cross-site"),
        post(sec_fetch_site="same-site"),
        post(origin="http://127.0.0.1:8002", sec_fetch_site="cross-site"),
        [*post(origin="http://127.0.0.1:8002"), (b"origin", b"https://evil.example")],
    ],
)
@pytest.mark.parametrize("how", [{}, {"keyed": True}, {"relay": True}])
def test_f3_pages_of_others_are_refused(headers, how):
    with pytest.raises(Forbidden):
        guard_state_change("POST", headers, ["gpubox"], **how)


@pytest.mark.parametrize(
    "host",
    ["evil.example:8002", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost", "gpubox.evil", "1"],
)
def test_f3_rebound_names_are_refused(host):
    """DNS rebinding: the page's own name points to us, so its origin is the same as the host."""
    for headers in (post(host), post(host, origin=f"http://{host}", sec_fetch_site="same-origin")):
        with pytest.raises(Forbidden, match="is not known to be ours"):
            guard_state_change("POST", headers, ["gpubox"])
    with pytest.raises(Forbidden, match="is not known to be ours"):
        guard_state_change("POST", post(host, origin=f"http://{host}"), ["gpubox"], relay=True)


def test_f3_with_a_key_any_name_will_do():
    guard_state_change("POST", post("gpubox.lan:8002", origin="http://gpubox.lan:8002"), [], keyed=True)


def test_f1_programs_in_a_container_reach_the_relay_under_any_name():
    guard_state_change("POST", post("host.docker.internal:8002"), [], relay=True)


@pytest.mark.parametrize("how", [{}, {"keyed": True}, {"relay": True}])
@pytest.mark.parametrize(
    "headers",
    [
        post(""),
        post("", accept="*/*"),
        post(":8002"),
        post("a b/c"),
        post("x@y"),
        post("[::1"),
        post("h:port"),
        [*post(), *post()],
    ],
)
def test_f3_a_request_without_one_valid_host_is_refused(headers, how):
    with pytest.raises(Forbidden):
        guard_state_change("POST", headers, [], **how)


@given(st.text(max_size=30), st.text(max_size=30))
def test_f3_only_a_page_of_the_very_same_place_passes(host, origin):
    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    try:
        guard_state_change("POST", headers, [], keyed=True)
    except Forbidden:
        return
    assert origin.split("://", 1)[1].lower().rstrip(".").startswith(host.lower().partition(":")[0].rstrip("."))
