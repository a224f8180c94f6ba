"""The folder of saved conversations (spec D11): its budget, its modes, and what is left after a crash."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from roundhouse.core.conversations import Conversation, Prefix
from roundhouse.runtime import shelf as shelf_module
from roundhouse.runtime.shelf import Shelf

TEXT = b"The quick brown fox. " * 300


def held(text: bytes = TEXT, used: float = 1.0, owner: str = "key") -> Conversation:
    return Conversation(owner, ("key", "", "chat"), Prefix.of(text), 1500, used)


async def put(shelf: Shelf, text: bytes = TEXT, size: int = 1000, used: float = 1.0, state: str = "s"):
    """What an engine and we do together."""
    part = await shelf.fresh()
    (shelf.folder / part).write_bytes(b"k" * size)
    return await shelf.put(part, state, held(text, used))


@pytest.fixture
async def shelf(tmp_path):
    made = Shelf(tmp_path / "sessions", 10_000)
    await made.open()
    return made


def files(shelf: Shelf) -> list[str]:
    return sorted(path.suffix for path in shelf.folder.iterdir())


async def test_d11_folder_and_files_are_for_our_user_alone(shelf):
    saved = await put(shelf)
    modes = {path.stat().st_mode & 0o777 for path in shelf.folder.iterdir()}
    assert (shelf.folder.stat().st_mode & 0o777, modes) == (0o700, {0o600})
    assert (shelf.folder / shelf.file(saved)).read_bytes() == b"k" * 1000


async def test_d11_a_later_start_finds_what_was_saved(shelf):
    saved = await put(shelf)
    later = Shelf(shelf.folder, 10_000)
    await later.open()
    found = later.saved[saved.id]
    assert found.conversation.prefix == saved.conversation.prefix
    assert (found.state, found.size, found.conversation.owner) == ("s", 1000, "key")
    assert later.of("s") == [found]
    assert later.of("another state") == []


async def test_d11_no_text_stands_in_a_description(shelf):
    saved = await put(shelf)
    assert b"fox" not in (shelf.folder / (saved.id + ".json")).read_bytes()


async def test_d11_when_it_was_used_last_outlives_a_restart(shelf):
    saved = await put(shelf)
    shelf.touch(saved, 5000.0)
    assert shelf.saved[saved.id].conversation.used == 5000.0
    later = Shelf(shelf.folder, 10_000)
    await later.open()
    assert later.saved[saved.id].conversation.used == 5000.0


async def test_d11_the_budget_is_kept(shelf):
    first, second = await put(shelf, b"a" * 5000, 4000, 1.0), await put(shelf, b"b" * 5000, 4000, 2.0)
    assert await shelf.make_room(4000)
    assert list(shelf.saved) == [second.id]
    assert not (shelf.folder / shelf.file(first)).exists()
    assert not await shelf.make_room(10_001)
    assert list(shelf.saved) == [second.id]


async def test_d11_one_that_turned_out_larger_than_was_thought_does_not_break_the_budget(shelf):
    await put(shelf, b"a" * 5000, 6000, 1.0)
    await put(shelf, b"b" * 5000, 6000, 2.0)
    assert shelf.size == 6000
    await put(shelf, b"c" * 5000, 20_000, 3.0)
    assert (shelf.size, files(shelf)) == (0, [])


async def test_d11_a_smaller_budget_counts_from_the_next_start_on(shelf):
    await put(shelf, b"a" * 5000, 4000, 1.0)
    await put(shelf, b"b" * 5000, 4000, 2.0)
    later = Shelf(shelf.folder, 5000)
    await later.open()
    assert later.size == 4000
    assert files(later) == [".json", ".kv"]


async def test_d11_an_older_state_of_the_same_conversation_leaves(shelf):
    await put(shelf)
    newer = await put(shelf, TEXT + b"and more " * 100)
    assert list(shelf.saved) == [newer.id]
    assert files(shelf) == [".json", ".kv"]


async def test_d11_a_full_disk_is_noticed_before_it_is_full(shelf, monkeypatch):
    free = shelf_module.SPARE + 500
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert await shelf.make_room(500)
    assert not await shelf.make_room(501)


async def test_d11_a_file_that_is_not_there_is_an_error_and_leaves_nothing(shelf):
    with pytest.raises(OSError, match="No such file"):
        await shelf.put("gone.part", "s", held())
    assert (shelf.saved, files(shelf)) == ({}, [])


async def test_d11_what_a_crash_left_is_swept_away(shelf):
    good = await put(shelf, b"a" * 5000)
    cut, odd = await put(shelf, b"b" * 5000), await put(shelf, b"c" * 5000)
    (shelf.folder / shelf.file(cut)).write_bytes(b"k")  # a description written before its file was whole
    (shelf.folder / (odd.id + ".json")).write_text('{"state": 1')
    (shelf.folder / "11.part").write_bytes(b"k")
    (shelf.folder / "22.kv").write_bytes(b"k")
    (shelf.folder / "33.json").write_text(json.dumps({"state": "s"}))
    (shelf.folder / "notes.txt").write_text("not ours")
    later = Shelf(shelf.folder, 10_000)
    await later.open()
    assert list(later.saved) == [good.id]
    assert files(later) == [".json", ".kv", ".txt"]


async def test_d11_a_folder_that_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "sessions").write_text("a file")
    with pytest.raises(OSError, match="exists"):
        await Shelf(tmp_path / "sessions", 1000).open()


async def test_d11_a_file_is_for_our_user_alone_before_an_engine_writes_to_it(shelf):
    part = shelf.folder / (await shelf.fresh())
    assert part.stat().st_mode & 0o777 == 0o600
    with part.open("wb") as file:  # as llama-server opens it
        file.write(b"k")
    assert part.stat().st_mode & 0o777 == 0o600


async def test_d11_what_came_to_nothing_is_removed(shelf):
    part = await shelf.fresh()
    (shelf.folder / part).write_bytes(b"k")
    await shelf.discard(part)
    assert files(shelf) == []
