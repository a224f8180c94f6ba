"""The guard's short way gives what the full check gives (spec F3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.api.auth import ANYBODY, Caller, guard_state_change
from roundhouse.api.guard import Guard
from roundhouse.errors import Forbidden

HOSTS = st.sampled_from([b"localhost", b"127.0.0.1:8002", b"box.lan", b"evil.example", b"a b", b""])
HEADERS = st.lists(
    st.tuples(st.just(b"host"), HOSTS)
    | st.tuples(st.just(b"origin"), st.sampled_from([b"http://localhost", b"https://ok.example", b"null"]))
    | st.tuples(st.just(b"sec-fetch-site"), st.sampled_from([b"cross-site", b"same-origin"]))
    | st.tuples(st.just(b"cookie"), st.just(b"a=b")),
    max_size=4,
)
CALLERS = st.sampled_from([ANYBODY, Caller("somebody")])


def verdict(check, *arguments, **more) -> bool:
    try:
        check(*arguments, **more)
    except Forbidden:
        return False
    return True


@given(st.lists(st.tuples(HEADERS, CALLERS), max_size=12))
def test_f3_what_is_remembered_changes_no_verdict(requests):
    guard = Guard(["box.lan"], ["https://ok.example"])
    for headers, caller in requests:
        full = verdict(
            guard_state_change,
            *("POST", headers, ["box.lan"]),
            origins=["https://ok.example"],
            keyed=not caller.anonymous,
            relay=True,
        )
        assert verdict(guard.relay, "POST", headers, caller) is full


def test_f3_the_admin_api_wants_our_name_unless_a_key_is_shown():
    guard = Guard(["box.lan"], [])
    with pytest.raises(Forbidden):
        guard.admin("POST", [(b"host", b"elsewhere")], ANYBODY)
    guard.admin("POST", [(b"host", b"box.lan")], ANYBODY)
    guard.admin("POST", [(b"host", b"elsewhere")], Caller("somebody"))
