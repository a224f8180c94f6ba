"""Keys that are kept beside the configuration, and what each has used by day."""

from __future__ import annotations

import sqlite3

import pytest

from roundhouse.errors import ConfigError, NotKept
from roundhouse.observe.keyring import Keyring, StoredKey, Use

ANN = StoredKey("ann", {"models": ["smol"], "rate": {"requests": "60/m"}}, "sha256:1", 100.0)


async def test_f2_keys_outlive_a_restart(tmp_path):
    async with Keyring(tmp_path) as ring:
        assert ring.read() == []
        await ring.write([ANN])
    async with Keyring(tmp_path) as ring:
        assert ring.read() == [ANN]
        await ring.write([])
        assert ring.read() == []
    assert ring.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"garbage", "damaged"),
        (b"[]", "damaged"),
        (b'{"keys": []}', "damaged"),
        (b'{"version": 1}', "damaged"),
        (b'{"version": 1, "keys": [{}]}', "damaged"),
        (b'{"version": 1, "keys": [5]}', "damaged"),
        (b'{"version": 2, "keys": []}', "of version 2"),
        (b"\xff", "damaged"),
        (None, "Is a directory"),
    ],
)
async def test_f2_a_file_that_is_not_understood_is_never_none(tmp_path, content, reason):
    """Without keys everybody may do everything."""
    async with Keyring(tmp_path) as ring:
        if content is None:
            ring.path.mkdir()
        else:
            ring.path.write_bytes(content)
        with pytest.raises(ConfigError, match=reason):
            ring.read()


async def test_f2_use_adds_up_by_day(tmp_path):
    async with Keyring(tmp_path) as ring:
        ring.note("ann", "2026-12-01", Use(1, 0, 0, 5.0))
        ring.note("ann", "2026-12-01", Use(0, 10, 20, 9.0))
        ring.note("ann", "2026-12-02", Use(1, 1, 2, 7.0))
        ring.note("bob", "2026-12-02", Use(1, 0, 0, 8.0))
        assert await ring.used("2026-12-01") == {"ann": Use(1, 10, 20, 9.0)}
        assert (await ring.used())["ann"] == Use(2, 11, 22, 9.0)
        assert (await ring.used())["ann"].tokens == 33
        ring.forget_before("2026-12-02")
        assert (await ring.used())["ann"] == Use(1, 1, 2, 7.0)


async def test_f2_a_key_that_can_not_be_written_is_not_told_as_made(tmp_path):
    async with Keyring(tmp_path) as ring:
        await ring.write([ANN])
        ring.path.with_suffix(".part").mkdir()
        with pytest.raises(NotKept, match=r"can't be written to .*keys.json: Is a directory. Nothing has changed"):
            await ring.write([])
        assert ring.read() == [ANN]


async def test_f2_use_that_can_not_be_read_is_none(tmp_path, monkeypatch):
    async with Keyring(tmp_path) as ring:

        async def broken(_job):
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(ring._database, "run", broken)
        assert await ring.used() == {}
