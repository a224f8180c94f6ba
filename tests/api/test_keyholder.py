"""Keys are made, revoked and given other secrets while Roundhouse runs (spec F2)."""

from __future__ import annotations

import asyncio

import pytest

from roundhouse.api.auth import Keys, hash_key
from roundhouse.api.keyholder import MOST_GRACE, Keyholder
from roundhouse.api.limits import Limits
from roundhouse.config.models import Key
from roundhouse.errors import BadRequest, Conflict, NotFound, NotKept, Unauthorized
from roundhouse.observe.keyring import Keyring, StoredKey

FILED = Key.model_validate({"name": "filed", "hash": hash_key("sk-filed"), "admin": True})


class Box:
    """A keyholder whose clock the test sets."""

    def __init__(self, ring: Keyring, *configured: Key) -> None:
        self.now = 1e9
        limits = Limits(ring, lambda: self.now, lambda: self.now)
        keys = Keys(configured, ["smol"], lambda: self.now)
        self.holder = Keyholder(configured, ring, keys, limits, lambda: self.now)

    def who(self, secret: str) -> str | None:
        try:
            return self.holder.keys.identify([(b"authorization", f"Bearer {secret}".encode())]).name
        except Unauthorized:
            return None


@pytest.fixture
async def ring(tmp_path):
    async with Keyring(tmp_path) as made:
        yield made


async def opened(ring: Keyring, *configured: Key) -> Box:
    box = Box(ring, *configured)
    await box.holder.open()
    return box


async def test_f2_a_key_is_good_at_once_and_after_a_restart_and_only_its_hash_is_kept(ring, tmp_path):
    box = await opened(ring, FILED)
    secret = await box.holder.add("kid", {"models": ["smol"], "rate": {"requests": "60/m"}, "expires": "2099-01-01"})
    assert len(secret) > 40
    assert box.who(secret) == "kid"
    caller = box.holder.keys.identify([(b"x-api-key", secret.encode())])
    assert (caller.models, caller.admin) == (("smol",), False)
    assert (await opened(ring, FILED)).who(secret) == "kid"
    assert all(secret.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    (told,) = [one for one in await box.holder.told() if one["name"] == "kid"]
    assert told["limits"] == {"requests": {"limit": "60/m", "left": 60}}
    assert (told["source"], told["expired"]) == ("keys", False)
    assert secret not in str(await box.holder.told())


async def test_f2_the_first_key_is_an_admins(ring):
    box = await opened(ring)
    assert not box.holder.keys
    with pytest.raises(Conflict, match="roundhouse keys add kid --admin"):
        await box.holder.add("kid", {})
    assert not box.holder.keys
    await box.holder.add("me", {"admin": True})
    await box.holder.add("kid", {})
    assert box.holder.keys


async def test_f2_nobody_is_left_without_an_admin_and_the_last_key_goes_only_when_that_is_meant(ring):
    box = await opened(ring)
    await box.holder.add("me", {"admin": True})
    secret = await box.holder.add("kid", {})
    with pytest.raises(Conflict, match="only admin key"):
        await box.holder.revoke("me")
    assert await box.holder.revoke("kid") is False
    assert box.who(secret) is None
    with pytest.raises(Conflict, match="everybody who reaches Roundhouse"):
        await box.holder.revoke("me")
    assert await box.holder.revoke("me", last=True) is True
    assert not box.holder.keys


async def test_f2_a_former_secret_is_good_through_its_grace_and_no_longer(ring):
    box = await opened(ring, FILED)
    old = await box.holder.add("kid", {"expires": "2099-01-01"})
    new = await box.holder.rotate("kid", 3600.0)
    assert (box.who(old), box.who(new)) == ("kid", "kid")
    again = await opened(ring, FILED)
    assert again.who(old) == "kid"
    box.now += 3600.0
    assert (box.who(old), box.who(new)) == (None, "kid")
    newest = await box.holder.rotate("kid")
    assert (box.who(new), box.who(newest)) == (None, "kid")
    with pytest.raises(BadRequest):
        await box.holder.rotate("kid", MOST_GRACE + 1)


async def test_f2_the_files_keys_are_changed_in_the_file(ring):
    box = await opened(ring, FILED)
    for wrong in (box.holder.revoke("filed"), box.holder.rotate("filed"), box.holder.add("filed", {})):
        with pytest.raises(Conflict, match="configuration file"):
            await wrong
    for missing in (box.holder.revoke("nobody"), box.holder.rotate("nobody")):
        with pytest.raises(NotFound, match="no key 'nobody'"):
            await missing


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("", {}, "name"),
        ("a b", {}, "name"),
        ("x" * 65, {}, "name"),
        ("k", {"hash": "sha256:00"}, "no 'hash'"),
        ("k", {"colour": "red"}, "no 'colour'"),
        ("k", {"rate": {"requests": "many"}}, "rate"),
        ("k", {"apis": ["telnet"]}, "apis"),
        ("k", {"priority": "high"}, "priority"),
        ("k", {"expires": "soon"}, "expires"),
    ],
)
async def test_f2_what_a_key_can_not_have_is_said(ring, name, settings, word):
    box = await opened(ring, FILED)
    with pytest.raises(BadRequest, match=word):
        await box.holder.add(name, settings)
    assert len(await box.holder.told()) == 1


async def test_f2_of_two_that_add_one_name_at_once_one_gets_it(ring):
    box = await opened(ring, FILED)
    made = await together(*(box.holder.add("kid", {}) for _ in range(3)))
    secrets = [one for one in made if isinstance(one, str)]
    assert (len(secrets), len(made)) == (1, 3)
    assert box.who(secrets[0]) == "kid"


async def test_f2_the_files_key_wins(ring):
    await ring.write([StoredKey("filed", {}, hash_key("other"), 1.0)])
    box = await opened(ring, FILED)
    assert (box.who("other"), box.who("sk-filed")) == (None, "filed")
    assert [one["name"] for one in await box.holder.told()] == ["filed"]


async def test_f2_what_a_later_version_wrote_may_do_nothing_and_leaves_nothing_open(ring):
    await ring.write([StoredKey("later", {"admin": True, "telepathy": True}, hash_key("x"), 1.0)])
    box = await opened(ring)
    assert box.who("nobody") is None
    caller = box.holder.keys.identify([(b"x-api-key", b"x")])
    assert (caller.admin, caller.manage, caller.allowed("smol")) == (False, False, False)


async def together(*calls):
    """What comes of calls that are made at once: results and errors, in their order."""
    found = {}

    async def run(number, call):
        try:
            found[number] = await call
        except (BadRequest, Conflict, NotFound) as error:
            found[number] = error

    async with asyncio.TaskGroup() as group:
        for number, call in enumerate(calls):
            group.create_task(run(number, call))
    return [found[number] for number in range(len(calls))]


async def test_f2_what_is_done_to_one_key_at_once_is_done_one_after_the_other(ring):
    box = await opened(ring, FILED)
    await box.holder.add("kid", {})
    first, second = await together(box.holder.revoke("kid"), box.holder.revoke("kid"))
    assert first is False
    assert isinstance(second, NotFound)
    await box.holder.add("kid", {})
    first, second = await together(box.holder.revoke("kid"), box.holder.rotate("kid"))
    assert isinstance(second, NotFound)
    assert [key.name for key in ring.read()] == []


async def test_f2_of_two_admins_that_are_revoked_at_once_one_stays(ring):
    box = await opened(ring)
    for name in ("one", "two"):
        await box.holder.add(name, {"admin": True})
    await box.holder.add("kid", {})
    results = await together(box.holder.revoke("one"), box.holder.revoke("two"))
    assert results[0] is False
    assert isinstance(results[1], Conflict)


async def test_f2_an_admin_that_has_expired_is_none(ring):
    box = await opened(ring)
    with pytest.raises(Conflict, match="has not expired"):
        await box.holder.add("me", {"admin": True, "expires": "2001-01-01"})
    await box.holder.add("me", {"admin": True, "expires": "2002-01-01"})
    await box.holder.add("other", {"admin": True})
    box.now = 2e9
    with pytest.raises(Conflict, match="only admin"):
        await box.holder.revoke("other")


async def test_f2_what_the_disk_does_not_take_does_not_count(ring):
    box = await opened(ring, FILED)
    secret = await box.holder.add("kid", {})
    ring.path.with_suffix(".part").mkdir()
    for change in (box.holder.add("other", {}), box.holder.revoke("kid"), box.holder.rotate("kid")):
        with pytest.raises(NotKept):
            await change
    assert box.who(secret) == "kid"
    assert [one["name"] for one in await box.holder.told()] == ["filed", "kid"]
