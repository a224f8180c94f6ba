"""One run of a unit: the traps of a manager that tells by signals, forgets what is down, and restarts on its own."""

from __future__ import annotations

import asyncio
import os

import pytest

from roundhouse.launchers.systemd.bus import Bus, bus_address
from roundhouse.ports import Command, Exit, Tag
from tests.launchers.systemd.conftest import pid_of, until
from tests.support.processes import Watched

pytestmark = pytest.mark.inside_lab

TAG = Tag("model", "settings", 4711, 1234.5)


async def test_trap_2_a_restart_that_passes_through_inactive_is_no_end_that_stays(box):
    unit = box.unit("[Service]\nExecStart=/bin/sh -c 'echo ready; exec sleep 1000'\n")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command((), unit=unit))
        await until(handle, "ready")
        box.lab.systemctl("restart", unit)
        second = Watched(int(box.show(unit, "MainPID")))
        assert (await handle.wait_exit()).by_us is False
        assert second.gone()  # nothing runs there that nobody watches
        assert box.show(unit, "ActiveState") == "inactive"


async def test_trap_3_a_stop_that_needed_sigkill_is_told_and_leaves_no_failed_unit(box, engine):
    unit = box.unit("[Service]\nExecStart=/bin/false\n")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("stubborn"), unit=unit))
        await until(handle, "ready")
        assert await handle.stop(0.1) == Exit(-9, by_us=True)
        assert box.show(unit, "ActiveState") == "inactive"


@pytest.mark.parametrize("adopted", [False, True])
async def test_trap_4_how_a_unit_ended_is_known_though_systemd_forgets_it(box, engine, adopted):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine()))
        await until(handle, "ready")
        if not adopted:
            os.kill(handle.pid, 9)
            assert await handle.wait_exit() == Exit(-9)
    if adopted:
        async with box.launcher() as launcher:
            (handle,) = await launcher.found()
            await until(handle, "ready")
            os.kill(handle.pid, 9)
            assert await handle.wait_exit() == Exit(-9)
    assert box.left() == []


@pytest.mark.parametrize("script", [True, False])
async def test_trap_5_a_unit_may_be_started_often(box, script):
    unit = box.unit("[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n[Service]\nExecStart=/bin/sleep 1000\n")
    keeper = await Bus.connect(bus_address({}, user=False))
    await keeper.call("LoadUnit", "s", unit)
    await keeper.call("RefUnit", "s", unit)  # what somebody refers to keeps its counter
    async with box.launcher() as launcher:
        for _ in range(5):
            handle = await launcher.start(TAG, Command(("sleep", "1000") if script else (), unit=unit))
            await handle.stop(5)
    await keeper.close()


async def test_a_unit_that_stays_active_without_its_engine_has_ended(box):
    unit = box.unit("[Service]\nExecStart=/bin/sh -c 'sleep 0.2'\nRemainAfterExit=yes\n")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command((), unit=unit))
        assert await handle.wait_exit() == Exit(0)
        assert box.show(unit, "ActiveState") == "inactive"


async def test_what_a_unit_with_kill_mode_process_leaves_is_ended(box, engine):
    words = " ".join(engine("daemon"))
    unit = box.unit(f"[Service]\nKillMode=process\nExecStart={words}\n")
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command((), unit=unit))
        daemon = Watched(pid_of(await until(handle, "ready"), "daemon"))
        assert await handle.stop(5) == Exit(0, by_us=True)
        assert daemon.gone()


async def test_a_second_stop_may_be_in_more_of_a_hurry(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine("stubborn")))
        await until(handle, "ready")
        loop = asyncio.get_running_loop()
        patient = loop.create_task(handle.stop(1000))
        assert await handle.stop(0.1) == await patient == Exit(-9, by_us=True)
        assert await handle.stop(1) == handle.exit


async def test_what_was_let_go_of_can_not_be_stopped(box, engine):
    async with box.launcher() as launcher:
        handle = await launcher.start(TAG, Command(engine()))
        await handle.detach()
        await handle.detach()
        with pytest.raises(RuntimeError, match="detached"):
            await handle.stop(1)
