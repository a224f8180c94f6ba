"""Keys that are kept beside the configuration, and what each has used by day."""

from __future__ import annotations

import sqlite3

import pytest

from roundhouse.errors import NotKept
from roundhouse.observe.keyring import Keyring, StoredKey, Use

ANN = StoredKey("ann", {"models": ["smol"], "rate": {"requests": "60/m"}}, "sha256:1", 100.0)


async def test_f2_keys_outlive_a_restart_and_names_are_had_once(tmp_path):
    async with Keyring(tmp_path / "keys.db") as ring:
        assert await ring.keys() == []
        assert await ring.put(ANN)
        assert not await ring.put(StoredKey("ann", {}, "sha256:2", 101.0))
        await ring.rotate("ann", "sha256:3", "sha256:1", 500.0)
    async with Keyring(tmp_path / "keys.db") as ring:
        assert await ring.keys() == [StoredKey("ann", ANN.settings, "sha256:3", 100.0, "sha256:1", 500.0)]
        await ring.remove("ann")
        assert await ring.keys() == []
    assert (tmp_path / "keys.db").stat().st_mode & 0o777 == 0o600


async def test_f2_use_adds_up_by_day(tmp_path):
    async with Keyring(tmp_path / "keys.db") as ring:
        ring.note("ann", "2026-12-01", Use(1, 0, 0, 5.0))
        ring.note("ann", "2026-12-01", Use(0, 10, 20, 9.0))
        ring.note("ann", "2026-12-02", Use(1, 1, 2, 7.0))
        ring.note("bob", "2026-12-02", Use(1, 0, 0, 8.0))
        assert await ring.used("2026-12-01") == {"ann": Use(1, 10, 20, 9.0)}
        assert (await ring.used())["ann"] == Use(2, 11, 22, 9.0)
        assert (await ring.used())["ann"].tokens == 33
        ring.forget_before("2026-12-02")
        assert (await ring.used())["ann"] == Use(1, 1, 2, 7.0)


async def test_f2_a_key_that_can_not_be_written_is_not_told_as_made(tmp_path, monkeypatch):
    async with Keyring(tmp_path / "keys.db") as ring:

        async def full(_job):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(ring._database, "run", full)
        with pytest.raises(
            NotKept, match=r"can't be written to .*keys.db: database or disk is full. Nothing has chang"
        ):
            await ring.put(ANN)
        assert await ring.keys() == []
        assert await ring.used() == {}
