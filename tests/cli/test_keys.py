"""`roundhouse keys`, with a Roundhouse that runs and without one."""

from __future__ import annotations

import pytest

from tests.cli.commands import run
from tests.support.house import Place, Running, Scripted


@pytest.fixture(scope="module")
def place():
    made = Place()
    made.write([Scripted(made.folder, "one")])
    yield made
    made.remove()


@pytest.fixture
def keys(place):
    def call(*words: str, key: str | None = None):
        more = ["--key", key] if key else []
        return run("keys", *words, "--url", f"http://127.0.0.1:{place.port}", "-c", str(place.file), *more)

    return call


def test_g3_keys_are_made_listed_given_other_secrets_and_revoked(place, keys):
    assert "everybody who reaches" in keys("list").out
    refused = keys("add", "kid")
    assert refused.code == 4
    assert "roundhouse keys add kid --admin" in refused.err
    made = keys("add", "me", "--admin")
    assert made.code == 0
    secret = made.out.strip()
    assert secret.startswith("rh-")
    with Running(place) as running:
        assert keys("list").code == 4  # a key is needed now
        kid = keys("add", "kid", "--model", "one", "--requests", "60/m", "--tokens", "1M/d", "--json", key=secret)
        assert kid.json["name"] == "kid"
        assert keys("list", key=kid.json["key"]).code == 4
        shown = keys("list", key=secret).out
        assert "60 of 60/m requests" in shown
        assert secret not in shown
        other = keys("rotate", "kid", "--grace", "1h", key=secret)
        assert other.out.strip() not in {secret, kid.json["key"]}
        assert keys("add", "kid", key=secret).code == 4
        assert keys("rotate", "kid", "--grace", "soon", key=secret).code == 2
        assert keys("revoke", "kid", key=secret).out == "kid is revoked.\n"
        assert keys("revoke", "kid", key=secret).code == 4
        running.end()
        assert [key["name"] for key in keys("list", "--json").json] == ["me"]
        assert keys("revoke", "me").code == 4
        assert "everybody may do everything now" in keys("revoke", "me", "--last").out
        assert keys("add", "a b", "--admin").code == 2
