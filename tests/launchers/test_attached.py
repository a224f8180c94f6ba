"""Engines run by others: nothing starts, nothing stops, nothing is found."""

from __future__ import annotations

import asyncio

from roundhouse.launchers.attached import AttachedLauncher
from roundhouse.ports import Command, Exit, Tag

TAG = Tag("remote", "settings", 80, 0.0)


async def test_c3_attached_engine_ends_only_when_we_let_go():
    launcher = AttachedLauncher()
    handle = await launcher.start(TAG, Command(()))
    assert (handle.tag, handle.pid, handle.tail(5)) == (TAG, None, [])
    loop = asyncio.get_running_loop()
    waiting = loop.create_task(handle.wait_exit())
    reading = loop.create_task(anext(handle.lines(), "end"))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not reading.done()
    assert await handle.stop(1) == Exit(code=None, by_us=True)
    assert await waiting == Exit(code=None, by_us=True)
    assert await reading == "end"
    await handle.detach()
    assert await launcher.found() == []
