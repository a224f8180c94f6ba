"""Responses that later requests go on from: each key's own, and bounded."""

from __future__ import annotations

from roundhouse.observe import responses
from roundhouse.observe.responses import Responses

SAID = [{"role": "user", "content": "hi"}]


async def test_what_was_kept_is_found_by_its_key_alone_and_after_a_restart(tmp_path):
    async with Responses(tmp_path / "responses.db") as store:
        store.keep("resp_1", "ann", 1e9, SAID, {"id": "resp_1"})
        assert (await store.find("resp_1", "ann")).told == {"id": "resp_1"}
        assert await store.find("resp_1", "bob") is None
    async with Responses(tmp_path / "responses.db") as store:
        assert (await store.find("resp_1", "ann")).said == SAID
        assert not await store.forget("resp_1", "bob")
        assert await store.forget("resp_1", "ann")
        assert not await store.forget("resp_1", "ann")
        assert await store.find("resp_1", "ann") is None
    assert (tmp_path / "responses.db").stat().st_mode & 0o777 == 0o600


async def test_the_oldest_go_by_number_size_and_age(tmp_path, monkeypatch):
    monkeypatch.setattr(responses, "MOST", 3)
    monkeypatch.setattr(responses, "MOST_BYTES", 1000)
    async with Responses(tmp_path / "responses.db") as store:

        async def kept():
            return [n for n in range(20) if await store.find(f"resp_{n}", "ann") is not None]

        for number in range(5):
            store.keep(f"resp_{number}", "ann", 1e9 + number, SAID, {})
        assert await kept() == [2, 3, 4]
        store.keep("resp_9", "ann", 1e9 + 9, [{"content": "x" * 950}], {})
        assert await kept() == [9]
        store.keep("resp_10", "ann", 1e9 + 31 * 86_400, SAID, {})
        assert await kept() == [10]
