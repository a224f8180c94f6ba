"""A run that the kernel ended for want of memory (spec D10). The lab's systemd has no memory controller to show it with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roundhouse.launchers.systemd.handle import UnitHandle
from roundhouse.launchers.systemd.state import read_state
from roundhouse.ports import Exit, Tag
from tests.launchers.systemd.test_state import PROPERTIES


class NoJournal:
    def __init__(self) -> None:
        self.said: list[str] = []

    def add(self, line: str) -> None:
        self.said.append(line)

    async def drain(self) -> None:
        pass


@pytest.mark.parametrize(("result", "starved"), [("oom-kill", True), ("signal", False)])
async def test_d10_systemd_knows_that_memory_ran_out(result, starved):
    async def connect():
        raise AssertionError

    running = read_state(PROPERTIES)
    handle = UnitHandle(Tag("m", "s", 1, 0.0), running, connect, lambda _handle: None)
    handle._journal = journal = NoJournal()  # type: ignore[assignment]  # nothing is read
    handle._note(replace(running, active="failed", sub="failed", pid=0, code=2, status=9, result=result))
    await handle._finish()
    assert await handle.wait_exit() == Exit(-9, starved=starved)
    assert bool(journal.said) is starved
