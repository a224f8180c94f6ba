"""Whose request it is: users behind a key, conversations and agents (spec D4, D5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.api.identity import session_of, user_of

UUID = "c1cd8547-22a2-4928-9c48-96688f409afa"
PEER = "127.0.0.1"


def session(headers: dict[bytes, bytes] | None = None, peer: str = PEER, **fields: Any) -> str:
    return session_of(headers or {}, fields, peer)


@pytest.mark.parametrize(
    "name",
    [b"x-openwebui-chat-id", b"x-openwebui-chat", b"x-session-id", b"x-opencode-session", b"x-session-affinity",
     b"x-claude-code-session-id", b"session_id", b"session-id", b"conversation_id"],
)  # fmt: skip
def test_d4_a_header_names_the_session(name):
    assert session({name: UUID.encode()}) == UUID
    assert session({name: UUID.encode()}, prompt_cache_key="k", user="u", metadata={"session_id": "m"}) == UUID


def test_d4_open_webuis_chat_goes_first():
    assert session({b"x-session-id": b"s", b"x-openwebui-chat-id": b"c"}) == "c"


@pytest.mark.parametrize("value", [b"", b" ", b"{{CHAT_ID}}"])
def test_d4_a_header_that_says_nothing_does_not_count(value):
    assert session({b"x-openwebui-chat-id": value, b"session_id": b"s"}) == "s"
    assert session({b"x-openwebui-chat": value}) == session()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"prompt_cache_key": UUID, "metadata": {"session_id": "m"}}, UUID),
        ({"metadata": {"session_id": "m", "user_id": "user_x_session_y"}}, "m"),
        ({"metadata": {"user_id": f"user_0f0f_account__session_{UUID}"}}, UUID),
        ({"metadata": {"user_id": f'{{"device_id":"d","session_id":"{UUID}"}}'}}, UUID),
    ],
)
def test_d4_fields_that_name_the_session(fields, name):
    assert session(**fields) == name


@pytest.mark.parametrize(
    "fields",
    [{"metadata": {"user_id": "{"}}, {"metadata": {"user_id": '{"session_id":3}'}}, {"metadata": {"user_id": "anna"}},
     {"metadata": "x"}, {"metadata": {"session_id": 3}}, {"prompt_cache_key": 3}, {"prompt_cache_key": ""}, {"user": 3}],
)  # fmt: skip
def test_d4_fields_that_do_not(fields):
    assert session(**fields) == session()


def test_d4_agents_on_one_machine_differ_and_their_connections_do_not():
    aider, cline = {b"user-agent": b"litellm/1.0"}, {b"user-agent": b"Cline/3.2"}
    assert session(aider) == session(aider)
    assert len({session(aider), session(cline), session(aider, "10.0.0.2"), session(), session(peer="")}) == 5


def test_d4_one_persons_agents_differ():
    aider, cline = {b"user-agent": b"litellm/1.0"}, {b"user-agent": b"Cline/3.2"}
    assert session(aider, user="anna") == session(aider, "10.0.0.2", user="anna")
    people = [session(aider, user="anna"), session(cline, user="anna"), session(aider, user="ben"), session(aider)]
    assert len(set(people)) == 4
    assert session(aider, safety_identifier="anna", user="x") == session(aider, user="anna")


def test_d4_clients_behind_a_proxy_differ():
    assert session({b"x-forwarded-for": b"10.0.0.1"}) != session({b"x-forwarded-for": b"10.0.0.2"})


def test_d4_long_and_odd_names_are_hashed():
    for odd in ("x" * 41, "a\nb", "tab\t", "x" * 100_000):
        name = session(prompt_cache_key=odd)
        assert len(name) == 16
        assert int(name, 16) >= 0
    assert session(prompt_cache_key="x" * 41) != session(prompt_cache_key="x" * 42)
    assert session(prompt_cache_key="x" * 40) == "x" * 40


@given(st.binary(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_d4_a_name_is_short_printable_and_never_empty(header, key, user):
    found = session({b"session_id": header, b"user-agent": header}, prompt_cache_key=key, user=user)
    assert found
    assert len(found) <= 40
    assert found.isprintable()


@pytest.mark.parametrize(
    ("headers", "user"),
    [({}, ""), ({b"x-openwebui-user-id": UUID.encode()}, UUID), ({b"x-openwebui-user-id": b""}, ""),
     ({b"x-openwebui-user-id": b"{{USER_ID}}"}, "")],
)  # fmt: skip
def test_d5_the_user_behind_a_shared_key(headers, user):
    assert user_of(headers) == user
    assert len(user_of({b"x-openwebui-user-id": b"x" * 99})) == 16
