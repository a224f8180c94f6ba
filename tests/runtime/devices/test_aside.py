from __future__ import annotations

import asyncio
import os
import stat
import threading

import pytest

from roundhouse.runtime.devices import aside
from roundhouse.runtime.devices.aside import Program, Thread
from roundhouse.runtime.devices.gpu import Unreadable


def drivers_end():
    """Waits for the threads that were left alone."""
    for thread in threading.enumerate():
        if thread.name == "driver":
            thread.join()


async def test_a_call_gives_what_it_returns_or_raises():
    thread = Thread()
    assert await thread.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda: 1 // 0)
    assert await thread.call(threading.current_thread) is not threading.current_thread()


async def test_a_call_that_hangs_is_left_alone_and_no_second_one_joins_it():
    thread, gate, calls = Thread(0.05), threading.Event(), []

    def hang():
        calls.append(1)
        gate.wait()

    with pytest.raises(Unreadable, match="no answer within"):
        await thread.call(hang)
    with pytest.raises(Unreadable, match="not returned yet"):
        await thread.call(hang)
    assert calls == [1]
    gate.set()
    drivers_end()
    assert await thread.call(lambda: "again") == "again"


def test_a_call_that_returns_after_the_loop_has_closed_harms_nobody(recwarn):
    gate, thread = threading.Event(), Thread(0.01)

    async def ask():
        with pytest.raises(Unreadable):
            await thread.call(gate.wait)

    asyncio.run(ask())
    gate.set()
    drivers_end()
    assert not recwarn.list


@pytest.fixture
def script(tmp_path):
    """Makes a program and gives the folder that it lies in."""

    def made(text, name="smi"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(tmp_path)

    return made


async def test_a_programs_output_whatever_its_exit_code(script, monkeypatch):
    folder = script('echo "$1 $2"; echo warning >&2; exit 2')
    assert await Program("smi", [folder]).run("--a", "b c") == "--a b c\n"
    monkeypatch.setenv("PATH", folder)
    assert await Program("smi").run() == " \n"


async def test_a_program_that_is_not_there_or_is_none(script, tmp_path):
    with pytest.raises(Unreadable, match="is not here"):
        await Program("no-such-smi", [str(tmp_path)]).run()
    (tmp_path / "empty").touch()
    with pytest.raises(Unreadable, match="can't be run"):
        await Program("empty", [str(tmp_path)]).run()


async def test_a_program_that_hangs_is_killed(script, tmp_path):
    folder = script(f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    program = Program("smi", [folder], 0.3)
    with pytest.raises(Unreadable, match="no answer within"):
        await program.run()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    script("echo well")
    with pytest.raises(Unreadable, match="a moment ago"):
        await program.run()
    program._not_before = 0.0
    assert await program.run() == "well\n"


async def test_one_that_can_not_be_killed_is_left_alone(script, monkeypatch):
    """As one that waits in the driver for ever."""
    monkeypatch.setattr(aside, "KILLED_LIMIT", 0.01)
    program = Program("smi", [script("exec sleep 1000")], 0.05)
    kills = []

    def survive(process):
        kills.append(process)

    monkeypatch.setattr(asyncio.subprocess.Process, "kill", survive)
    with pytest.raises(Unreadable, match="no answer"):
        await program.run()
    with pytest.raises(Unreadable, match="has not ended yet"):
        await program.run()
    monkeypatch.undo()
    [process] = kills
    process.kill()
    await process.wait()
