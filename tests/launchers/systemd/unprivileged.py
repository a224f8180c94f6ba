"""What tests do as the user games (uid 5): run in a process that imports as root, as the interpreter may lie in its home."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 -- loaded by to_thread when it is too late
import os
import sys
from pathlib import Path

import roundhouse.launchers.systemd
from roundhouse.errors import LoadFailed
from roundhouse.launchers.systemd import SystemdLauncher
from roundhouse.ports import Command, Tag

TAG = Tag("model", "settings", 4711, 1234.5)
SCRIPT = ("/bin/sh", "-c", "echo ready; exec sleep 1000")
STUBBORN = "trap '' TERM; echo ready >{fifo}; while :; do sleep 1; done"


def main(name: str, *words: str) -> None:
    async def go() -> None:
        try:
            await globals()[name](*words)
        except LoadFailed as error:
            print(error.message)

    os.setgroups([])
    os.setgid(60)
    os.setuid(5)
    os.chdir("/")
    asyncio.run(go())
    sys.stdout.flush()
    assert roundhouse.launchers.systemd


def launcher(folder: str, install: str, *units: str, user: bool = False) -> SystemdLauncher:
    named = dict.fromkeys(units, 1)
    return SystemdLauncher(Path(folder) / "run", install, user=user, named=named, memory_limit=None)


async def ready(handle) -> None:
    async for line in handle.lines():
        print(line)
        return


async def stubborn(systemd: SystemdLauncher, folder: str, unit: str):
    """An engine that ignores SIGTERM by now. It says so by a pipe: this user may not read what it prints."""
    fifo = Path(folder) / "run" / "fifo"
    os.mkfifo(fifo)
    handle = await systemd.start(TAG, Command(("/bin/sh", "-c", STUBBORN.format(fifo=fifo)), unit=unit))
    assert await asyncio.to_thread(fifo.read_text) == "ready\n"
    fifo.unlink()
    return handle


async def run_named(folder: str, install: str, unit: str) -> None:
    async with launcher(folder, install, unit) as systemd:
        handle = await systemd.start(TAG, Command(SCRIPT, unit=unit))
        await ready(handle)
        print("started")
        print(await handle.stop(5))
        await ready(handle := await stubborn(systemd, folder, unit))
        print(await handle.stop(0.2))
        await systemd.start(TAG, Command(SCRIPT, unit=unit))
    async with launcher(folder, install, unit) as systemd:
        handles = await systemd.found()
        print("found", len(handles))
        for handle in handles:
            await handle.stop(5)
    print("done")


async def run_transient(folder: str, install: str) -> None:
    async with launcher(folder, install) as systemd:
        await systemd.start(TAG, Command(SCRIPT))


async def run_user(folder: str, install: str) -> None:
    os.environ["XDG_RUNTIME_DIR"] = "/run/user/5"
    async with launcher("/run/user/5", install, user=True) as systemd:
        handle = await systemd.start(TAG, Command(SCRIPT))
        await ready(handle)
        print(await handle.stop(5))
    print("done")
