"""The folder of saved conversations: each an engine's own file and a small one beside it that says what it is.

Both are for our user alone. The engine's file gets its name, and counts, only when it is whole; what has no description
is swept away at the next start, so that a crash at any instant leaves nothing that could be taken for a conversation.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from roundhouse.core.conversations import Conversation, Prefix, Saved, evicted, superseded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SPARE = 1 << 30
"""Bytes of the disk that are left to others."""
STATE, ABOUT, PART, TABLE = ".kv", ".json", ".part", ".slots"


class Shelf:
    """Saved conversations within a budget of bytes. One loop owns it; the disk is touched in threads.

    Args:
        folder: made if missing.
        budget: most bytes of all that engines wrote; a description, of about 1 kB, is not counted.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder = folder
        self.budget = budget
        self.saved: dict[str, Saved] = {}
        self._tables: dict[str, dict[str, Any]] = {}

    async def open(self) -> None:
        """Reads what an earlier run left. Raises OSError if the folder can't be used."""
        self.saved = await asyncio.to_thread(self._read)
        await self._remove(evicted(self.saved.values(), self.budget, 0) or ())

    def of(self, state: str) -> list[Saved]:
        """Those that an engine in this state can read."""
        return [one for one in self.saved.values() if one.state == state]

    @property
    def size(self) -> int:
        """Bytes of all that is saved."""
        return sum(one.size for one in self.saved.values())

    def file(self, saved: Saved) -> str:
        """Its name in the folder."""
        return saved.id + STATE

    async def fresh(self) -> str:
        """The name of an empty file in the folder, for an engine to write to: it keeps its mode. Raises OSError."""
        name = secrets.token_hex(8) + PART
        await asyncio.to_thread(_write, self.folder / name, b"")
        return name

    async def make_room(self, size: int) -> bool:
        """Lets the longest unused go until `size` more bytes fit the budget and the disk; false if they can't."""
        gone = evicted(self.saved.values(), self.budget, size)
        if gone is None:
            return False
        await self._remove(gone)
        return await asyncio.to_thread(self._fits_disk, size)

    def _fits_disk(self, size: int) -> bool:
        with suppress(OSError):
            return shutil.disk_usage(self.folder).free >= size + SPARE
        return False

    async def put(self, part: str, state: str, conversation: Conversation) -> Saved:
        """Takes in a file that an engine has written whole; older ones that it goes on with leave.

        Raises OSError, and the file is gone then.
        """
        name = part.removesuffix(PART)
        try:
            size = await asyncio.to_thread(self._settle, name, state, conversation)
        except BaseException:
            await asyncio.to_thread(self._unlink, name)
            raise
        new = self.saved[name] = Saved(name, state, size, conversation)
        await self._remove(superseded(self.saved.values(), new))
        await self._remove([one for one in evicted(self.saved.values(), self.budget, 0) or () if one is not new])
        if self.size > self.budget:  # it turned out larger than it was thought
            await self.drop(new)
        return new

    def table(self, name: str) -> dict[int, Conversation]:
        """What an earlier Roundhouse knew of the slots of an engine that still runs, by their numbers; told once."""
        told = self._tables.pop(name, {})
        with suppress(ValueError, LookupError, TypeError):
            return {int(number): _conversation(one) for number, one in told.items()}
        return {}

    async def lay_table(self, name: str, slots: Mapping[int, Conversation]) -> None:
        """Writes down what an engine's slots hold, for a later Roundhouse that takes the engine over."""
        told = orjson.dumps({str(number): _told(one) for number, one in slots.items()})
        with suppress(OSError):  # it is missed only after a restart, and costs a prompt then
            await asyncio.to_thread(_write, self.folder / (name + TABLE), told)

    async def clear_table(self, name: str) -> None:
        """The engine is gone."""
        await asyncio.to_thread((self.folder / (name + TABLE)).unlink, missing_ok=True)

    async def drop(self, *gone: Saved) -> None:
        """Removes some."""
        await self._remove(gone)

    async def discard(self, part: str) -> None:
        """Removes a file that came to nothing."""
        await asyncio.to_thread(self._unlink, part.removesuffix(PART))

    def touch(self, saved: Saved, now: float) -> None:
        """It was used just now (seconds since the epoch)."""
        if saved.id in self.saved:
            self.saved[saved.id] = replace(saved, conversation=replace(saved.conversation, used=now))
            with suppress(OSError):
                os.utime(self.folder / (saved.id + ABOUT), (now, now))

    async def _remove(self, gone: Iterable[Saved]) -> None:
        names = [one.id for one in gone if self.saved.pop(one.id, None) is not None]
        if names:
            await asyncio.to_thread(self._unlink, *names)

    # --- in threads ---

    def _unlink(self, *names: str) -> None:
        """The descriptions first: without one the rest is refuse."""
        for end in (ABOUT, PART, STATE):
            for name in names:
                (self.folder / (name + end)).unlink(missing_ok=True)

    def _settle(self, name: str, state: str, conversation: Conversation) -> int:
        part, whole = self.folder / (name + PART), self.folder / (name + STATE)
        part.chmod(0o600)  # whatever the engine made of it
        size = part.stat().st_size
        part.rename(whole)
        _write(self.folder / (name + ABOUT), orjson.dumps({"state": state, "size": size, **_told(conversation)}))
        return size

    def _read(self) -> dict[str, Saved]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        found = {}
        for about in self.folder.glob("*" + ABOUT):
            with suppress(OSError, ValueError, LookupError, TypeError):
                told = orjson.loads(about.read_bytes()) | {"used": about.stat().st_mtime}
                saved = Saved(about.stem, str(told["state"]), int(told["size"]), _conversation(told))
                if (self.folder / (about.stem + STATE)).stat().st_size == saved.size:
                    found[saved.id] = saved
        for path in self.folder.glob("*" + TABLE):
            with suppress(OSError, ValueError):
                self._tables[path.stem] = orjson.loads(path.read_bytes())
            path.unlink(missing_ok=True)  # whoever takes its engine over lays it again
        for path in self.folder.iterdir():
            if path.suffix in {STATE, ABOUT, PART} and path.stem not in found:
                path.unlink(missing_ok=True)
        return found


def _write(path: Path, data: bytes) -> None:
    """In one step, for our user alone."""
    part = path.with_suffix(f"{path.suffix}.new{PART}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    part.replace(path)


def _told(conversation: Conversation) -> dict[str, Any]:
    """Digests of the text alone: what was said stands only in the engine's own file."""
    return {
        "owner": conversation.owner,
        "talk": conversation.talk,
        "tokens": conversation.tokens,
        "used": conversation.used,
        "floor": conversation.floor,
        "length": conversation.prefix.length,
        "marks": [mark.hex() for mark in conversation.prefix.marks],
    }


def _conversation(told: Mapping[str, Any]) -> Conversation:
    prefix = Prefix(tuple(bytes.fromhex(mark) for mark in told["marks"]), int(told["length"]))
    key, user, session = told["talk"]
    talk = (str(key), str(user), str(session))
    tokens, used, floor = int(told["tokens"]), float(told["used"]), int(told.get("floor", 0))
    return Conversation(str(told["owner"]), talk, prefix, tokens, used, floor)
